"""A model server that answers only what a picker asks, and can be told to misbehave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web


class FakeServer:
    def __init__(self, models: list[dict[str, object]]) -> None:
        self.models = models
        self.metrics = "vllm:num_requests_waiting 0\nvllm:num_requests_running 0\n"
        self.hang = asyncio.Event()
        self.hang.set()
        self.address = ""
        self.asked: list[str] = []

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[FakeServer]:
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/v1/models", self._models)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.address = f"127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            self.hang.set()
            await runner.cleanup()

    async def _metrics(self, request: web.Request) -> web.Response:
        self.asked.append("metrics")
        await self.hang.wait()
        return web.Response(text=self.metrics)

    async def _models(self, request: web.Request) -> web.Response:
        self.asked.append("models")
        await self.hang.wait()
        return web.json_response({"object": "list", "data": self.models})
