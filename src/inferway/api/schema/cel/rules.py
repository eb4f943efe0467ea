"""Judging x-kubernetes-validations: a ``CheckRules`` of ``schema.validation``."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from inferway.api.schema import errors
from inferway.api.schema.cel.evaluate import Scope, evaluate
from inferway.api.schema.cel.parser import EXPRESSIONS_KEPT_MAX, parse
from inferway.api.schema.cel.tree import CelError, Node, UnsupportedError, names
from inferway.api.schema.errors import FieldError, child
from inferway.api.schema.model import Rule
from inferway.api.schema.values import type_name


def check_rules(rules: tuple[Rule, ...], value: Any, old: Any, path: str) -> list[FieldError]:
    """The rules that do not hold. A rule about ``oldSelf`` is asked only when there is one."""
    found = []
    for rule in rules:
        try:
            error = _check(rule, value, old, path)
        except (UnsupportedError, RecursionError):
            continue
        if error is not None:
            found.append(error)
    return found


def _check(rule: Rule, value: Any, old: Any, path: str) -> FieldError | None:
    tree, about_changes = _read(rule.expression)
    variables = {"self": value}
    if about_changes:
        if old is None or rule.optional_old_self:
            return None
        variables["oldSelf"] = old
    scope = Scope(variables)
    try:
        holds = evaluate(tree, scope)
    except CelError as error:
        text = f"{error} evaluating rule: {rule.message or rule.expression}"
        return errors.invalid(path, type_name(value), text)
    return None if holds is True else _error(rule, value, path, _message(rule, scope))


@lru_cache(maxsize=EXPRESSIONS_KEPT_MAX)
def _read(expression: str) -> tuple[Node, bool]:
    """The tree of a rule, and whether it compares with the old value."""
    tree = parse(expression)
    return tree, "oldSelf" in names(tree)


def _message(rule: Rule, scope: Scope) -> str:
    if rule.message_expression:
        try:
            text = evaluate(parse(rule.message_expression), Scope(scope.variables))
        except (CelError, UnsupportedError):
            text = ""
        if isinstance(text, str) and text.strip():
            return text
    return rule.message or f"failed rule: {rule.expression}"


def _error(rule: Rule, value: Any, path: str, message: str) -> FieldError:
    field = child(path, rule.field_path) if rule.field_path else path
    match rule.reason:
        case "FieldValueForbidden":
            return errors.forbidden(field, message)
        case "FieldValueRequired":
            return errors.required(field, message)
        case "FieldValueDuplicate":
            # Kubernetes shows a whole object or list in no rule's error.
            if isinstance(value, dict | list):
                return errors.repeated(field, message)
            return errors.duplicate(field, value)
        case _:
            if isinstance(value, dict | list):
                return errors.refused(field, message)
            return errors.invalid(field, value, message)
