"""Label and field selectors in Kubernetes' text form: parsing and matching.

Raises StatusError 400 for what can not be parsed or is not supported for a kind.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from inferway.local.apiserver.registry.errors import bad_request
from inferway.local.apiserver.registry.kinds import Kind
from inferway.local.apiserver.storage.values import Index

_SET = re.compile(r"^(\S+)\s+(in|notin)\s*\(([^()]*)\)$")
_EQUALITY = re.compile(r"^([^=!\s]+)\s*(==|=|!=)\s*([^=!\s]*)$")
_COMPARISON = re.compile(r"^([^<>\s]+)\s*([<>])\s*(\d+)$")
_EXISTS = re.compile(r"^(!?)\s*([A-Za-z0-9][-A-Za-z0-9_./]*)$")
_VALUE = re.compile(r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$")
_UNIVERSAL_FIELDS = frozenset({"metadata.name", "metadata.namespace"})


@dataclass(frozen=True, slots=True)
class Requirement:
    """One term: ``key operator values``."""

    key: str
    operator: str
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        if self.operator == "in":
            return value is not None and value in self.values
        if self.operator == "notin":
            return value is None or value not in self.values
        if self.operator == "exists":
            return value is not None
        if self.operator == "absent":
            return value is None
        if value is None or not value.isdigit():
            return False
        (limit,) = self.values
        return int(value) > int(limit) if self.operator == ">" else int(value) < int(limit)


@dataclass(frozen=True, slots=True)
class Selector:
    """Terms on labels and on fields; all of them have to hold."""

    labels: tuple[Requirement, ...] = ()
    fields: tuple[Requirement, ...] = ()

    @property
    def everything(self) -> bool:
        return not self.labels and not self.fields

    def matches(self, index: Index) -> bool:
        return all(term.matches(index.labels) for term in self.labels) and all(
            (index.fields.get(term.key, "") in term.values) is (term.operator == "in")
            for term in self.fields
        )


def parse(kind: Kind, labels: str, fields: str) -> Selector:
    """The selector of a request."""
    return Selector(parse_labels(labels), _parse_fields(kind, fields))


def parse_labels(text: str) -> tuple[Requirement, ...]:
    """Terms of a label selector such as ``a=b,c in (d,e),!f``."""
    return tuple(_label_term(part.strip()) for part in _split(text) if part.strip())


def _split(text: str) -> list[str]:
    """Parts at the commas outside of parentheses."""
    parts = [""]
    depth = 0
    for char in text:
        depth += (char == "(") - (char == ")")
        if char == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return parts


def _label_term(text: str) -> Requirement:
    if match := _SET.match(text):
        values = frozenset(value.strip() for value in match[3].split(","))
        return _checked(Requirement(match[1], match[2], values), text)
    if match := _EQUALITY.match(text):
        operator = "notin" if match[2] == "!=" else "in"
        return _checked(Requirement(match[1], operator, frozenset({match[3]})), text)
    if match := _COMPARISON.match(text):
        return Requirement(match[1], match[2], frozenset({match[3]}))
    if match := _EXISTS.match(text):
        return Requirement(match[2], "absent" if match[1] else "exists")
    raise bad_request(f"unable to parse requirement: found '{text}', expected: identifier")


def _checked(term: Requirement, text: str) -> Requirement:
    for value in sorted(term.values):
        if not _VALUE.match(value):
            raise bad_request(
                f"unable to parse requirement: values[0][{term.key}]: Invalid value: "
                f'"{value}": a valid label must be an empty string or consist of alphanumeric '
                "characters, '-', '_' or '.', and must start and end with an alphanumeric character"
            )
    return term


def _parse_fields(kind: Kind, text: str) -> tuple[Requirement, ...]:
    terms = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = _EQUALITY.match(part)
        if match is None:
            raise bad_request(f"invalid selector: '{part}'; can't understand '{part}'")
        key = match[1]
        if key not in _UNIVERSAL_FIELDS and key not in kind.selectable:
            raise bad_request(f"field label not supported: {key}")
        operator = "notin" if match[2] == "!=" else "in"
        terms.append(Requirement(key, operator, frozenset({match[3]})))
    return tuple(terms)
