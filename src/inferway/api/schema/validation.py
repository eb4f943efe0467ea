"""Judging a value by its schema, with the texts of Kubernetes' custom resource validation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from inferway.api.schema import errors
from inferway.api.schema.cel.rules import check_rules
from inferway.api.schema.defaulting import apply_defaults
from inferway.api.schema.errors import FieldError, child
from inferway.api.schema.fields import prune
from inferway.api.schema.formats import fits
from inferway.api.schema.model import Rule, Schema
from inferway.api.schema.values import matches, type_name

# Judges the rules of x-kubernetes-validations: rules, value, old value (None if new), path.
CheckRules = Callable[[tuple[Rule, ...], Any, Any, str], list[FieldError]]
# More causes help nobody and a hostile object could have any number of them.
ERRORS_MAX = 100


def validate(
    schema: Schema,
    value: Any,
    old: Any = None,
    *,
    path: str = "",
    check_rules: CheckRules = check_rules,
) -> list[FieldError]:
    """Everything that is wrong, in the order of the schema, ERRORS_MAX at most.

    Rules are asked only where the value has the right shape, and with the old value for rules
    about changes. What an update leaves as it was is not judged again (Kubernetes calls this
    ratcheting), so that a stricter definition does not lock existing objects.
    """
    if old is not None:
        # What is kept may come from another definition of the kind.
        old = apply_defaults(schema, prune(schema, old))
    found: list[FieldError] = []
    for error in _judge(schema, value, path, old):
        found.append(error)
        if len(found) == ERRORS_MAX:
            return found
    if not found:
        found = list(_rules(schema, value, old, path, check_rules))
    return found[:ERRORS_MAX]


def has_type(schema: Schema, value: Any) -> bool:
    """Whether the value is of the schema's type."""
    if value is None and schema.nullable:
        return True
    actual = type_name(value)
    if schema.int_or_string:
        return actual in ("integer", "string") or (
            schema.format == "quantity" and actual == "number"
        )
    if not schema.type or schema.type == actual:
        return True
    return schema.type == "number" and actual == "integer"


def _judge(schema: Schema, value: Any, path: str, old: Any = None) -> Iterator[FieldError]:
    if old is not None and old == value:
        return
    if not has_type(schema, value):
        actual = type_name(value)
        wanted = "integer,string" if schema.int_or_string else schema.type
        yield errors.type_invalid(
            path, actual, f'{path} in body must be of type {wanted}: "{actual}"'
        )
        return
    if value is None:
        return
    if schema.enum and value not in schema.enum:
        yield errors.not_supported(path, value, schema.enum)
    if schema.format and not fits(schema.format, value):
        yield errors.invalid(
            path, value, f"{path} in body must be of type {schema.format}: {errors.shown(value)}"
        )
    if isinstance(value, str):
        yield from _text(schema, value, path)
    elif isinstance(value, dict):
        yield from _object(schema, value, path, old)
    elif isinstance(value, list):
        yield from _list(schema, value, path, old)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from _number(schema, value, path)
    yield from _combined(schema, value, path)


def _text(schema: Schema, value: str, path: str) -> Iterator[FieldError]:
    bounds = schema.bounds
    if bounds.max_length is not None and len(value) > bounds.max_length:
        yield errors.too_long(path, bounds.max_length)
    if bounds.min_length is not None and len(value) < bounds.min_length:
        text = f"{path} in body should be at least {bounds.min_length} chars long"
        yield errors.invalid(path, value, text)
    if schema.pattern and not matches(schema.pattern, value):
        yield errors.invalid(path, value, f"{path} in body should match '{schema.pattern}'")


def _number(schema: Schema, value: float, path: str) -> Iterator[FieldError]:
    bounds = schema.bounds
    low, high = bounds.minimum, bounds.maximum
    if low is not None and (value < low or (bounds.exclusive_minimum and value == low)):
        words = "greater than" if bounds.exclusive_minimum else "greater than or equal to"
        yield errors.invalid(path, value, f"{path} in body should be {words} {low}")
    if high is not None and (value > high or (bounds.exclusive_maximum and value == high)):
        words = "less than" if bounds.exclusive_maximum else "less than or equal to"
        yield errors.invalid(path, value, f"{path} in body should be {words} {high}")
    if bounds.multiple_of and value % bounds.multiple_of:
        yield errors.invalid(
            path, value, f"{path} in body should be a multiple of {bounds.multiple_of}"
        )


