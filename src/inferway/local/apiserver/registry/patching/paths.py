"""Paths into objects, and their form in managedFields (``fieldsType: FieldsV1``).

A path is a tuple of steps; a step is a field (``f:name``), an item by its key fields
(``k:{"name":"x"}``) or an item of a set by its value (``v:"x"``), in FieldsV1's own spelling, so
that a step is hashable and needs no conversion.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

Path = tuple[str, ...]
Paths = frozenset[Path]

EMPTY: Paths = frozenset()


def field_step(name: str) -> str:
    return f"f:{name}"


def key_step(keys: Mapping[str, Any]) -> str:
    return "k:" + json.dumps(dict(sorted(keys.items())), separators=(",", ":"), ensure_ascii=False)


def value_step(value: Any) -> str:
    return "v:" + json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False)


def to_fields_v1(paths: Iterable[Path]) -> dict[str, Any]:
    """The nested form; ``.`` marks a path that has members of its own set below it."""
    root: dict[str, Any] = {}
    for path in sorted(paths):
        here = root
        for step in path:
            here = here.setdefault(step, {})
        here["."] = {}
    return _trimmed(root)


def _trimmed(tree: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for step, below in tree.items():
        if step == ".":
            result["."] = {}
        elif set(below) == {"."}:
            result[step] = {}
        else:
            result[step] = _trimmed(below)
    return result


def from_fields_v1(tree: Mapping[str, Any]) -> Paths:
    """The set of paths of the nested form."""
    found: set[Path] = set()

    def walk(here: Mapping[str, Any], path: Path) -> None:
        for step, below in here.items():
            if step == ".":
                found.add(path)
            elif not below:
                found.add((*path, step))
            else:
                walk(below, (*path, step))

    walk(tree, ())
    return frozenset(found - {()})


def text(path: Path) -> str:
    """A path as conflicts name it: ``.spec.containers[name="x"].image``."""
    parts = []
    for step in path:
        kind, _, rest = step.partition(":")
        if kind == "f":
            parts.append(f".{rest}")
        elif kind == "k":
            keys = json.loads(rest)
            inner = ",".join(f"{name}={json.dumps(value)}" for name, value in keys.items())
            parts.append(f"[{inner}]")
        else:
            parts.append(f"[={rest}]")
    return "".join(parts)
