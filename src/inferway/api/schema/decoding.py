"""What a typed decoder refuses: values of the wrong JSON type in built-in kinds.

Kubernetes decodes built-in kinds into Go structs, and answers 400 with the decoder's own words;
custom kinds get field errors from ``validation`` instead.
"""

from __future__ import annotations

import re
from typing import Any

from inferway.api.schema.formats import is_base64
from inferway.api.schema.model import Schema
from inferway.api.schema.validation import has_type
from inferway.api.schema.values import type_name
from inferway.base import quantities
from inferway.base.clock import parse_rfc3339

_GO_TYPES = {"string": "string", "boolean": "bool", "number": "float64"}
_GO_NUMBERS = {"int32": "int32", "int64": "int64"}
_GO_WORDS = {"integer": "number", "number": "number", "boolean": "bool", "null": "null"}
_RANGES = {"int32": 2**31, "int64": 2**63}


def decoding_error(schema: Schema, obj: Any, kind: str, version: str) -> str | None:
    """The text of the 400, or None for an object that can be decoded. Null stands for absent."""
    found = _first(schema, obj, _short(schema.name) or kind, ())
    if found is None:
        return None
    return f'{kind} in version "{version}" cannot be handled as a {kind}: {found}'


def _short(name: str) -> str:
    return name.rsplit(".", 1)[-1]


def _first(schema: Schema, value: Any, owner: str, fields: tuple[str, ...]) -> str | None:
    """The first wrong value. ``owner`` is the innermost struct, ``fields`` the names so far."""
    if value is None:
        return None
    if not has_type(schema, value):
        return _wrong_type(schema, value, owner, fields)
    if isinstance(value, dict):
        inner_owner = _short(schema.name) or owner
        for name, inner in value.items():
            member = schema.member(name)
            if member is not None:
                below = (*fields, name) if name in schema.properties else fields
                found = _first(member, inner, inner_owner, below)
                if found is not None:
                    return found
        return None
    if isinstance(value, list) and schema.items is not None:
        found_items = (_first(schema.items, item, owner, fields) for item in value)
        return next((found for found in found_items if found is not None), None)
    return _wrong_form(schema, value, owner, fields)


def _wrong_type(schema: Schema, value: Any, owner: str, fields: tuple[str, ...]) -> str:
    if schema.format == "quantity":
        return _quantity_text()
    actual = type_name(value)
    word = _GO_WORDS.get(actual, actual)
    return (
        f"json: cannot unmarshal {word} into Go struct field "
        f"{owner}.{'.'.join(fields)} of type {_go_type(schema)}"
    )


def _go_type(schema: Schema) -> str:
    if schema.format == "int-or-string":
        return "intstr.IntOrString"
    if schema.type == "integer":
        return _GO_NUMBERS.get(schema.format, "int64")
    if schema.type == "array":
        return f"[]{_go_type(schema.items)}" if schema.items else "[]interface {}"
    if schema.type == "object":
        if schema.name:
            return ".".join(schema.name.split(".")[-2:])
        return f"map[string]{_go_type(schema.values)}" if schema.values else "map[string]string"
    return _GO_TYPES.get(schema.type, schema.type)


def _wrong_form(schema: Schema, value: Any, owner: str, fields: tuple[str, ...]) -> str | None:
    if schema.format == "quantity":
        try:
            quantities.parse(value)
        except ValueError:
            return _quantity_text()
    if schema.format == "date-time" and isinstance(value, str):
        return _wrong_time(value)
    if schema.format == "byte" and isinstance(value, str):
        return _wrong_base64(value)
    limit = _RANGES.get(schema.format)
    if limit is not None and isinstance(value, int) and not -limit <= value < limit:
        return (
            f"json: cannot unmarshal number {value} into Go struct field "
            f"{owner}.{'.'.join(fields)} of type {schema.format}"
        )
    return None


def _quantity_text() -> str:
    return (
        "quantities must match the regular expression "
        "'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    )


def _wrong_time(value: str) -> str | None:
    try:
        parse_rfc3339(value)
    except ValueError:
        layout = "2006-01-02T15:04:05Z07:00"
        return f'parsing time "{value}" as "{layout}": cannot parse "{value}" as "2006"'
    return None


def _wrong_base64(value: str) -> str | None:
    if is_base64(value):
        return None
    bad = re.search(r"[^A-Za-z0-9+/=\r\n]", value)
    return f"illegal base64 data at input byte {bad.start() if bad else len(value)}"
