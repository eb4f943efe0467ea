"""OpenAPI v3 documents: an index, and one document for each group and version.

Made on demand and kept until the kinds change. The hash in an address lets kubectl cache on disk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.web_request import BaseRequest

from inferway.api.schema import openapi
from inferway.api.schema.catalog import Catalog
from inferway.api.schema.descriptions import Descriptions
from inferway.api.schema.openapi import WantedKind
from inferway.local.apiserver.http.answers import raw, respond
from inferway.local.apiserver.registry import errors
from inferway.local.apiserver.registry.kinds import Kind, KindTable
from inferway.local.apiserver.registry.patching_verbs import PATCH_TYPES, STRATEGIC_PATCH

KUBERNETES_VERSION = "v1.37.0"
_V2_PROTOBUF = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
_REFERENCE = "#/components/schemas/"
# Gives the schemas of one group and version: component name -> schema, and kind -> component name.
Components = Callable[[list[Kind]], tuple[dict[str, Any], Mapping[str, str]]]


@dataclass(frozen=True, slots=True)
class _Document:
    """A document and the kinds that it describes."""

    kinds: list[Kind]
    body: bytes
    digest: str


@dataclass(frozen=True, slots=True)
class OpenApi:
    """Answers under ``/openapi``."""

    kinds: KindTable
    components: Components
    _documents: dict[str, _Document] = field(default_factory=dict)

    def answer(self, request: BaseRequest, path: str) -> web.StreamResponse | None:
        if path == "/openapi/v2":
            return _version_two(request)
        if path == "/openapi/v3":
            return respond({"paths": self._index()})
        name = path.removeprefix("/openapi/v3/")
        if name == path:
            return None
        found = self._document(name)
        if found is None:
            return None
        body, etag = found
        if request.headers.get("If-None-Match") == f'"{etag}"':
            return web.Response(status=304)
        response = raw(body)
        response.headers["ETag"] = f'"{etag}"'
        if request.query.get("hash") == etag:
            response.headers["Cache-Control"] = "public, immutable"
        return response

    def _index(self) -> dict[str, Any]:
        index = {}
        for name in self._names():
            found = self._document(name)
            assert found is not None
            index[name] = {"serverRelativeURL": f"/openapi/v3/{name}?hash={found[1]}"}
        return index

    def _names(self) -> list[str]:
        return sorted({document_name(kind) for kind in self.kinds.all()})

    def _document(self, name: str) -> tuple[bytes, str] | None:
        kinds = [kind for kind in self.kinds.all() if document_name(kind) == name]
        if not kinds:
            return None
        kept = self._documents.get(name)
        # A definition that changes makes new kinds; all other documents stay as they are.
        if kept is None or [id(kind) for kind in kept.kinds] != [id(kind) for kind in kinds]:
            body = msgspec.json.encode(document(kinds, self.components))
            digest = hashlib.sha256(body).hexdigest()[:32].upper()
            kept = _Document(kinds, body, digest)
            self._documents[name] = kept
        return kept.body, kept.digest


def _version_two(request: BaseRequest) -> web.Response:
    """A document that describes nothing, which is all that kubectl needs of version 2.

    It looks here for kinds that version 3 does not have; where it finds none it goes on, and says
    that nothing matches the kind. Raises StatusError 406 for other forms than protobuf.
    """
    if _V2_PROTOBUF not in request.headers.get("Accept", ""):
        raise errors.not_acceptable([_V2_PROTOBUF])
    info = _proto_field(1, b"Kubernetes") + _proto_field(2, KUBERNETES_VERSION.encode())
    body = _proto_field(1, b"2.0") + _proto_field(2, info)
    return web.Response(body=body, content_type="application/octet-stream")


def _proto_field(number: int, content: bytes) -> bytes:
    """A text or message of less than 128 bytes, as the wire format of protobuf has it."""
    return bytes([number << 3 | 2, len(content)]) + content


def document_name(kind: Kind) -> str:
    """``api/v1`` or ``apis/GROUP/VERSION``."""
    return f"apis/{kind.api_version}" if kind.group else f"api/{kind.version}"


def document(kinds: list[Kind], components: Components) -> dict[str, Any]:
    """The OpenAPI document of one group and version."""
    schemas, names = components(kinds)
    paths: dict[str, Any] = {}
    for kind in kinds:
        reference = names.get(kind.kind)
        schema = {"$ref": _REFERENCE + reference} if reference else {"type": "object"}
        scope = "/namespaces/{namespace}" if kind.namespaced else ""
        collection = f"/{document_name(kind)}{scope}/{kind.plural}"
        paths[collection] = _collection(kind, schema)
        if "get" in kind.verbs:
            paths[f"{collection}/{{name}}"] = _object(kind, schema)
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": KUBERNETES_VERSION},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _query(name: str, kind: str = "string") -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": {"type": kind, "uniqueItems": True}}


def _operation(kind: Kind, action: str, parameters: list[str]) -> dict[str, Any]:
    return {
        "operationId": f"{action}{kind.group}{kind.version}{kind.kind}",
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": {
            "group": kind.group,
            "version": kind.version,
            "kind": kind.kind,
        },
        "parameters": [_query(name) for name in parameters],
        "responses": {"200": {"description": "OK"}},
    }


_WRITE = ["dryRun", "fieldManager", "fieldValidation"]


def _collection(kind: Kind, schema: dict[str, Any]) -> dict[str, Any]:
    post = _operation(kind, "post", _WRITE)
    post["requestBody"] = {"content": {"application/json": {"schema": schema}}}
    operations = {"post": post}
    if "list" in kind.verbs:
        operations["get"] = _operation(kind, "list", ["labelSelector", "fieldSelector"])
    return operations


def _object(kind: Kind, schema: dict[str, Any]) -> dict[str, Any]:
    get = _operation(kind, "get", [])
    get["responses"]["200"]["content"] = {"application/json": {"schema": schema}}
    put = _operation(kind, "put", _WRITE)
    put["requestBody"] = {"content": {"application/json": {"schema": schema}}}
    patch = _operation(kind, "patch", [*_WRITE, "force"])
    forms = [form for form in PATCH_TYPES if not (kind.custom and form == STRATEGIC_PATCH)]
    patch["requestBody"] = {"content": {form: {"schema": {"type": "object"}} for form in forms}}
    delete = _operation(kind, "delete", ["dryRun", "gracePeriodSeconds", "propagationPolicy"])
    return {"get": get, "put": put, "patch": patch, "delete": delete}


def components_of(catalog: Catalog) -> Components:
    """Schemas with descriptions. Texts are read when somebody asks for the first time."""
    descriptions = Descriptions.installed()

    def components(kinds: list[Kind]) -> tuple[dict[str, Any], Mapping[str, str]]:
        wanted = (WantedKind(k.group, k.version, k.kind, k.schema) for k in kinds)
        return openapi.components(wanted, catalog, descriptions)

    return components
