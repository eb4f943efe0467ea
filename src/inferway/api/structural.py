"""OpenAPI v3 schemas of typed structs, as a CustomResourceDefinition carries them.

Knows Python's annotations and ``fields.Facts``. A struct's docstring is its description, the
attribute ``cel`` has its rules.
"""

from __future__ import annotations

import functools
import inspect
import types
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgspec

from inferway.api.codec import ApiStruct, camel
from inferway.api.fields import Facts
from inferway.api.meta import ObjectMeta

Schema = dict[str, Any]

_SCALARS: dict[Any, Schema] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    bool: {"type": "boolean"},
    float: {"type": "number"},
}
_API_VERSION_TEXT = "Group and version of the kind, such as apps/v1."
_KIND_TEXT = "The kind of the object."


def kind_schema(struct: type[ApiStruct]) -> Schema:
    """The schema of a whole kind: identity and metadata are left to the API server."""
    schema = struct_schema(struct)
    properties = schema["properties"]
    properties["apiVersion"] = {"type": "string", "description": _API_VERSION_TEXT}
    properties["kind"] = {"type": "string", "description": _KIND_TEXT}
    properties["metadata"] = {"type": "object"}
    return schema


def struct_schema(struct: type[ApiStruct]) -> Schema:
    """The schema of a struct."""
    hints = _hints(struct)
    properties: dict[str, Schema] = {}
    required = []
    for info in msgspec.structs.fields(struct):
        schema, facts = _annotated(hints[info.name])
        name = camel(info.name)
        properties[name] = schema
        if facts.required or info.required:
            required.append(name)
    result: Schema = {"type": "object", "properties": properties}
    if struct.__doc__:
        result["description"] = _first_paragraph(struct.__doc__)
    if required:
        result["required"] = sorted(required)
    rules = getattr(struct, "cel", ())
    if rules:
        result["x-kubernetes-validations"] = [
            {"rule": expression, "message": message} for expression, message in rules
        ]
    return result


@functools.cache
def _hints(struct: type[ApiStruct]) -> dict[str, Any]:
    """Evaluating annotations is most of the work, and parts are shared by many kinds."""
    return get_type_hints(struct, include_extras=True)


def _first_paragraph(text: str) -> str:
    return " ".join(inspect.cleandoc(text).split("\n\n")[0].split())


def _annotated(annotation: Any) -> tuple[Schema, Facts]:
    """The schema of an annotation with its facts, and the facts by themselves."""
    if get_origin(annotation) is Annotated:
        inner, *extras = get_args(annotation)
        schema, facts = _annotated(inner)
        for extra in extras:
            if isinstance(extra, Facts):
                facts = _joined(facts, extra)
                schema = schema | dict(extra.schema)
                if extra.description:
                    schema["description"] = extra.description
        return schema, facts
    if get_origin(annotation) in (Union, types.UnionType):
        choices = [choice for choice in get_args(annotation) if choice is not types.NoneType]
        if len(choices) == 1:
            return _annotated(choices[0])
        # A number or a text; the facts say how.
        return {}, Facts()
    return _plain(annotation), Facts()


def _joined(first: Facts, second: Facts) -> Facts:
    return Facts(
        second.description or first.description,
        first.required or second.required,
        first.schema + second.schema,
    )


def _plain(annotation: Any) -> Schema:
    if annotation in _SCALARS:
        return dict(_SCALARS[annotation])
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is tuple:
        return {"type": "array", "items": _annotated(arguments[0])[0]}
    if origin is dict:
        return {"type": "object", "additionalProperties": _annotated(arguments[1])[0]}
    assert isinstance(annotation, type)
    assert issubclass(annotation, ApiStruct), annotation
    if annotation is ObjectMeta:
        return {"type": "object"}
    return struct_schema(annotation)
