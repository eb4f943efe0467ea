"""Words and columns that several printers share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from inferway.local.apiserver.registry.kinds import Cells, Column, Object, Printer
from inferway.local.apiserver.registry.scaling import selector_text

NONE = "<none>"
UNKNOWN = "<unknown>"


def printer(text: str, cells: Callable[[Object, float], Cells]) -> Printer:
    """A printer from its columns in words: ``Name Ready:integer Age | IP Node`` (wide after ``|``).

    ``_`` stands for a blank in a column's name.
    """
    narrow, _, wide = text.partition("|")
    columns = [_column(word, 0) for word in narrow.split()]
    columns += [_column(word, 1) for word in wide.split()]
    return Printer(tuple(columns), cells)


def _column(word: str, priority: int) -> Column:
    name, _, kind = word.partition(":")
    name = name.replace("_", " ")
    form = "name" if name == "Name" else ""
    return Column(name, kind or "string", form, f"{name} of the object.", priority)


def name_of(obj: Object) -> str:
    return str(obj["metadata"]["name"])


def part(obj: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    """A map inside an object; empty if it is not there."""
    value: Any = obj
    for step in path:
        value = value.get(step) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def items(value: Any) -> list[Any]:
    """A list's maps; empty for anything else."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def joined(values: Iterable[Any], empty: str = NONE) -> str:
    return ",".join(str(value) for value in values) or empty


def selector(value: Any) -> str:
    return selector_text(value) or NONE


def containers(obj: Object) -> tuple[str, str]:
    """Names and images of a Pod template's containers."""
    listed = items(part(obj, "spec", "template", "spec").get("containers"))
    names = joined((container.get("name") for container in listed), "")
    return names, joined((container.get("image", "") for container in listed), "")
