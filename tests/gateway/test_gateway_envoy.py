"""Real Envoy with the configuration of the IR: the fast path and what surrounds it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio
from gateway_rig import (
    HttpAnswer,
    HttpRequest,
    Rig,
    Server,
    answer,
    json_backend,
    own_address,
    request,
    rig,
)

from inferway.gateway.translate import ir

pytestmark = pytest.mark.slow
PORT = 80


@dataclass
class Stack:
    """One Envoy, three servers and a picker on a Unix socket."""

    rig: Rig
    servers: list[Server]
    picker: Server
    picks: str = ""

    @property
    def address(self) -> tuple[str, int]:
        return (self.rig.host, PORT + 8000)

    def endpoints(self) -> tuple[ir.Endpoint, ...]:
        return tuple(sorted(ir.Endpoint(item.host, item.port) for item in self.servers))

    def pick(self, *, fail_open: bool, seconds: float = 5.0, splice: bool = False) -> ir.Pick:
        return ir.Pick("picker/ns/epp", "/pick/ns/pool", seconds, fail_open, splice)

    def gateway(self, *routes: ir.Route, strict: bool = True) -> ir.Gateway:
        socket = ir.Endpoint(str(self.rig.folder / "pick.sock"))
        return ir.Gateway(
            "ns",
            "gw",
            (ir.Port(PORT, (ir.Host("*", routes),)),),
            (
                ir.Cluster("picker/ns/epp", ir.ClusterKind.PICKER, (socket,)),
                ir.Cluster("pool/ns/pool", ir.ClusterKind.POOL, self.endpoints(), strict=strict),
                ir.Cluster("service/ns/web/80", ir.ClusterKind.SERVICE, self.endpoints()[2:]),
            ),
        )

    async def serve(self, *, fail_open: bool = False, seconds: float = 5.0) -> None:
        share = ir.Share(
            "pool/ns/pool", 1, self.pick(fail_open=fail_open, seconds=seconds), pool=True
        )
        route = ir.Route("r", ir.RequestMatch(), (share,))
        await self.rig.publish(self.gateway(route, strict=not fail_open))

    async def post(self, **options: object) -> HttpAnswer:
        return await request(self.address, **options)  # type: ignore[arg-type]


@pytest_asyncio.fixture
async def stack() -> AsyncIterator[Stack]:
    async with rig() as made:
        servers = []
        for number in range(3):
            server = Server(json_backend(str(number)))
            await server.start(own_address(10 + number))
            servers.append(server)
        built = Stack(made, servers, Server(json_backend("unused")))

        async def pick(_: HttpRequest, writer: asyncio.StreamWriter) -> None:
            headers = {"x-gateway-destination-endpoint": built.picks, "x-inferway-pick": "p-1"}
            answer(writer, headers=headers)

        built.picker.handler = pick
        built.picks = servers[1].address
        await built.picker.start("", str(made.folder / "pick.sock"))
        yield built
        for server in [*servers, built.picker]:
            server.stop()


async def test_picked_server_answers(stack: Stack) -> None:
    await stack.serve()
    reply = await stack.post(
        headers={"x-session": "s", "authorization": "Bearer k"}, body=b'{"a":1}'
    )
    assert reply.status == 200
    assert reply.json()["server"] == "1"
    assert reply.headers["x-went-into-resp-headers"] == "true"
    assert reply.headers["server"] == "uvicorn"
    assert reply.headers["x-request-id"]
    (asked,) = stack.picker.seen
    assert asked.path == "/pick/ns/pool/v1/completions"
    assert asked.body == b'{"a":1}'
    assert asked.headers["x-session"] == "s"
    assert asked.headers["x-request-id"] == reply.headers["x-request-id"]
    (served,) = stack.servers[1].seen
    assert "x-gateway-destination-endpoint" not in served.headers
    assert served.headers["authorization"] == "Bearer k"
