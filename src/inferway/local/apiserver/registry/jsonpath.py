"""The subset of JSONPath that printer columns use: fields, indexes, ``[*]`` and filters.

Raises ValueError for what it does not know.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

# One step: from the values so far to the next ones.
_Step = Callable[[list[Any]], list[Any]]
_FIELD = re.compile(r"\.((?:[A-Za-z0-9_-]|\\.)+)")
_QUOTED = re.compile(r"\[\s*(['\"])((?:(?!\1)[^\\]|\\.)*)\1\s*\]")
_INDEX = re.compile(r"\[\s*(-?\d+|\*)\s*\]")
_FILTER = re.compile(
    r"\[\s*\?\(\s*@((?:\.[A-Za-z0-9_-]+)+)\s*(==|!=)\s*"
    r"(?:(['\"])((?:(?!\3).)*)\3|(-?[\w.]+))\s*\)\s*\]"
)
_ESCAPE = re.compile(r"\\(.)")


def compile_path(text: str) -> Callable[[Any], list[Any]]:
    """A function that gives the values at a path such as ``.status.conditions[0].type``."""
    steps: list[_Step] = []
    position = 0
    while position < len(text):
        step, position = _step(text, position)
        steps.append(step)

    def find(value: Any) -> list[Any]:
        values = [value]
        for step in steps:
            values = step(values)
        return values

    return find


def _step(text: str, position: int) -> tuple[_Step, int]:
    """The step that begins at a position, and where the next one begins."""
    if match := _FIELD.match(text, position):
        return _field(_ESCAPE.sub(r"\1", match[1])), match.end()
    if match := _QUOTED.match(text, position):
        return _field(_ESCAPE.sub(r"\1", match[2])), match.end()
    if match := _INDEX.match(text, position):
        return _index(match[1]), match.end()
    if match := _FILTER.match(text, position):
        wanted = match[4] if match[3] else match[5]
        return _filter(match[1], match[2], wanted), match.end()
    raise ValueError(f"unknown JSONPath at {text[position:]!r}")


def _field(name: str) -> _Step:
    return lambda values: [v[name] for v in values if isinstance(v, dict) and name in v]


def _index(text: str) -> _Step:
    if text == "*":
        return lambda values: [
            item
            for value in values
            if isinstance(value, list | dict)
            for item in (value.values() if isinstance(value, dict) else value)
        ]
    number = int(text)
    return lambda values: [
        value[number]
        for value in values
        if isinstance(value, list) and -len(value) <= number < len(value)
    ]


def _filter(path: str, operator: str, wanted: str) -> _Step:
    inner = compile_path(path)

    def holds(item: Any) -> bool:
        found = inner(item)
        if not found:
            return False
        value = found[0]
        text = str(value).lower() if isinstance(value, bool) else str(value)
        return (text == wanted) is (operator == "==")

    return lambda values: [
        item for value in values if isinstance(value, list) for item in value if holds(item)
    ]
