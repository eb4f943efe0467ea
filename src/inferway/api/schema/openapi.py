"""Schemas of kinds as components of an OpenAPI v3 document.

Pure given a catalogue and descriptions. Built-in kinds bring the definitions that they refer to;
custom kinds are taken as their CRD has them, and get Kubernetes' metadata.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from inferway.api.codec import Object
from inferway.api.schema.catalog import OBJECT_META, Catalog
from inferway.api.schema.descriptions import Description, Descriptions

_REFERENCE = "#/components/schemas/"
_KIND = "x-kubernetes-group-version-kind"
_INT_OR_STRING = "x-kubernetes-int-or-string"
_FREE = "x-kubernetes-preserve-unknown-fields"
_EITHER = {
    "quantity": [{"type": "string"}, {"type": "number"}],
    "int-or-string": [{"type": "integer"}, {"type": "string"}],
}
_IDENTITY = {
    "apiVersion": {"type": "string", "description": "Group and version of the kind."},
    "kind": {"type": "string", "description": "The kind of the object."},
}


@dataclass(frozen=True, slots=True)
class WantedKind:
    """A kind to describe. ``schema`` is a CRD's openAPIV3Schema, None for built-in kinds."""

    group: str
    version: str
    kind: str
    schema: Mapping[str, Any] | None = None


def components(
    kinds: Iterable[WantedKind], catalog: Catalog, descriptions: Descriptions
) -> tuple[dict[str, Object], dict[str, str]]:
    """Component name to schema, and kind to component name."""
    found: dict[str, Object] = {}
    names: dict[str, str] = {}
    for wanted in kinds:
        if wanted.schema is not None:
            name = _custom_name(wanted)
            found[name] = _custom(wanted)
            _collect(OBJECT_META, catalog, descriptions, found)
        else:
            known = catalog.name_of(wanted.group, wanted.version, wanted.kind)
            if known is None:
                continue
            name = known
            _collect(name, catalog, descriptions, found)
        names[wanted.kind] = name
    return found, names


def _custom_name(wanted: WantedKind) -> str:
    """Kubernetes' spelling: the group backwards, version, kind."""
    group = ".".join(reversed(wanted.group.split(".")))
    return f"{group}.{wanted.version}.{wanted.kind}"


def _custom(wanted: WantedKind) -> Object:
    assert wanted.schema is not None
    properties = dict(wanted.schema.get("properties") or {})
    for name, schema in _IDENTITY.items():
        properties.setdefault(name, schema)
    text = "Standard object's metadata."
    properties["metadata"] = {
        "description": text,
        "allOf": [{"$ref": _REFERENCE + OBJECT_META}],
    }
    kind = {"group": wanted.group, "version": wanted.version, "kind": wanted.kind}
    return {**wanted.schema, "properties": properties, _KIND: [kind]}


def _collect(
    name: str, catalog: Catalog, descriptions: Descriptions, found: dict[str, Object]
) -> None:
    """A definition and all that it refers to."""
    waiting = [name]
    while waiting:
        current = waiting.pop()
        raw = catalog.definitions.get(current)
        if current in found or raw is None:
            continue
        found[current] = _definition(raw, descriptions.of(current), waiting)


def _definition(raw: Mapping[str, Any], texts: Description, waiting: list[str]) -> Object:
    result = _schema(raw, waiting)
    if texts.text:
        result["description"] = texts.text
    properties = raw.get("properties")
    if properties:
        result["properties"] = {
            name: _field(inner, texts.fields.get(name, ""), waiting)
            for name, inner in properties.items()
        }
    return result


def _field(raw: Mapping[str, Any], text: str, waiting: list[str]) -> Object:
    schema = _schema(raw, waiting)
    if "$ref" in schema:
        # Words beside a reference are not read, so the reference moves into allOf.
        schema["allOf"] = [{"$ref": schema.pop("$ref")}]
    return {"description": text, **schema} if text else schema


def _schema(raw: Mapping[str, Any], waiting: list[str]) -> Object:
    result: Object = {}
    for word, value in raw.items():
        if word == "$ref":
            waiting.append(value)
            result["$ref"] = _REFERENCE + value
        elif word in ("items", "additionalProperties"):
            result[word] = _schema(value, waiting)
        elif word == _INT_OR_STRING:
            result["oneOf"] = _EITHER[raw["format"]]
        elif word not in ("properties", _FREE):
            result[word] = value
    if result.get("format") == "quantity":
        del result["format"]
    return result
