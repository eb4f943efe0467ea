"""A scripted API server: each test says what it answers, request by request."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from inferway.cluster.client import KubeClient
from inferway.cluster.kubeconfig import ClusterConfig

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def pod(name: str, version: int, *, uid: str = "", **labels: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": uid or f"uid-{name}",
            "resourceVersion": str(version),
            "labels": labels,
        },
    }


def status(code: int, reason: str, message: str, **details: Any) -> dict[str, Any]:
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure"}
    return {**body, "code": code, "reason": reason, "message": message, "details": details}


def pod_list(version: int, *items: dict[str, Any], more: str = "") -> dict[str, Any]:
    meta = {"resourceVersion": str(version), **({"continue": more} if more else {})}
    return {"kind": "PodList", "apiVersion": "v1", "metadata": meta, "items": list(items)}


class ScriptedServer:
    """Lists, watches and other answers in the order of the script; records what was asked."""

    def __init__(self) -> None:
        self.lists: list[Any] = []
        self.answers: list[tuple[int, Any]] = []
        self.watches: asyncio.Queue[asyncio.Queue[Any]] = asyncio.Queue()
        self.requests: list[tuple[str, str, dict[str, str], Any, dict[str, str]]] = []
        self.url = ""
        self._stopping = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.requests.append(
            (
                request.method,
                request.path,
                dict(request.query),
                json.loads(body) if body else None,
                dict(request.headers),
            )
        )
        if request.query.get("watch"):
            return await self._watch(request)
        if request.method == "GET" and self.lists and not self.answers:
            answer = self.lists.pop(0) if len(self.lists) > 1 else self.lists[0]
            return web.json_response(answer, status=answer.get("code", 200))
        code, answer = self.answers.pop(0)
        headers = answer.pop("_headers", {}) if isinstance(answer, dict) else {}
        if isinstance(answer, str):
            return web.Response(text=answer, status=code)
        return web.json_response(answer, status=code, headers=headers)

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        script: asyncio.Queue[Any] = asyncio.Queue()
        await self.watches.put(script)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        while True:
            item = await script.get()
            if item is None:
                return response
            if item == "cut":
                assert request.transport is not None
                request.transport.abort()
                return response
            data = item if isinstance(item, bytes) else json.dumps(item).encode() + b"\n"
            await response.write(data)

    def watch_queries(self) -> list[dict[str, str]]:
        return [query for _, _, query, _, _ in self.requests if query.get("watch")]


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    scripted = ScriptedServer()
    application = web.Application()
    application.router.add_route("*", "/{tail:.*}", scripted.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.01, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    scripted.url = f"http://127.0.0.1:{port}"
    yield scripted
    await runner.cleanup()


@pytest.fixture
async def client(server: ScriptedServer) -> AsyncIterator[KubeClient]:
    async with KubeClient(ClusterConfig(server.url, token="secret")) as opened:
        yield opened