def _object(schema: Schema, value: dict[str, Any], path: str, old: Any) -> Iterator[FieldError]:
    fields = old if isinstance(old, dict) else {}
    for name in schema.required:
        if name not in value:
            yield errors.required(child(path, name))
    bounds = schema.bounds
    if bounds.min_properties is not None and len(value) < bounds.min_properties:
        text = f"{path} in body should have at least {bounds.min_properties} properties"
        yield errors.invalid(path, len(value), text)
    if bounds.max_properties is not None and len(value) > bounds.max_properties:
        yield errors.too_many(path, len(value), bounds.max_properties)
    for name, inner in value.items():
        member = schema.member(name)
        if member is not None:
            yield from _judge(member, inner, child(path, name), fields.get(name))


def _list(schema: Schema, value: list[Any], path: str, old: Any) -> Iterator[FieldError]:
    olds = _by_keys(schema, old)
    bounds = schema.bounds
    if bounds.min_items is not None and len(value) < bounds.min_items:
        text = f"{path} in body should have at least {bounds.min_items} items"
        yield errors.invalid(path, len(value), text)
    if bounds.max_items is not None and len(value) > bounds.max_items:
        yield errors.too_many(path, len(value), bounds.max_items)
        return
    yield from _duplicates(schema, value, path)
    if schema.items is not None:
        for place, item in enumerate(value):
            before = olds.get(_item_name(schema, item))
            yield from _judge(schema.items, item, f"{path}[{place}]", before)


def _duplicates(schema: Schema, value: list[Any], path: str) -> Iterator[FieldError]:
    """Items of a set are unique by value, items of a map by their keys."""
    if schema.list_type not in ("set", "map") and not schema.bounds.unique_items:
        return
    seen = set()
    for place, item in enumerate(value):
        name = item
        if schema.list_type == "map":
            if not isinstance(item, dict):
                continue
            name = {k: item[k] for k in schema.list_keys if k in item}
        text = errors.shown(name)
        if text in seen:
            yield errors.duplicate(f"{path}[{place}]", name)
        seen.add(text)


def _combined(schema: Schema, value: Any, path: str) -> Iterator[FieldError]:
    """allOf, anyOf, oneOf and not; they carry no fields of their own."""
    for part in schema.all_of:
        yield from _judge(part, value, path)
    shown = errors.shown("")
    where = f'"{path}" must'
    if schema.any_of and not any(_holds(part, value, path) for part in schema.any_of):
        text = f"Invalid value: {shown}: {where} validate at least one schema (anyOf)"
        yield FieldError("FieldValueInvalid", path, text)
    if schema.one_of:
        count = sum(_holds(part, value, path) for part in schema.one_of)
        if count != 1:
            found = "none valid" if count == 0 else f"{count} valid alternatives"
            text = f"{where} validate one and only one schema (oneOf). Found {found}"
            yield FieldError("FieldValueInvalid", path, f"Invalid value: {shown}: {text}")
    if schema.not_ is not None and _holds(schema.not_, value, path):
        text = f"Invalid value: {shown}: {where} not validate the schema (not)"
        yield FieldError("FieldValueInvalid", path, text)


def _holds(schema: Schema, value: Any, path: str) -> bool:
    return next(_judge(schema, value, path), None) is None


def _rules(
    schema: Schema, value: Any, old: Any, path: str, check: CheckRules
) -> Iterator[FieldError]:
    if value is None or (old is not None and old == value):
        return
    if schema.rules:
        yield from check(schema.rules, value, old, path)
    if isinstance(value, dict):
        fields = old if isinstance(old, dict) else {}
        for name, inner in value.items():
            member = schema.member(name)
            if member is not None:
                yield from _rules(member, inner, fields.get(name), child(path, name), check)
    elif isinstance(value, list) and schema.items is not None:
        olds = _by_keys(schema, old)
        for place, item in enumerate(value):
            before = olds.get(_item_name(schema, item))
            yield from _rules(schema.items, item, before, f"{path}[{place}]", check)


def _by_keys(schema: Schema, value: Any) -> dict[str, Any]:
    """Old items by their keys; only lists of type map know their items again."""
    if schema.list_type != "map" or not isinstance(value, list):
        return {}
    return {_item_name(schema, item): item for item in value}


def _item_name(schema: Schema, item: Any) -> str:
    if not isinstance(item, dict):
        return ""
    return errors.shown([item.get(name) for name in schema.list_keys])
