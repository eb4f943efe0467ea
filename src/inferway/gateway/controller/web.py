"""Health and metrics on one port."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from inferway.gateway.controller.brain import Brain
from inferway.gateway.xds.hub import Hub


@asynccontextmanager
async def serve(
    address: tuple[str, int], ready: Callable[[], bool], metrics: Callable[[], str]
) -> AsyncIterator[None]:
    """Serves /healthz, /readyz and /metrics while the context is open."""

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        if ready():
            return web.Response(text="ok\n")
        return web.Response(status=503, text="collections are not listed yet\n")

    async def metrics_page(_: web.Request) -> web.Response:
        return web.Response(text=metrics(), content_type="text/plain")

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics_page)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, *address).start()
        yield
    finally:
        await runner.cleanup()


def metrics_text(brain: Brain, hub: Hub) -> str:
    """The few numbers of the controller in Prometheus' text format."""
    gateways = brain.result.gateways
    refusals = sum(len(hub.progress(f"{key[0]}/{key[1]}").refusals) for key in gateways)
    rows = (
        ("inferway_gateway_translations_total", "counter", brain.translations),
        ("inferway_gateway_builds_total", "counter", brain.builds),
        ("inferway_gateway_gateways", "gauge", len(gateways)),
        ("inferway_gateway_proxies_connected", "gauge", hub.connected),
        ("inferway_gateway_refused_resources", "gauge", refusals),
        ("inferway_gateway_diagnostics", "gauge", len(brain.result.diagnostics)),
    )
    lines = []
    for name, type_, value in rows:
        lines += [f"# TYPE {name} {type_}", f"{name} {value}"]
    return "\n".join(lines) + "\n"
