"""Defaults of a schema, as the API server applies them to custom resources."""

from __future__ import annotations

import copy
from typing import Any

from inferway.api.schema.model import MISSING, Schema


def apply_defaults(schema: Schema, value: Any) -> Any:
    """A copy in which missing fields have their defaults.

    A null where the schema allows none counts as missing.
    """
    if isinstance(value, dict):
        return _object(schema, value)
    if isinstance(value, list) and schema.items is not None:
        return [apply_defaults(schema.items, item) for item in value]
    return value


def _object(schema: Schema, value: dict[str, Any]) -> dict[str, Any]:
    result = {}
    for name, inner in value.items():
        member = schema.member(name)
        if member is None:
            result[name] = inner
        elif inner is None and not member.nullable and not member.open:
            continue
        else:
            result[name] = apply_defaults(member, inner)
    for name, member in schema.properties.items():
        if name not in result and member.default is not MISSING:
            result[name] = apply_defaults(member, copy.deepcopy(member.default))
    return result
