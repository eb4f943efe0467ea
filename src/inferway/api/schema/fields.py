"""Fields that a schema does not have: finding them for strict decoding, and pruning them."""

from __future__ import annotations

from typing import Any

from inferway.api.schema.model import Schema

_IDENTITY = frozenset({"apiVersion", "kind", "metadata"})


def unknown_fields(schema: Schema, value: Any, path: str = "") -> list[str]:
    """Paths such as ``spec.containers[0].imagee``, in the order of the object.

    Strict decoding words them as ``unknown field "PATH"``.
    """
    found: list[str] = []
    _find(schema, value, path, found)
    return found


def _find(schema: Schema, value: Any, path: str, found: list[str]) -> None:
    if isinstance(value, dict):
        for name, inner in value.items():
            below = f"{path}.{name}" if path else str(name)
            member = schema.member(name)
            if member is not None:
                _find(member, inner, below, found)
            elif not schema.open and not _identity(schema, name):
                found.append(below)
    elif isinstance(value, list) and schema.items is not None:
        for place, item in enumerate(value):
            _find(schema.items, item, f"{path}[{place}]", found)


def _identity(schema: Schema, name: str) -> bool:
    return schema.embedded and name in _IDENTITY


def prune(schema: Schema, value: Any) -> Any:
    """A copy without unknown fields. Values of another type than the schema's stay as they are."""
    if isinstance(value, dict):
        result = {}
        for name, inner in value.items():
            member = schema.member(name)
            if member is not None:
                result[name] = prune(member, inner)
            elif schema.open or _identity(schema, name):
                result[name] = inner
        return result
    if isinstance(value, list) and schema.items is not None:
        return [prune(schema.items, item) for item in value]
    return value
