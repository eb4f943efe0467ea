"""Label selectors: the text form of queries and the structured form of specs.

Field selectors are the API server's own business.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from inferway.api.meta import LabelSelector


class Operator(StrEnum):
    """How a requirement compares."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"
    GREATER = "Gt"
    LESS = "Lt"


@dataclass(frozen=True, slots=True)
class Requirement:
    """One comparison of a label."""

    key: str
    operator: Operator
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        match self.operator:
            case Operator.IN:
                return value is not None and value in self.values
            case Operator.NOT_IN:
                # A missing label is not in any set of values.
                return value is None or value not in self.values
            case Operator.EXISTS:
                return value is not None
            case Operator.DOES_NOT_EXIST:
                return value is None
            case Operator.GREATER | Operator.LESS:
                return _compares(self.operator, value, self.values)


def _compares(operator: Operator, value: str | None, values: frozenset[str]) -> bool:
    try:
        left, right = int(value or ""), int(next(iter(values), ""))
    except ValueError:
        return False
    return left > right if operator is Operator.GREATER else left < right


@dataclass(frozen=True, slots=True)
class Selector:
    """Requirements that all must hold. ``nothing`` matches no labels at all."""

    requirements: tuple[Requirement, ...] = ()
    nothing: bool = False

    def matches(self, labels: Mapping[str, str] | None) -> bool:
        if self.nothing:
            return False
        return all(requirement.matches(labels or {}) for requirement in self.requirements)

    @property
    def empty(self) -> bool:
        """Whether everything matches."""
        return not self.requirements and not self.nothing


EVERYTHING = Selector()
NOTHING = Selector(nothing=True)

_KEY = r"[A-Za-z0-9][-A-Za-z0-9_.]*(?:/[A-Za-z0-9][-A-Za-z0-9_.]*)?"
_VALUE = r"[-A-Za-z0-9_.]*"
_SET = re.compile(rf"^(?P<key>{_KEY})\s+(?P<op>in|notin)\s*\((?P<values>[^()]*)\)$")
_COMPARE = re.compile(rf"^(?P<key>{_KEY})\s*(?P<op>==|=|!=|>|<)\s*(?P<value>{_VALUE})$")
_EXISTS = re.compile(rf"^(?P<not>!?)\s*(?P<key>{_KEY})$")
_COMPARISONS = {
    "=": Operator.IN,
    "==": Operator.IN,
    "!=": Operator.NOT_IN,
    ">": Operator.GREATER,
    "<": Operator.LESS,
}


def parse(text: str) -> Selector:
    """``a=b,c in (x,y),!d`` as a selector; an empty text matches everything. Raises ValueError."""
    if not text.strip():
        return EVERYTHING
    return Selector(tuple(_requirement(part, text) for part in _split(text)))


def _split(text: str) -> list[str]:
    """Parts between commas that are not inside parentheses."""
    parts = re.split(r",(?![^()]*\))", text)
    return [part.strip() for part in parts]


def _requirement(part: str, text: str) -> Requirement:
    if match := _SET.match(part):
        values = frozenset(value.strip() for value in match["values"].split(","))
        operator = Operator.IN if match["op"] == "in" else Operator.NOT_IN
        if all(re.fullmatch(_VALUE, value) for value in values):
            return Requirement(match["key"], operator, values)
    elif match := _COMPARE.match(part):
        operator = _COMPARISONS[match["op"]]
        return Requirement(match["key"], operator, frozenset({match["value"]}))
    elif match := _EXISTS.match(part):
        operator = Operator.DOES_NOT_EXIST if match["not"] else Operator.EXISTS
        return Requirement(match["key"], operator)
    raise ValueError(
        f"unable to parse requirement {part!r} of label selector {text!r}: write for example "
        "app=web, tier in (a,b), !legacy"
    )


def from_labels(labels: Mapping[str, str] | None) -> Selector:
    """A map of labels that must be equal, as in a Service; none or an empty one matches nothing."""
    if not labels:
        return NOTHING
    return Selector(tuple(_equal(key, value) for key, value in sorted(labels.items())))


def from_label_selector(selector: LabelSelector | None) -> Selector:
    """The selector of a spec: none matches nothing, an empty one everything. Raises ValueError."""
    if selector is None:
        return NOTHING
    equal = [_equal(key, value) for key, value in sorted(selector.match_labels.items())]
    expressions = [
        Requirement(item.key, _operator(item.operator), frozenset(item.values))
        for item in selector.match_expressions
    ]
    return Selector((*equal, *expressions))


def _operator(text: str) -> Operator:
    try:
        return Operator(text)
    except ValueError:
        raise ValueError(f'"{text}" is not a valid label selector operator') from None


def _equal(key: str, value: str) -> Requirement:
    return Requirement(key, Operator.IN, frozenset({value}))
