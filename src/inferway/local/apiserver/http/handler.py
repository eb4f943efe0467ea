"""The one entry of every request: credential, path, answer.

What goes wrong is a Status; a programming mistake is a 500 that names nothing and a line in the
log with the traceback.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from aiohttp.web_request import BaseRequest

from inferway.local.apiserver.http import discovery, negotiate, paths
from inferway.local.apiserver.http.answers import failure, respond
from inferway.local.apiserver.http.credentials import Credentials, User
from inferway.local.apiserver.http.objects import ObjectVerbs
from inferway.local.apiserver.registry import errors
from inferway.local.apiserver.registry.errors import StatusError
from inferway.local.apiserver.registry.kinds import KindTable
from inferway.local.apiserver.registry.options import Target
from inferway.local.apiserver.storage.values import StorageError

logger = logging.getLogger(__name__)

# Clients decide by it what a server can do; the features here follow this release's API.
VERSION = {
    "major": "1",
    "minor": "37",
    "gitVersion": "v1.37.0+inferway",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "",
    "compiler": "",
    "platform": "linux/amd64",
}
_HEALTH = frozenset({"healthz", "livez", "readyz"})
# What a real cluster has and this one has not, so that its users are told.
_KUBERNETES_SUBRESOURCES = frozenset({"attach", "ephemeralcontainers", "exec", "proxy", "resize"})
_AGGREGATED = "APIGroupDiscoveryList"


@dataclass(frozen=True, slots=True)
class Asked:
    """One authenticated request for something of an object that is not its plain self."""

    request: BaseRequest
    target: Target
    user: User
    rest: str = ""


Subresource = Callable[[Asked], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Handler:
    """Answers every request of the server."""

    kinds: KindTable
    credentials: Credentials
    verbs: ObjectVerbs
    subresources: Mapping[tuple[str, str], Subresource]
    """``(plural.group, subresource)``, or ``(plural.group, "")`` for reviews."""
    documents: Callable[[BaseRequest, str], web.StreamResponse | None]
    """OpenAPI documents by path."""

    async def __call__(self, request: BaseRequest) -> web.StreamResponse:
        try:
            return await self._answer(request)
        except StatusError as error:
            return failure(error)
        except StorageError as error:
            return failure(errors.internal(f"the state can not be written: {error}"))
        except ConnectionError:
            raise
        except Exception:
            logger.exception(
                "a request failed", extra={"data": {"method": request.method, "path": request.path}}
            )
            return failure(errors.internal("the server met a mistake of its own; see its log"))

    async def _answer(self, request: BaseRequest) -> web.StreamResponse:
        path = request.path
        first = path.strip("/").split("/", 1)[0]
        if first in _HEALTH and request.method == "GET":
            return web.Response(text="ok")
        if path == "/version" and request.method == "GET":
            return respond(VERSION)
        user = self.credentials.user_of(request)
        found = paths.parse(path)
        if found is None:
            return self._document(request, path)
        kind = self.kinds.find(found.group, found.version, found.plural)
        if kind is None:
            raise errors.path_not_found()
        target = Target(kind, found.namespace, found.name, found.subresource)
        own = f"{kind.plural}.{kind.group}"
        special = self.subresources.get((own, found.subresource)) or (
            self.subresources.get(("", found.subresource)) if found.subresource else None
        )
        if found.subresource and found.subresource not in kind.subresources:
            if found.subresource in _KUBERNETES_SUBRESOURCES:
                name = f"{kind.plural}/{found.subresource}"
                raise errors.method_not_allowed(f"{name} is not supported by the local API server")
            raise errors.path_not_found()
        if special is not None:
            return await special(Asked(request, target, user, found.rest))
        if found.rest or found.subresource not in ("", "status"):
            raise errors.path_not_found()
        return await self.verbs.handle(request, target)

    def _document(self, request: BaseRequest, path: str) -> web.StreamResponse:
        if request.method not in ("GET", "HEAD"):
            raise errors.method_not_allowed()
        parts = [part for part in path.split("/") if part]
        value = self._discovery(request, parts)
        if value is not None:
            return value
        answer = self.documents(request, path)
        if answer is None:
            raise errors.path_not_found()
        return answer

    def _discovery(self, request: BaseRequest, parts: list[str]) -> web.Response | None:
        value: dict[str, Any] | None = None
        if not parts:
            value = {"paths": ["/api", "/api/v1", "/apis", "/healthz", "/openapi/v3", "/version"]}
        elif parts[0] == "api" and len(parts) <= 2:
            if len(parts) == 1:
                return self._root(request, core=True)
            value = discovery.resource_list(self.kinds, "", parts[1])
        elif parts[0] == "apis" and len(parts) <= 3:
            if len(parts) == 1:
                return self._root(request, core=False)
            if len(parts) == 2:
                value = discovery.group(self.kinds, parts[1])
            else:
                value = discovery.resource_list(self.kinds, parts[1], parts[2])
        if value is None:
            return None
        return respond(value, negotiate.accept(request.headers.get("Accept", "")))

    def _root(self, request: BaseRequest, *, core: bool) -> web.Response:
        """Aggregated for those who know it, else the list of groups."""
        accepted = negotiate.accept(request.headers.get("Accept", ""), as_kinds=(_AGGREGATED,))
        if accepted.as_kind and accepted.version == "v2":
            response = respond(discovery.aggregated(self.kinds, core=core))
            response.headers["Content-Type"] = (
                f"application/json;g=apidiscovery.k8s.io;v=v2;as={_AGGREGATED}"
            )
            return response
        if core:
            return respond(discovery.core_versions())
        return respond(discovery.group_list(self.kinds))
