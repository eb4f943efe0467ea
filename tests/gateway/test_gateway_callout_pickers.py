"""Several pickers behind the callout in real Envoy: all are asked, and one may be gone."""

from __future__ import annotations

import asyncio

import pytest
from gateway_rig import (
    DEADLINE_SECONDS,
    HttpRequest,
    Server,
    answer,
    json_backend,
    own_address,
    request,
    rig,
)

from inferway.gateway.translate import ir

pytestmark = pytest.mark.slow


def gateway(server: Server, sockets: list[str]) -> ir.Gateway:
    """One pool that fails closed."""
    endpoint = ir.Endpoint(server.host, server.port)
    pool = ir.Cluster("pool/ns/pool", ir.ClusterKind.POOL, (endpoint,), strict=True)
    pickers = tuple(ir.Endpoint(socket) for socket in sockets)
    picker = ir.Cluster("picker/ns/epp", ir.ClusterKind.PICKER, pickers)
    pick = ir.Pick("picker/ns/epp", "/pick/ns/pool", 5.0, fail_open=False)
    share = ir.Share("pool/ns/pool", 1, pick, pool=True)
    route = ir.Route("r", ir.RequestMatch(ir.PathMatch(ir.MatchKind.PREFIX, "/")), (share,))
    return ir.Gateway("ns", "gw", (ir.Port(80, (ir.Host("*", (route,)),)),), (pool, picker))


@pytest.mark.parametrize("way", ["nobody listens", "hangs up"])
async def test_another_picker_is_asked(way: str) -> None:
    server = Server(json_backend("a"))
    await server.start(own_address(20))

    async def pick(_: HttpRequest, writer: asyncio.StreamWriter) -> None:
        answer(writer, headers={"x-gateway-destination-endpoint": server.address})

    async def hang_up(_: HttpRequest, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    good, bad = Server(pick), Server(hang_up)
    async with rig() as made:
        sockets = [str(made.folder / name) for name in ("good.sock", "bad.sock")]
        await good.start("", sockets[0])
        if way == "hangs up":
            await bad.start("", sockets[1])
        try:
            await made.publish(gateway(server, sockets))
            async with asyncio.timeout(DEADLINE_SECONDS):
                body = b'{"model": "m", "prompt": "%b"}' % (b"x" * 10_000)
                address = (made.host, 8080)
                replies = [await request(address, "/", body=body) for _ in range(30)]
            assert [reply.status for reply in replies] == [200] * 30
        finally:
            for one in (good, bad, server):
                one.stop()
