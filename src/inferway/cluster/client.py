"""A thin Kubernetes client: one coroutine for each verb, JSON values in and out.

Knows paths, media types, paging, retries that the server asks for, and the token that rotates.
Caches nothing. Raises the errors of ``cluster.errors``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Any, Literal, Self

import aiohttp
import msgspec

from inferway.api.resources import ResourceType
from inferway.base.clock import Clock, SystemClock
from inferway.cluster.credentials import TokenSource, ssl_context
from inferway.cluster.errors import (
    ApiError,
    BadAnswerError,
    GoneError,
    ServerUnreachableError,
    from_status,
)
from inferway.cluster.kubeconfig import ClusterConfig
from inferway.cluster.watch import INACTIVITY_SECONDS, WatchEvent, read_events

Object = dict[str, Any]

# What client-go asks for; a page of 500 Pods is about 4 MB.
LIST_PAGE_ITEMS = 500
# A list page of the largest allowed objects (1.5 MB each) would be more; nothing real comes close.
ANSWER_BYTES_MAX = 256 * 1024 * 1024
REQUEST_SECONDS_MAX = 60.0
CONNECT_SECONDS_MAX = 10.0
# How long the server may keep one watch; client-go picks 5 to 10 minutes.
WATCH_SECONDS = 540
# A server that sheds load names the pause itself; more attempts are left to the caller's back-off.
SHED_RETRIES_MAX = 3
SHED_PAUSE_SECONDS_MAX = 10.0

Propagation = Literal["Background", "Foreground", "Orphan"]


class PatchType(StrEnum):
    """The four ways to change an object, by their media types."""

    JSON = "application/json-patch+json"
    MERGE = "application/merge-patch+json"
    STRATEGIC = "application/strategic-merge-patch+json"
    APPLY = "application/apply-patch+yaml"


@dataclass(frozen=True, slots=True)
class ObjectList:
    """The items of a collection at one resourceVersion."""

    items: list[Object]
    resource_version: str


class KubeClient:
    """Speaks to one API server with one credential; ``async with`` opens and closes it."""

    def __init__(
        self,
        config: ClusterConfig,
        *,
        clock: Clock | None = None,
        user_agent: str = "inferway",
        inactivity_seconds: float = INACTIVITY_SECONDS,
    ) -> None:
        self.config = config
        self._tokens = TokenSource(config, clock or SystemClock())
        self._tls = ssl_context(config)
        self._user_agent = user_agent
        self._inactivity_seconds = inactivity_seconds
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        # No limit on connections: callers are informers and workers, whose number is fixed, and a
        # limit below the number of watches would hang every request.
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30.0)
        self._session = aiohttp.ClientSession(
            connector=connector,
            headers={"User-Agent": self._user_agent, "Accept": "application/json"},
            timeout=aiohttp.ClientTimeout(
                total=REQUEST_SECONDS_MAX, sock_connect=CONNECT_SECONDS_MAX
            ),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def get(self, resource: ResourceType, name: str, namespace: str | None = None) -> Object:
        """One object."""
        return await self._object("GET", resource.path(namespace, name))

    async def list(
        self,
        resource: ResourceType,
        namespace: str | None = None,
        labels: str = "",
        fields: str = "",
    ) -> ObjectList:
        """All objects that match, page by page; starts anew if the pages expire on the way."""
        selectors = _selectors(labels, fields)
        try:
            return await self._pages(resource, namespace, selectors, LIST_PAGE_ITEMS)
        except GoneError:
            return await self._pages(resource, namespace, selectors, 0)

    async def _pages(
        self, resource: ResourceType, namespace: str | None, selectors: dict[str, str], limit: int
    ) -> ObjectList:
        items: list[Object] = []
        query = {**selectors, **({"limit": str(limit)} if limit else {})}
        while True:
            page = await self._object("GET", resource.path(namespace), query=query)
            for item in page.get("items") or []:
                # Typed lists leave these two out; a stored object has them.
                item.setdefault("apiVersion", resource.api_version)
                item.setdefault("kind", resource.kind)
                items.append(item)
            meta = page.get("metadata") or {}
            if not meta.get("continue"):
                return ObjectList(items, str(meta.get("resourceVersion") or ""))
            query["continue"] = str(meta["continue"])

    async def create(
        self, resource: ResourceType, obj: Mapping[str, Any], namespace: str | None = None
    ) -> Object:
        """The created object; the namespace is the object's own unless one is given."""
        place = namespace or obj.get("metadata", {}).get("namespace")
        return await self._object("POST", resource.path(place), body=obj)

    async def update(
        self, resource: ResourceType, obj: Mapping[str, Any], subresource: str | None = None
    ) -> Object:
        """Replaces the object; a resourceVersion in it makes a stale write a ConflictError."""
        meta = obj["metadata"]
        path = _sub(resource.path(meta.get("namespace"), meta["name"]), subresource)
        return await self._object("PUT", path, body=obj)

    async def patch(
        self,
        resource: ResourceType,
        name: str,
        patch: Any,
        namespace: str | None = None,
        *,
        patch_type: PatchType = PatchType.MERGE,
        subresource: str | None = None,
        field_manager: str = "",
    ) -> Object:
        """Changes the object, which is returned as it is afterwards."""
        path = _sub(resource.path(namespace, name), subresource)
        query = {"fieldManager": field_manager} if field_manager else {}
        return await self._object("PATCH", path, body=patch, query=query, media=patch_type.value)

    async def apply(
        self,
        resource: ResourceType,
        obj: Mapping[str, Any],
        field_manager: str,
        *,
        force: bool = True,
        subresource: str | None = None,
    ) -> Object:
        """Server-side apply of the fields that ``field_manager`` owns."""
        meta = obj["metadata"]
        path = _sub(resource.path(meta.get("namespace"), meta["name"]), subresource)
        query = {"fieldManager": field_manager, "force": "true" if force else "false"}
        body = {"apiVersion": resource.api_version, "kind": resource.kind, **obj}
        return await self._object(
            "PATCH", path, body=body, query=query, media=PatchType.APPLY.value
        )

    async def delete(
        self,
        resource: ResourceType,
        name: str,
        namespace: str | None = None,
        *,
        propagation: Propagation = "Background",
        grace_seconds: int | None = None,
        uid: str | None = None,
    ) -> Object:
        """The object if it lingers (finalizers, grace), else a Status.

        With ``uid`` a namesake that was made meanwhile is left alone (ConflictError).
        """
        options: Object = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": propagation,
        }
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        return await self._object("DELETE", resource.path(namespace, name), body=options)

    async def watch(
        self,
        resource: ResourceType,
        namespace: str | None = None,
        labels: str = "",
        fields: str = "",
        *,
        resource_version: str = "",
    ) -> AsyncGenerator[WatchEvent, None]:
        """Changes after ``resource_version`` until the server ends the watch.

        Bookmarks are asked for. Raises GoneError if the version is too old, and
        ServerUnreachableError if nothing, not even a bookmark, came for the inactivity time.
        """
        query = {
            **_selectors(labels, fields),
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        if resource_version:
            query["resourceVersion"] = resource_version
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_SECONDS_MAX, sock_read=self._inactivity_seconds
        )
        try:
            async with self._send("GET", resource.path(namespace), query, None, timeout) as answer:
                if answer.status >= 400:
                    raise from_status(answer.status, _decoded(await answer.read()))
                async for event in read_events(answer.content.iter_any()):
                    yield event
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unreachable(error) from None

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, str] | None = None,
        media: str = "application/json",
    ) -> Any:
        """Any request; the decoded JSON answer, or text where the answer is not JSON."""
        for attempt in range(SHED_RETRIES_MAX + 1):
            status, payload = await self._exchange(method, path, body, query, media)
            if status < 400:
                return payload
            error = from_status(status, payload)
            if status == 401 and attempt == 0 and self._tokens.expire():
                continue
            pause = error.retry_after_seconds
            if status not in (429, 503) or pause is None or attempt == SHED_RETRIES_MAX:
                raise error
            await asyncio.sleep(min(pause, SHED_PAUSE_SECONDS_MAX))
        raise AssertionError("the last attempt returns or raises")

    async def _object(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        query: Mapping[str, str] | None = None,
        media: str = "application/json",
    ) -> Object:
        answer = await self.request(method, path, body, query=query, media=media)
        if not isinstance(answer, dict):
            raise BadAnswerError(200, "", f"{method} {path} did not answer with an object")
        return answer

    async def _exchange(
        self, method: str, path: str, body: Any, query: Mapping[str, str] | None, media: str
    ) -> tuple[int, Any]:
        data = None if body is None else msgspec.json.encode(body)
        headers = {"Content-Type": media} if data is not None else {}
        try:
            async with self._send(method, path, query, data, None, headers) as answer:
                if (answer.content_length or 0) > ANSWER_BYTES_MAX:
                    raise BadAnswerError(answer.status, "", "the answer is too large")
                payload = _decoded(await answer.read())
                if isinstance(payload, dict) and "Retry-After" in answer.headers:
                    _note_retry_after(payload, answer.headers["Retry-After"])
                return answer.status, payload
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unreachable(error) from None

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        data: bytes | None,
        timeout: aiohttp.ClientTimeout | None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        assert self._session is not None, "KubeClient is used outside of its async with"
        token = self._tokens.token()
        options: dict[str, Any] = {} if timeout is None else {"timeout": timeout}
        if self.config.server_name:
            options["server_hostname"] = self.config.server_name
        return self._session.request(
            method,
            self.config.server + path,
            params=query or None,
            data=data,
            headers={**(headers or {}), **({"Authorization": f"Bearer {token}"} if token else {})},
            ssl=self._tls if self._tls is not None else True,
            allow_redirects=False,
            **options,
        )

    def _unreachable(self, error: Exception) -> ServerUnreachableError:
        return ServerUnreachableError(self.config.server, str(error) or type(error).__name__)


def _selectors(labels: str, fields: str) -> dict[str, str]:
    query = {}
    if labels:
        query["labelSelector"] = labels
    if fields:
        query["fieldSelector"] = fields
    return query


def _sub(path: str, subresource: str | None) -> str:
    return f"{path}/{subresource}" if subresource else path


def _decoded(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except msgspec.DecodeError:
        return data.decode(errors="replace")


def _note_retry_after(payload: dict[str, Any], value: str) -> None:
    if payload.get("kind") == "Status" and value.isdigit():
        details = payload.get("details")
        payload["details"] = {
            "retryAfterSeconds": int(value),
            **(details if isinstance(details, dict) else {}),
        }


__all__ = [
    "ApiError",
    "KubeClient",
    "Object",
    "ObjectList",
    "PatchType",
    "WatchEvent",
]
