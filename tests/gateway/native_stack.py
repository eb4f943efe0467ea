"""Real Envoy with the native pick filter, one server and a scripted picker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from gateway_channel import ChannelServer
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


@dataclass
class NativeStack:
    """Requests to /one and /two go to pools of the same server with pickers of their own."""

    rig: Rig
    server: Server
    pickers: dict[str, ChannelServer] = field(default_factory=dict)

    @property
    def address(self) -> tuple[str, int]:
        return (self.rig.host, 8080)

    def socket(self, name: str) -> str:
        return str(self.rig.folder / f"{name}.sock")

    async def start_picker(self, name: str) -> ChannelServer:
        """As a picker that is started again on the socket of the one before."""

        async def pick(_: HttpRequest, writer: asyncio.StreamWriter) -> None:
            answer(writer, headers={"x-gateway-destination-endpoint": self.server.address})

        picker = self.pickers[name] = ChannelServer(pick)
        await picker.start("", self.socket(name))
        return picker

    async def serve(
        self,
        *names: str,
        fail_open: bool = False,
        seconds: float = 5.0,
        more: int = 0,
        replicas: tuple[str, ...] = (),
    ) -> None:
        """``more``: servers that do not exist, after the one that does; ``replicas``: pickers that
        decide for the same pools."""
        endpoints = [ir.Endpoint(self.server.host, self.server.port)]
        endpoints += [ir.Endpoint(own_address(60 + number), 1) for number in range(more)]
        pool = ir.ClusterKind.POOL
        clusters = [ir.Cluster("pool/ns/pool", pool, tuple(endpoints), strict=not fail_open)]
        routes = []
        for name in names:
            pick = ir.Pick(f"picker/ns/{name}", f"/pick/ns/{name}", seconds, fail_open)
            share = ir.Share("pool/ns/pool", 1, pick, pool=True)
            match = ir.RequestMatch(ir.PathMatch(ir.MatchKind.PREFIX, f"/{name}"))
            routes.append(ir.Route(name, match, (share,)))
            sockets = tuple(ir.Endpoint(self.socket(one)) for one in (name, *replicas))
            clusters.append(ir.Cluster(f"picker/ns/{name}", ir.ClusterKind.PICKER, sockets))
        port = ir.Port(80, (ir.Host("*", tuple(routes)),))
        await self.rig.publish(ir.Gateway("ns", "gw", (port,), tuple(clusters)))

    async def post(self, path: str = "/one", **options: object) -> HttpAnswer:
        return await request(self.address, path, **options)  # type: ignore[arg-type]


@asynccontextmanager
async def native_stack(module: str) -> AsyncIterator[NativeStack]:
    server = Server(json_backend("a"))
    await server.start(own_address(20))
    async with rig(module) as made:
        stack = NativeStack(made, server)
        await stack.start_picker("one")
        try:
            yield stack
        finally:
            for picker in stack.pickers.values():
                picker.stop()
            server.stop()
