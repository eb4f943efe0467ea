"""The value of an expression. Raises CelError for what has none, UnsupportedError for the unknown.

Errors of ``&&`` and ``||`` do not matter if the other side decides, as the language defines.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from inferway.api.schema.cel.functions import FUNCTIONS, METHODS
from inferway.api.schema.cel.tree import (
    Binary,
    Call,
    CelError,
    Choice,
    Index,
    ListOf,
    Literal,
    Macro,
    MapOf,
    Name,
    Node,
    Select,
    Unary,
    UnsupportedError,
)

# About a second of work; Kubernetes bounds the cost of rules too.
STEPS_MAX = 300_000
_SOME_ERRORS = (TypeError, ValueError, KeyError, IndexError, AttributeError, ZeroDivisionError)


@dataclass(slots=True)
class _Steps:
    left: int = STEPS_MAX


@dataclass(frozen=True, slots=True)
class Scope:
    """Variables, and the steps that are left for the whole expression."""

    variables: Mapping[str, Any]
    steps: _Steps = field(default_factory=_Steps)

    def with_variable(self, name: str, value: Any) -> Scope:
        return Scope({**self.variables, name: value}, self.steps)


def evaluate(node: Node, scope: Scope) -> Any:
    """The value of a node."""
    scope.steps.left -= 1
    if scope.steps.left < 0:
        raise CelError("the rule takes too many steps")
    match node:
        case Literal(value=value):
            return value
        case Name(name=name):
            if name not in scope.variables:
                raise UnsupportedError(f"unknown name {name}")
            return scope.variables[name]
        case Select():
            return _select(node, scope)
        case Index():
            return _index(evaluate(node.operand, scope), evaluate(node.key, scope))
        case Unary():
            return _unary(node, scope)
        case Binary():
            return _binary(node, scope)
        case Choice():
            return evaluate(node.yes if _truth(node.condition, scope) else node.no, scope)
        case ListOf(items=items):
            return [evaluate(item, scope) for item in items]
        case MapOf(entries=entries):
            return {evaluate(key, scope): evaluate(value, scope) for key, value in entries}
        case Call():
            return _call(node, scope)
        case Macro():
            return _macro(node, scope)


def _truth(node: Node, scope: Scope) -> bool:
    value = evaluate(node, scope)
    if not isinstance(value, bool):
        raise CelError("no such overload")
    return value


def _select(node: Select, scope: Scope) -> Any:
    operand = evaluate(node.operand, scope)
    if not isinstance(operand, dict):
        raise CelError(f"type does not support field selection: {node.field}")
    if node.test:
        return node.field in operand and operand[node.field] is not None
    if node.field not in operand:
        raise CelError(f"no such key: {node.field}")
    return operand[node.field]


def _index(operand: Any, key: Any) -> Any:
    if isinstance(operand, list) and isinstance(key, int):
        if not 0 <= key < len(operand):
            raise CelError(f"index out of bounds: {key}")
        return operand[key]
    if isinstance(operand, dict) and key in operand:
        return operand[key]
    raise CelError(f"no such key: {key}")


def _unary(node: Unary, scope: Scope) -> Any:
    if node.operator == "!":
        return not _truth(node.operand, scope)
    value = evaluate(node.operand, scope)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CelError("no such overload")
    return -value


def _binary(node: Binary, scope: Scope) -> Any:
    if node.operator in ("&&", "||"):
        return _logic(node, scope)
    left, right = evaluate(node.left, scope), evaluate(node.right, scope)
    match node.operator:
        case "==":
            return equal(left, right)
        case "!=":
            return not equal(left, right)
        case "in":
            if not isinstance(right, list | dict):
                raise CelError("no such overload")
            return any(equal(left, item) for item in right)
    try:
        return _calculated(node.operator, left, right)
    except _SOME_ERRORS as error:
        raise CelError(str(error)) from None


def _calculated(operator: str, left: Any, right: Any) -> Any:
    match operator:
        case "<":
            return left < right
        case "<=":
            return left <= right
        case ">":
            return left > right
        case ">=":
            return left >= right
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
        case "/":
            whole = isinstance(left, int) and isinstance(right, int)
            return int(left / right) if whole else left / right
        case _:
            return left - right * int(left / right)


def equal(left: Any, right: Any) -> bool:
    """Equality in which true is not 1."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    return bool(left == right)


def _logic(node: Binary, scope: Scope) -> bool:
    decides = node.operator == "||"
    try:
        if _truth(node.left, scope) is decides:
            return decides
    except CelError:
        if _truth(node.right, scope) is decides:
            return decides
        raise
    return _truth(node.right, scope)


def _call(node: Call, scope: Scope) -> Any:
    table = FUNCTIONS if node.operand is None else METHODS
    function = table.get(node.name)
    if function is None:
        raise UnsupportedError(f"unknown function {node.name}")
    operands = () if node.operand is None else (evaluate(node.operand, scope),)
    arguments = [evaluate(argument, scope) for argument in node.arguments]
    try:
        return function(*operands, *arguments)
    except _SOME_ERRORS as error:
        raise CelError(str(error)) from None


def _macro(node: Macro, scope: Scope) -> Any:
    operand = evaluate(node.operand, scope)
    if not isinstance(operand, list | dict) or len(node.variables) != 1:
        raise CelError("no such overload")
    scopes = [scope.with_variable(node.variables[0], item) for item in operand]
    body = node.bodies[-1]
    match node.name:
        case "all":
            return _decided(body, scopes, decides=False)
        case "exists":
            return _decided(body, scopes, decides=True)
        case "exists_one":
            return sum(_truth(body, inner) for inner in scopes) == 1
        case "filter":
            return [
                item for item, inner in zip(operand, scopes, strict=True) if _truth(body, inner)
            ]
        case _:
            wanted = [s for s in scopes if len(node.bodies) == 1 or _truth(node.bodies[0], s)]
            return [evaluate(body, inner) for inner in wanted]


def _decided(body: Node, scopes: Iterable[Scope], *, decides: bool) -> bool:
    """One item can decide; errors of the others matter only if none does."""
    failure: CelError | None = None
    for inner in scopes:
        try:
            if _truth(body, inner) is decides:
                return decides
        except CelError as error:
            failure = error
    if failure is not None:
        raise failure
    return not decides
