"""The kubelet face: logs and Pods over HTTPS, for the API server only.

``/containerLogs/NAMESPACE/POD/CONTAINER``, ``/pods`` and ``/healthz``. A caller needs a client
certificate of the cluster's authority. Knows aiohttp; the Pods come through ``PodDirectory``.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import msgspec
from aiohttp import web

from inferway.base.clock import parse_rfc3339
from inferway.local.node.certificates import self_signed
from inferway.local.node.logreader import LogQuery, LogTail, limited, render, select, stored_lines
from inferway.local.node.options import NodeOptions

Object = dict[str, Any]

# How soon a followed line is seen; a look at an idle file costs 10 microseconds.
FOLLOW_SECONDS = 0.1
SHUTDOWN_SECONDS_MAX = 1.0


class PodDirectory(Protocol):
    """What the face needs of the node."""

    def pods(self) -> list[Object]: ...

    def log_of(self, namespace: str, pod: str, container: str, *, previous: bool) -> Path | str:
        """The file, or the reason why there is none."""
        ...

    def runs(self, namespace: str, pod: str, container: str) -> bool: ...


class Face:
    """The HTTP side."""

    def __init__(self, options: NodeOptions, directory: PodDirectory, ca: bytes | None) -> None:
        self._options = options
        self._directory = directory
        self._ca = ca
        self.port = options.kubelet_port

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Listens while the block runs. Raises OSError."""
        application = web.Application()
        application.router.add_get("/healthz", self._health)
        application.router.add_get("/pods", self._pods)
        path = "/containerLogs/{namespace}/{pod}/{container}"
        application.router.add_get(path, self._logs)
        runner = web.AppRunner(
            application,
            access_log=None,
            handler_cancellation=True,
            shutdown_timeout=SHUTDOWN_SECONDS_MAX,
        )
        await runner.setup()
        try:
            site = web.TCPSite(
                runner,
                self._options.host_ip,
                self._options.kubelet_port,
                ssl_context=self._tls(),
            )
            await site.start()
            self.port = int(runner.addresses[0][1])
            yield
        finally:
            await runner.cleanup()

    def _tls(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate, key = self._options.serving_certificate, self._options.serving_key
        if certificate is None or key is None:
            certificate, key = self_signed(
                self._options.state / "tls", self._options.host_ip, timedelta(days=3650)
            )
        context.load_cert_chain(certificate, key)
        ca = self._options.client_ca.read_bytes() if self._options.client_ca else self._ca
        if ca:
            context.load_verify_locations(cadata=ca.decode())
        context.verify_mode = ssl.CERT_OPTIONAL
        return context

    def _refused(self, request: web.Request) -> web.Response | None:
        """With CERT_OPTIONAL a certificate that is there has been verified."""
        transport = request.transport
        if transport is not None and transport.get_extra_info("peercert"):
            return None
        return web.Response(status=401, text="Unauthorized\n")

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _pods(self, request: web.Request) -> web.Response:
        refused = self._refused(request)
        if refused is not None:
            return refused
        body = {"kind": "PodList", "apiVersion": "v1", "metadata": {}}
        return web.Response(
            body=msgspec.json.encode({**body, "items": self._directory.pods()}),
            content_type="application/json",
        )

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        refused = self._refused(request)
        if refused is not None:
            return refused
        try:
            query = read_query(request.query, self._options.clock.wall())
        except ValueError as error:
            return web.Response(status=400, text=f"{error}\n")
        place = (
            request.match_info["namespace"],
            request.match_info["pod"],
            request.match_info["container"],
        )
        found = self._directory.log_of(*place, previous=query.previous)
        if isinstance(found, str):
            status = 404 if found.endswith("does not exist") else 400
            return web.Response(status=status, text=f"{found}\n")
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        tail = LogTail(found) if found.exists() and query.follow else None
        try:
            lines = await asyncio.to_thread(stored_lines, found)
            sent = 0
            for text in select(lines, query):
                await response.write(text)
                sent += len(text)
            if tail is not None:
                await self._follow(tail, query, response, place, sent)
        finally:
            if tail is not None:
                tail.close()
        await response.write_eof()
        return response

    async def _follow(
        self,
        tail: LogTail,
        query: LogQuery,
        response: web.StreamResponse,
        place: tuple[str, str, str],
        sent: int,
    ) -> None:
        left = None if query.limit_bytes is None else query.limit_bytes - sent
        while left is None or left > 0:
            # Asked before reading, so that the last lines of a container that ends are sent.
            running = self._directory.runs(*place)
            lines = tail.read()
            texts = [text for line in lines if (text := render(line, query)) is not None]
            for text in limited(texts, left):
                await response.write(text)
                left = None if left is None else left - len(text)
            if not lines:
                if not running:
                    return
                await asyncio.sleep(FOLLOW_SECONDS)


def read_query(query: Any, now_wall: float) -> LogQuery:
    """Reads the parameters of a log request. Raises ValueError in Kubernetes' words."""

    def flag(name: str) -> bool:
        return query.get(name, "") in {"true", "1", ""} if name in query else False

    def number(name: str) -> int | None:
        if name not in query:
            return None
        text = query[name]
        if not text.isdigit():
            raise ValueError(f"{name} must be greater than or equal to 0")
        return int(text)

    since = number("sinceSeconds")
    since_wall = None if since is None else now_wall - since
    if "sinceTime" in query:
        try:
            since_wall = parse_rfc3339(query["sinceTime"])
        except ValueError:
            raise ValueError("sinceTime must be a time in RFC 3339 format") from None
    stream = query.get("stream", "").lower()
    return LogQuery(
        follow=flag("follow"),
        previous=flag("previous"),
        timestamps=flag("timestamps"),
        tail_lines=number("tailLines"),
        limit_bytes=number("limitBytes"),
        since_wall=since_wall,
        stream=stream if stream in {"stdout", "stderr"} else "",
    )
