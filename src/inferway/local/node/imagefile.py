"""Reads files of image mappings; what is wrong is told with its line and its field.

Pure. Raises FileError; a file is taken as a whole or not at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files

import msgspec
import yaml

from inferway.local.node.images import (
    BUILT_IN,
    ENGINE_PROGRAMS,
    SIMULATOR_PROGRAMS,
    Entry,
    Mapping,
)

# A table has some dozen lines; a file that is larger is not one.
FILE_BYTES_MAX = 1024 * 1024
_PLACE = re.compile(r"^(?P<what>.*?)(?: - at `\$(?P<path>.*)`)?$", re.DOTALL)
_STEP = re.compile(r"\.([^.\[]+)|\[([0-9]+)\]")
_UNKNOWN_FIELD = re.compile(r"unknown field `([^`]*)`")
_PLACEHOLDER = re.compile(r"\{[a-z_]+(?::[^{}]*)?\}")
_BIN = re.compile(r"\{bin:[A-Za-z0-9._+-]+\}")


class FileError(Exception):
    """``line`` counts from 1; ``field`` is a path such as ``images[0].run``, or empty."""

    def __init__(self, what: str, line: int, field: str = "") -> None:
        self.what = what
        self.line = line
        self.field = field
        super().__init__(f"line {line}: {field}: {what}" if field else f"line {line}: {what}")


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    images: tuple[Mapping, ...] = ()


def built_in_entries() -> tuple[Entry, ...]:
    """The table that comes with Inferway."""
    text = files("inferway.local.node").joinpath("images.yaml").read_text()
    return read_entries(text, BUILT_IN)


def read_entries(text: str, source: str) -> tuple[Entry, ...]:
    """The entries of a file. Raises FileError."""
    if len(text.encode()) > FILE_BYTES_MAX:
        raise FileError(f"the file is larger than {FILE_BYTES_MAX} bytes", 1)
    try:
        _refuse_aliases(text)
        root = yaml.compose(text, yaml.SafeLoader)
        if root is None:
            return ()
        _refuse_duplicates(root, "")
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        what, line = " ".join(str(error).split()), 1
        mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
        if isinstance(error, yaml.MarkedYAMLError) and mark is not None:
            what, line = error.problem or what, mark.line + 1
        raise FileError(f"this is not YAML: {what}", line) from None
    except (RecursionError, ValueError) as error:
        raise FileError(f"this is not YAML: {error}", 1) from None
    try:
        mappings = msgspec.convert(value, _File).images
    except msgspec.ValidationError as error:
        raise _located(str(error), root) from None
    entries = []
    for index, mapping in enumerate(mappings):
        for field, what in _mistakes(mapping):
            path = f".images[{index}]" + (f".{field}" if field else "")
            raise FileError(what, _line(root, path), path[1:])
        entries.append(Entry(mapping, source, _line(root, f".images[{index}]")))
    return tuple(entries)


def _refuse_aliases(text: str) -> None:
    """A short text with aliases can stand for a huge value."""
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            mark = event.start_mark
            line = mark.line + 1 if mark is not None else 1
            raise FileError("aliases (*name) are not taken here", line)


def _refuse_duplicates(node: yaml.Node, path: str) -> None:
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _refuse_duplicates(item, f"{path}[{index}]")
    elif isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            here = f"{path}.{name}"
            if name in seen:
                raise FileError("the key is given twice", key.start_mark.line + 1, here[1:])
            seen.add(name)
            _refuse_duplicates(value, here)


def _located(text: str, root: yaml.Node) -> FileError:
    """The decoder's error with the line of what it is about."""
    found = _PLACE.match(text)
    assert found is not None
    path = (found["path"] or "").partition("[...]")[0]
    what = found["what"]
    unknown = _UNKNOWN_FIELD.search(what)
    if unknown:
        known = ", ".join(Mapping.__struct_fields__ if path else _File.__struct_fields__)
        return FileError(
            f"unknown field {unknown[1]}; known are {known}",
            _line(root, f"{path}.{unknown[1]}"),
            f"{path}.{unknown[1]}"[1:],
        )
    what = what.replace("`", "")
    return FileError(what[:1].lower() + what[1:], _line(root, path), path[1:])


def _line(root: yaml.Node, path: str) -> int:
    """The line of a key or an item; of the nearest thing around it where it is not there."""
    node, line = root, root.start_mark.line
    for name, index in _STEP.findall(path):
        if name and isinstance(node, yaml.MappingNode):
            pair = next((pair for pair in node.value if pair[0].value == name), None)
            if pair is None:
                break
            line, node = pair[0].start_mark.line, pair[1]
        elif index and isinstance(node, yaml.SequenceNode) and int(index) < len(node.value):
            node = node.value[int(index)]
            line = node.start_mark.line
        else:
            break
    return int(line) + 1


def _mistakes(mapping: Mapping) -> Iterator[tuple[str, str]]:
    """What the decoder can not see: field and text."""
    if not mapping.match:
        yield "match", "give at least one pattern of image names"
    for index, pattern in enumerate(mapping.match):
        if not pattern or pattern != pattern.strip():
            yield f"match[{index}]", "a pattern is a name without spaces around it"
    for index, word in enumerate(mapping.run):
        if not word and index == 0:
            yield "run[0]", "the program has no name"
        unknown = [
            found
            for found in _PLACEHOLDER.findall(word)
            if found not in ("{python}", ENGINE_PROGRAMS, SIMULATOR_PROGRAMS)
            and not _BIN.fullmatch(found)
        ]
        if unknown:
            known = "{python}, {bin:NAME}, {vllm} and {simulator}"
            yield f"run[{index}]", f"{unknown[0]} is not known; known are {known}"
    if any(not beginning for beginning in mapping.strip):
        yield "strip", "an empty beginning would match every command"
    if mapping.runtime in ("podman", "docker"):
        for field in ("run", "strip", "default", "path"):
            if getattr(mapping, field):
                yield field, f"runtime {mapping.runtime} runs the image itself; leave {field} out"
