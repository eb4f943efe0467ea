"""Answers: objects, lists, Tables and errors as HTTP responses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import web

from inferway.base.clock import Clock
from inferway.local.apiserver.http import negotiate
from inferway.local.apiserver.http.negotiate import Accept
from inferway.local.apiserver.registry import errors
from inferway.local.apiserver.registry import table as tables
from inferway.local.apiserver.registry.errors import StatusError
from inferway.local.apiserver.registry.kinds import Kind, Object
from inferway.local.apiserver.registry.reading import Page, body_of

OBJECT_FORMS = ("Table", "PartialObjectMetadata")
LIST_FORMS = ("Table", "PartialObjectMetadataList")


@dataclass(frozen=True, slots=True)
class Form:
    """How a client wants objects: the negotiated form and what Table rows include."""

    accept: Accept
    include: str
    clock: Clock

    def object(self, kind: Kind, obj: Object) -> Any:
        if self.accept.as_kind == "Table":
            table = tables.table(kind, [obj], self.clock.wall(), self.include)
            table["metadata"] = {"resourceVersion": obj["metadata"].get("resourceVersion", "")}
            return table
        if self.accept.as_kind == "PartialObjectMetadata":
            return tables.partial(obj)
        return obj


def respond(
    value: Any, accept: Accept | None = None, *, status: int = 200, warnings: Iterable[str] = ()
) -> web.Response:
    """A response with a JSON (or YAML) body."""
    body, media = negotiate.encode(value, accept or Accept())
    return raw(body, media, status=status, warnings=warnings)


def raw(
    body: bytes,
    media: str = negotiate.JSON,
    *,
    status: int = 200,
    warnings: Iterable[str] = (),
) -> web.Response:
    response = web.Response(body=body, status=status, content_type=media)
    response.headers["Cache-Control"] = "no-cache, private"
    for text in warnings:
        quoted = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
        response.headers.add("Warning", f'299 - "{quoted}"')
    return response


def failure(error: StatusError) -> web.Response:
    response = respond(error.to_object(), status=error.code)
    retry = error.details.get("retryAfterSeconds")
    if retry:
        response.headers["Retry-After"] = str(retry)
    if error.code == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="inferway"'
    return response


def list_response(kind: Kind, page: Page, form: Form) -> web.Response:
    """A page of a list; stored bytes are joined without decoding where the form allows it."""
    metadata: dict[str, Any] = {"resourceVersion": str(page.revision)}
    if page.continue_token:
        metadata |= {"continue": page.continue_token, "remainingItemCount": page.remaining}
    if not form.accept.as_kind and not form.accept.yaml:
        head = msgspec.json.encode(
            {"kind": kind.name_of_list, "apiVersion": kind.api_version, "metadata": metadata}
        )
        items = b",".join(body_of(kind, stored) for stored in page.items)
        return raw(head[:-1] + b',"items":[' + items + b"]}")
    objects = [msgspec.json.decode(body_of(kind, stored)) for stored in page.items]
    if form.accept.as_kind == "Table":
        value = tables.table(kind, objects, form.clock.wall(), form.include)
        value["metadata"] = metadata
    elif form.accept.as_kind:
        value = {
            "kind": "PartialObjectMetadataList",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": metadata,
            "items": [tables.partial(obj) for obj in objects],
        }
    else:
        value = {
            "kind": kind.name_of_list,
            "apiVersion": kind.api_version,
            "metadata": metadata,
            "items": objects,
        }
    return respond(value, form.accept)


def include_of(text: str) -> str:
    """The includeObject parameter. Raises StatusError 400."""
    if text not in ("", "None", "Metadata", "Object"):
        raise errors.bad_request(
            f'unsupported includeObject value: "{text}", must be "Metadata", "Object" or "None"'
        )
    return text or "Metadata"
