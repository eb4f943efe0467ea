"""The nodes of an expression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


class CelError(Exception):
    """A value can not be had, such as that of a field that is not there."""


class UnsupportedError(Exception):
    """The expression can not be read, or uses what we do not know."""


@dataclass(frozen=True, slots=True)
class Literal:
    value: Any


@dataclass(frozen=True, slots=True)
class Name:
    name: str


@dataclass(frozen=True, slots=True)
class Select:
    """A field; ``test`` asks only whether it is there."""

    operand: Node
    field: str
    test: bool = False


@dataclass(frozen=True, slots=True)
class Index:
    operand: Node
    key: Node


@dataclass(frozen=True, slots=True)
class Call:
    """A function, or with ``operand`` a method."""

    name: str
    arguments: tuple[Node, ...]
    operand: Node | None = None


@dataclass(frozen=True, slots=True)
class Unary:
    operator: str
    operand: Node


@dataclass(frozen=True, slots=True)
class Binary:
    operator: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Choice:
    condition: Node
    yes: Node
    no: Node


@dataclass(frozen=True, slots=True)
class ListOf:
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class MapOf:
    entries: tuple[tuple[Node, Node], ...]


@dataclass(frozen=True, slots=True)
class Macro:
    """all, exists, exists_one, filter or map over a list or the keys of a map."""

    name: str
    operand: Node
    variables: tuple[str, ...]
    bodies: tuple[Node, ...]


Node = Literal | Name | Select | Index | Call | Unary | Binary | Choice | ListOf | MapOf | Macro


def names(node: Node) -> set[str]:
    """All names that an expression reads."""
    if isinstance(node, Name):
        return {node.name}
    found: set[str] = set()
    for part in _parts(node):
        found |= names(part)
    return found


def _parts(node: Node) -> tuple[Node, ...]:
    match node:
        case Select(operand=operand) | Unary(operand=operand):
            return (operand,)
        case Index(operand=operand, key=key):
            return (operand, key)
        case Call(arguments=arguments, operand=operand):
            return arguments if operand is None else (operand, *arguments)
        case Binary(left=left, right=right):
            return (left, right)
        case Choice(condition=condition, yes=yes, no=no):
            return (condition, yes, no)
        case ListOf(items=items):
            return items
        case MapOf(entries=entries):
            return tuple(part for entry in entries for part in entry)
        case Macro(operand=operand, bodies=bodies):
            return (operand, *bodies)
        case _:
            return ()
