"""What is wrong with a request body, told as vLLM's API tells it.

vLLM reads bodies with pydantic's lenient rules: numbers may be texts, whole floats are integers. A
check takes a value and its place and returns the value as the API would take it, and what is wrong.
The quick decoder of requests comes here only for bodies that it cannot take. Knows JSON only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

# vLLM's own bounds of what it says about a body.
FINDINGS_MAX = 10
INPUT_CHARACTERS_MAX = 200

Place = tuple[str, ...]
_TRUE = frozenset({"true", "t", "yes", "y", "on", "1"})
_FALSE = frozenset({"false", "f", "no", "n", "off", "0"})


class Finding(msgspec.Struct, frozen=True):
    """One thing that is wrong at one place."""

    kind: str
    place: Place
    message: str
    input: Any
    context: dict[str, Any] | None = None

    def text(self) -> str:
        """The finding as vLLM prints it."""
        told: dict[str, Any] = {
            "type": self.kind,
            "loc": ".".join(self.place),
            "msg": self.message,
            "input": summary(self.input),
        }
        if self.context is not None:
            told["ctx"] = self.context
        return str(told)


Checked = tuple[Any, list[Finding]]
Check = Callable[[Any, Place], Checked]


def summary(value: Any) -> str:
    """A value short enough to be told back."""
    if isinstance(value, list | dict):
        return f"<{type(value).__name__} of {len(value)} items>"
    text = str(value)
    if len(text) > INPUT_CHARACTERS_MAX:
        return text[:INPUT_CHARACTERS_MAX] + "...[truncated]"
    return text


def report(findings: list[Finding]) -> str:
    """The message about all findings."""
    word = "error" if len(findings) == 1 else "errors"
    lines = [f"{len(findings)} validation {word}:"]
    lines += [f"  {finding.text()}" for finding in findings[:FINDINGS_MAX]]
    if len(findings) > FINDINGS_MAX:
        lines.append(f"  ...and {len(findings) - FINDINGS_MAX} more {word}")
    return "\n".join(lines)


def anything(value: Any, at: Place) -> Checked:
    return value, []


def integer(value: Any, at: Place) -> Checked:
    """Whole numbers, also as texts and floats."""
    if isinstance(value, bool | int):
        return int(value), []
    if isinstance(value, float):
        if value.is_integer():
            return int(value), []
        words = "Input should be a valid integer, got a number with a fractional part"
        return value, [Finding("int_from_float", at, words, value)]
    if isinstance(value, str):
        try:
            return int(value), []
        except ValueError:
            words = "Input should be a valid integer, unable to parse string as an integer"
            return value, [Finding("int_parsing", at, words, value)]
    return value, [Finding("int_type", at, "Input should be a valid integer", value)]


def number(value: Any, at: Place) -> Checked:
    """Numbers, also as texts."""
    if isinstance(value, bool | int | float):
        return float(value), []
    if isinstance(value, str):
        try:
            return float(value), []
        except ValueError:
            words = "Input should be a valid number, unable to parse string as a number"
            return value, [Finding("float_parsing", at, words, value)]
    return value, [Finding("float_type", at, "Input should be a valid number", value)]


def boolean(value: Any, at: Place) -> Checked:
    """Truth values, also as the usual words and as 0 and 1."""
    if isinstance(value, bool):
        return value, []
    if isinstance(value, int | float | str):
        word = str(int(value)) if isinstance(value, float) else str(value).lower()
        if word in _TRUE or word in _FALSE:
            return word in _TRUE, []
        words = "Input should be a valid boolean, unable to interpret input"
        return value, [Finding("bool_parsing", at, words, value)]
    return value, [Finding("bool_type", at, "Input should be a valid boolean", value)]


def string(value: Any, at: Place) -> Checked:
    if isinstance(value, str):
        return value, []
    return value, [Finding("string_type", at, "Input should be a valid string", value)]


def mapping(value: Any, at: Place) -> Checked:
    if isinstance(value, dict):
        return value, []
    return value, [Finding("dict_type", at, "Input should be a valid dictionary", value)]


def optional(inner: Check) -> Check:
    """The inner check, or null."""

    def check(value: Any, at: Place) -> Checked:
        return (None, []) if value is None else inner(value, at)

    return check


def list_of(inner: Check) -> Check:
    """Lists whose items pass the inner check."""

    def check(value: Any, at: Place) -> Checked:
        if not isinstance(value, list):
            return value, [Finding("list_type", at, "Input should be a valid list", value)]
        taken: list[Any] = []
        findings: list[Finding] = []
        for index, item in enumerate(value):
            found, wrong = inner(item, (*at, str(index)))
            taken.append(found)
            findings += wrong
        return taken, findings

    return check


def at_least(inner: Check, bound: int) -> Check:
    """Numbers that are not below ``bound``."""

    def check(value: Any, at: Place) -> Checked:
        taken, findings = inner(value, at)
        if findings or taken >= bound:
            return taken, findings
        words = f"Input should be greater than or equal to {bound}"
        return taken, [Finding("greater_than_equal", at, words, value, {"ge": bound})]

    return check


def one_of(*names: str) -> Check:
    """One of some words."""
    quoted = [repr(name) for name in names]
    wanted = " or ".join(part for part in (", ".join(quoted[:-1]), quoted[-1]) if part)

    def check(value: Any, at: Place) -> Checked:
        if value in names:
            return value, []
        words = f"Input should be {wanted}"
        return value, [Finding("literal_error", at, words, value, {"expected": wanted})]

    return check


def any_of(*inner: Check) -> Check:
    """What one of the checks takes; else everything that all of them say."""

    def check(value: Any, at: Place) -> Checked:
        findings: list[Finding] = []
        for one in inner:
            taken, wrong = one(value, at)
            if not wrong:
                return taken, []
            findings += wrong
        return value, findings

    return check


def fields(table: Mapping[str, Check], required: tuple[str, ...] = ()) -> Check:
    """Objects with these fields, in the order of the table; others pass unseen."""

    def check(value: Any, at: Place) -> Checked:
        if not isinstance(value, dict):
            words = "Input should be a valid dictionary or object to extract fields from"
            return value, [Finding("model_attributes_type", at, words, value)]
        taken = dict(value)
        findings: list[Finding] = []
        for name, inner in table.items():
            if name in value:
                taken[name], wrong = inner(value[name], (*at, name))
                findings += wrong
            elif name in required:
                findings.append(Finding("missing", (*at, name), "Field required", value))
        return taken, findings

    return check
