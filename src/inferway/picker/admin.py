"""The picker's HTTP for operators: metrics, probes, and why a decision was what it was."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web

from inferway.observe.exposition import Exposition
from inferway.picker.debug import DecisionRing


def application(
    exposition: Exposition, ring: DecisionRing, not_ready: Callable[[], str]
) -> web.Application:
    """``not_ready`` says what is missing, or nothing."""

    async def metrics(request: web.Request) -> web.Response:
        pieces, kind = exposition.pieces(request.headers.get("accept", ""))
        page = bytearray()
        for piece in pieces:
            page += piece
            # Requests are answered while a page is written.
            await asyncio.sleep(0)
        return web.Response(body=page, headers={"Content-Type": kind})

    async def healthz(request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(request: web.Request) -> web.Response:
        missing = not_ready()
        if missing:
            return web.Response(text=f"not ready: {missing}\n", status=503)
        return web.Response(text="ok\n")

    async def decisions(request: web.Request) -> web.Response:
        return web.Response(body=ring.as_json(), content_type="application/json")

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/debug/decisions", decisions)
    return app
