"""``inferway images``: the image table of a stack, and what it makes of one image.

Reads the files anew, as the node does when they change; needs no running stack.
"""

from __future__ import annotations

import asyncio
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import yaml

from inferway.base.errors import UsageError
from inferway.cli.state import open_folder
from inferway.local.node import containing, images
from inferway.local.node.imagekeeper import (
    ImageKeeper,
    ImageSettings,
    read_settings,
    user_file,
)
from inferway.local.node.launching import Machine
from inferway.local.node.parts import finder

PATTERN_WIDTH_MAX = 44
RUNS_WIDTH_MAX = 60


@dataclass(frozen=True, slots=True)
class Question:
    """What the command line asks for."""

    state: str | None
    file: str | None
    image: str | None
    args: tuple[str, ...]


def run(question: Question, output: str, env: Mapping[str, str]) -> int:
    """Prints the answer; 1 if an image has no program or a file is wrong."""
    if question.image == "":
        raise UsageError(
            "INFERWAY0116", "the name of the image is empty", fix="inferway images NAME:TAG"
        )
    folder = open_folder(question.state, env, create=False)
    settings = _settings(folder.node, question, env)
    keeper = ImageKeeper(settings.files(folder.node), settings.engine, settings.runtime)
    programs = images.Programs(
        finder(settings.python),
        settings.python,
        settings.vllm_programs,
        settings.simulator_programs,
    )
    table = keeper.table
    if question.image is None:
        value = table_value(table, settings)
        text = table_text(table, programs)
    else:
        value = answer_value(table, question.image, list(question.args), programs)
        text = answer_text(value)
    _print(value, text, output)
    for problem in table.problems:
        print(f"inferway: {problem} [INFERWAY0202]", file=sys.stderr)
    return 1 if table.problems or value.get("problem") else 0


def require_runtime(runtime: images.Runtime, env: Mapping[str, str]) -> None:
    """Raises UsageError for a container engine that is missing or does not work."""
    programs = images.Programs(finder(sys.executable), sys.executable)
    asyncio.run(containing.require_engine(runtime, Machine(programs, env)))


def _settings(node: Path, question: Question, env: Mapping[str, str]) -> ImageSettings:
    """Those of the stack's last start, else those that a start would use."""
    default = ImageSettings(user_images=str(user_file(env)), python=sys.executable)
    found = read_settings(node) or default
    if question.file is not None:
        return msgspec.structs.replace(found, images=str(Path(question.file).absolute()))
    return found


def _print(value: dict[str, Any], text: str, output: str) -> None:
    if output == "json":
        text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n"
    elif output == "yaml":
        text = yaml.safe_dump(value, sort_keys=False)
    sys.stdout.write(text)


def table_value(table: images.ImageTable, settings: ImageSettings) -> dict[str, Any]:
    """The table for programs."""
    return {
        "engine": table.engine,
        "runtime": table.runtime,
        "addTo": table.user_file,
        "userImages": settings.user_images,
        "problems": list(table.problems),
        "entries": [
            {**msgspec.to_builtins(entry.mapping), "source": entry.source, "line": entry.line}
            for entry in table.entries
        ],
    }


def table_text(table: images.ImageTable, programs: images.Programs) -> str:
    """A line for each pattern; what belongs to the entry stands beside the first one."""
    rows = [("PATTERN", "RUNS", "NETWORK", "SOURCE")]
    for entry in table.entries:
        about = (_runs(table, entry.mapping, programs), entry.mapping.network, _source(entry))
        for index, pattern in enumerate(entry.mapping.match):
            rows.append((pattern, *(about if index == 0 else ("", "", ""))))
    first = min(max(len(row[0]) for row in rows), PATTERN_WIDTH_MAX)
    second = min(max(len(row[1]) for row in rows), RUNS_WIDTH_MAX)
    lines = [f"{a:{first}}  {b:{second}}  {c:7}  {d}".rstrip() for a, b, c, d in rows]
    return "\n".join(lines) + f"\n\nYour own entries: {table.user_file}\n"


def _runs(table: images.ImageTable, mapping: images.Mapping, programs: images.Programs) -> str:
    if mapping.engine not in (None, table.engine):
        return f"only with engine {mapping.engine}"
    runtime = images.runtime_of(table, mapping)
    if runtime != "process":
        return f"the image itself ({runtime})"
    if not mapping.run:
        default = f", or {shlex.join(mapping.default)}" if mapping.default else ""
        return f"the container's command{default}"
    program = images.resolve(mapping, [], [], programs)
    if isinstance(program, images.ImageProblem):
        return f"{' '.join(mapping.run)} (not installed)"
    return shlex.join(program.argv)


def _source(entry: images.Entry) -> str:
    return entry.source if entry.source == images.BUILT_IN else f"{entry.source}:{entry.line}"


def answer_value(
    table: images.ImageTable, image: str, args: list[str], programs: images.Programs
) -> dict[str, Any]:
    """What becomes of a container with this image, for programs."""
    mapping = images.find_mapping(table, image, pull_never=False)
    if isinstance(mapping, images.ImageProblem):
        return {"image": image, "problem": {"reason": mapping.reason, "message": mapping.message}}
    found = images.matching_entry(table, image)
    runtime = images.runtime_of(table, mapping)
    value: dict[str, Any] = {
        "image": image,
        "pattern": found[1] if found else "",
        "source": _source(found[0]) if found else f"--runtime {runtime}",
        "runtime": runtime,
        "argv": [],
        "network": mapping.network,
        "env": dict(mapping.env),
    }
    if runtime != "process":
        engine = containing.engine_of(runtime, Machine(programs, {}))
        if isinstance(engine, images.ImageProblem):
            return {**value, "problem": {"reason": engine.reason, "message": engine.message}}
        return {**value, "argv": [engine.program, "run", image, *args]}
    if folders := programs.folders(mapping):
        value["env"]["PATH"] = ":".join([*folders, "$PATH"])
    program = images.resolve(mapping, [], args, programs)
    if isinstance(program, images.ImageProblem):
        return {**value, "problem": {"reason": program.reason, "message": program.message}}
    if not program.argv:
        text = "the image stands for nothing: give the container a command or args"
        return {**value, "problem": {"reason": "CreateContainerError", "message": text}}
    return {**value, "argv": program.argv}


def answer_text(value: dict[str, Any]) -> str:
    """The same for people."""
    lines = [("image", value["image"])]
    if "pattern" in value:
        lines += [
            ("pattern", value["pattern"] or "none is needed"),
            ("source", value["source"]),
            ("runs", shlex.join(value["argv"]) or "nothing"),
            ("network", value["network"]),
        ]
        lines += [("env", f"{name}={text}") for name, text in value["env"].items()]
    if "problem" in value:
        lines.append(("problem", f"{value['problem']['reason']}: {value['problem']['message']}"))
    return "".join(f"{name:8} {text}\n" for name, text in lines)
