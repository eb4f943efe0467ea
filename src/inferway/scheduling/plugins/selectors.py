"""Kubernetes label selectors in their text form: ``a=b,c!=d,e in (f,g),h notin (i),j,!k``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

_SET = re.compile(r"^([^\s=!,()]+)\s+(in|notin)\s+\(([^()]*)\)$")
_EQUAL = re.compile(r"^([^\s=!,()]+)\s*(==|=|!=)\s*([^\s=!,()]*)$")
_EXISTS = re.compile(r"^(!?)\s*([^\s=!,()]+)$")
# Commas outside of brackets.
_COMMA = re.compile(r",(?![^(]*\))")


class Requirement(NamedTuple):
    """One part. No values: the label exists, or does not."""

    key: str
    positive: bool
    values: frozenset[str] | None

    def fits(self, labels: Mapping[str, str]) -> bool:
        """Whether the labels meet it."""
        value = labels.get(self.key)
        if self.values is None:
            return (value is not None) is self.positive
        return (value in self.values) is self.positive


def parse(text: str) -> list[Requirement]:
    """All of the parts must be met. Raises ValueError."""
    return [_part(part.strip()) for part in _COMMA.split(text) if part.strip()]


def _part(text: str) -> Requirement:
    if found := _SET.match(text):
        values = frozenset(value.strip() for value in found[3].split(","))
        return Requirement(found[1], found[2] == "in", values)
    if found := _EQUAL.match(text):
        return Requirement(found[1], found[2] != "!=", frozenset({found[3]}))
    if found := _EXISTS.match(text):
        return Requirement(found[2], not found[1], None)
    raise ValueError(f"{text!r} is no part of a label selector")
