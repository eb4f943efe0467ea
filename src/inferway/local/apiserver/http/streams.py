"""Watches on the wire: one JSON object a line, sent as soon as it happens."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web
from aiohttp.web_request import BaseRequest

from inferway.local.apiserver.http import negotiate
from inferway.local.apiserver.http.answers import Form
from inferway.local.apiserver.registry import errors
from inferway.local.apiserver.registry import table as tables
from inferway.local.apiserver.registry.errors import StatusError
from inferway.local.apiserver.registry.kinds import Kind
from inferway.local.apiserver.registry.options import Target, WatchOptions
from inferway.local.apiserver.registry.reading import WatchItem, body_of, watch
from inferway.local.apiserver.registry.registry import Registry

# A local stack has some dozens; each costs a connection and a cursor in the log.
WATCHERS_MAX = 2000


class Watchers:
    """Counts the running watches."""

    def __init__(self, watchers_max: int = WATCHERS_MAX) -> None:
        self._watchers_max = watchers_max
        self._running = 0

    @property
    def running(self) -> int:
        return self._running

    def enter(self) -> None:
        """Raises StatusError 429."""
        if self._running >= self._watchers_max:
            raise errors.too_many_requests(
                f"there are {self._running} watches, the most this server takes; "
                "please try again later",
                1,
            )
        self._running += 1

    def leave(self) -> None:
        self._running -= 1


async def stream_watch(
    request: BaseRequest, registry: Registry, target: Target, options: WatchOptions, form: Form
) -> web.StreamResponse:
    """Answers a watch until it ends; what goes wrong after the first byte is an ERROR event."""
    response = web.StreamResponse()
    response.content_type = negotiate.JSON
    response.headers["Cache-Control"] = "no-cache, private"
    response.enable_chunked_encoding()
    prepared = False
    try:
        await response.prepare(request)
        prepared = True
        columns_sent = False
        async for item in watch(registry, target, options, registry.clock):
            await response.write(_line(target.kind, item, form, columns_sent))
            columns_sent = columns_sent or item.stored is not None
    except StatusError as error:
        if not prepared:
            raise
        event = {"type": "ERROR", "object": error.to_object()}
        await response.write(msgspec.json.encode(event) + b"\n")
    except (ConnectionError, RuntimeError):
        # The client has gone; there is nobody to tell.
        return response
    await response.write_eof()
    return response


def _line(kind: Kind, item: WatchItem, form: Form, columns_sent: bool) -> bytes:
    if item.stored is None:
        body = msgspec.json.encode(_bookmark(kind, item, form))
    elif not form.accept.as_kind:
        body = body_of(kind, item.stored)
    else:
        obj = msgspec.json.decode(body_of(kind, item.stored))
        value = form.object(kind, obj)
        if form.accept.as_kind == "Table" and columns_sent:
            # Kubernetes sends the columns with the first event only.
            value["columnDefinitions"] = None
        body = msgspec.json.encode(value)
    return b'{"type":"' + item.type.encode() + b'","object":' + body + b"}\n"


def _bookmark(kind: Kind, item: WatchItem, form: Form) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "resourceVersion": str(item.revision),
        "creationTimestamp": None,
    }
    if item.initial_end:
        metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
    obj = {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": metadata}
    if form.accept.as_kind == "Table":
        table = tables.table(kind, [], form.clock.wall(), form.include)
        table["metadata"] = {"resourceVersion": str(item.revision)}
        table["rows"] = [{"cells": [], "object": obj}]
        return table
    if form.accept.as_kind:
        return tables.partial(obj)
    return obj
