"""Structural schemas from OpenAPI v3 words, as CustomResourceDefinitions and our file use them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from inferway.api.schema.model import FREE_FORM, MISSING, Bounds, Rule, Schema

Raw = Mapping[str, Any]
Resolve = Callable[[str], Schema]

_X = "x-kubernetes-"
_BOUNDS = {
    "minimum": "minimum",
    "maximum": "maximum",
    "multipleOf": "multiple_of",
    "minLength": "min_length",
    "maxLength": "max_length",
    "minItems": "min_items",
    "maxItems": "max_items",
    "minProperties": "min_properties",
    "maxProperties": "max_properties",
}


def no_references(name: str) -> Schema:
    """CRDs have no references."""
    return FREE_FORM


def load_schema(raw: Raw, resolve: Resolve = no_references) -> Schema:
    """The schema that the words describe. Words of another type than OpenAPI's are passed over."""
    properties = {
        name: load_schema(inner, resolve)
        for name, inner in _mapping(raw.get("properties")).items()
        if isinstance(inner, Mapping)
    }
    return build(raw, properties, resolve)


def load_kind(raw: Raw, object_meta: Schema) -> Schema:
    """The schema of a custom kind: identity and metadata are Kubernetes' own."""
    schema = load_schema(raw)
    properties = dict(schema.properties)
    for name in ("apiVersion", "kind"):
        properties.setdefault(name, Schema(type="string"))
    properties["metadata"] = object_meta
    return build(raw, properties, no_references)


def build(raw: Raw, properties: Mapping[str, Schema], resolve: Resolve, name: str = "") -> Schema:
    """A schema from its words and its fields, which may be filled in afterwards."""
    target = raw.get("$ref")
    if isinstance(target, str):
        return _with_own_words(resolve(target), raw)
    values = raw.get("additionalProperties")
    items = raw.get("items")
    keeps = bool(raw.get(_X + "preserve-unknown-fields")) or values is True
    untyped = not raw.get("type") and not properties and not raw.get(_X + "int-or-string")
    inner = raw.get("not")
    return Schema(
        name=name,
        type=str(raw.get("type") or ""),
        format=str(raw.get("format") or ""),
        description=str(raw.get("description") or ""),
        properties=properties,
        required=tuple(raw.get("required") or ()),
        values=load_schema(values, resolve) if isinstance(values, Mapping) else None,
        items=load_schema(items, resolve) if isinstance(items, Mapping) else None,
        open=keeps or untyped,
        embedded=bool(raw.get(_X + "embedded-resource")),
        int_or_string=bool(raw.get(_X + "int-or-string")),
        nullable=bool(raw.get("nullable")),
        default=raw.get("default", MISSING),
        enum=tuple(raw.get("enum") or ()),
        pattern=str(raw.get("pattern") or ""),
        bounds=_bounds(raw),
        list_type=str(raw.get(_X + "list-type") or ""),
        list_keys=tuple(raw.get(_X + "list-map-keys") or ()),
        map_type=str(raw.get(_X + "map-type") or ""),
        merge_key=str(raw.get(_X + "patch-merge-key") or ""),
        strategies=_strategies(raw),
        all_of=_several(raw, "allOf", resolve),
        any_of=_several(raw, "anyOf", resolve),
        one_of=_several(raw, "oneOf", resolve),
        not_=load_schema(inner, resolve) if isinstance(inner, Mapping) else None,
        rules=_rules(raw),
    )


def _with_own_words(target: Schema, raw: Raw) -> Schema:
    """A referred definition with the merge words of the field that refers to it."""
    map_type = str(raw.get(_X + "map-type") or "")
    strategies = _strategies(raw)
    if not map_type and not strategies:
        return target
    return Schema(
        name=target.name,
        type=target.type,
        format=target.format,
        properties=target.properties,
        required=target.required,
        values=target.values,
        items=target.items,
        open=target.open,
        int_or_string=target.int_or_string,
        map_type=map_type or target.map_type,
        strategies=strategies or target.strategies,
    )


def _strategies(raw: Raw) -> frozenset[str]:
    return frozenset(part for part in str(raw.get(_X + "patch-strategy") or "").split(",") if part)


def _bounds(raw: Raw) -> Bounds:
    named = {ours: raw[theirs] for theirs, ours in _BOUNDS.items() if theirs in raw}
    return Bounds(
        **named,
        exclusive_minimum=bool(raw.get("exclusiveMinimum")),
        exclusive_maximum=bool(raw.get("exclusiveMaximum")),
        unique_items=bool(raw.get("uniqueItems")),
    )


def _several(raw: Raw, word: str, resolve: Resolve) -> tuple[Schema, ...]:
    parts = raw.get(word)
    if not isinstance(parts, list):
        return ()
    return tuple(load_schema(part, resolve) for part in parts if isinstance(part, Mapping))


def _rules(raw: Raw) -> tuple[Rule, ...]:
    rules = raw.get(_X + "validations")
    if not isinstance(rules, list):
        return ()
    return tuple(
        Rule(
            expression=" ".join(str(rule.get("rule") or "").split()),
            message=str(rule.get("message") or ""),
            message_expression=str(rule.get("messageExpression") or ""),
            reason=str(rule.get("reason") or "FieldValueInvalid"),
            field_path=str(rule.get("fieldPath") or "").lstrip("."),
            optional_old_self=bool(rule.get("optionalOldSelf")),
        )
        for rule in rules
        if isinstance(rule, Mapping)
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
