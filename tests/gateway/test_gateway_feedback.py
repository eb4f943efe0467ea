"""Access logs of real Envoy as a picker gets them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
import pytest
from envoy.service.accesslog.v3 import als_pb2
from gateway_rig import (
    DEADLINE_SECONDS,
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
_STREAM = (
    b'data: {"choices": []}\n\n'
    b'data: {"usage": {"prompt_tokens": 7, "completion_tokens": 8,'
    b' "prompt_tokens_details": {"cached_tokens": 2}}}\n\ndata: [DONE]\n\n'
)


@dataclass
class Log:
    """A feedback server that keeps what it hears."""

    port: int = 0
    names: set[str] = field(default_factory=set)
    entries: list[Any] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def stream(self, messages: Any, context: Any) -> Any:
        async for message in messages:
            if message.HasField("identifier"):
                self.names.add(message.identifier.log_name)
            self.entries += message.http_logs.log_entry
            self.arrived.set()
        return als_pb2.StreamAccessLogsResponse()

    async def first(self, count: int) -> list[Any]:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while len(self.entries) < count:
                self.arrived.clear()
                await self.arrived.wait()
        return self.entries


@asynccontextmanager
async def feedback(host: str) -> AsyncIterator[Log]:
    log = Log()
    server = grpc.aio.server()
    handler = grpc.stream_unary_rpc_method_handler(
        log.stream,
        request_deserializer=als_pb2.StreamAccessLogsMessage.FromString,
        response_serializer=als_pb2.StreamAccessLogsResponse.SerializeToString,
    )
    service = "envoy.service.accesslog.v3.AccessLogService"
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {"StreamAccessLogs": handler}),)
    )
    log.port = server.add_insecure_port(f"{host}:0")
    await server.start()
    try:
        yield log
    finally:
        await server.stop(None)


def pool(name: str, made: Rig, log: Log, server: Server) -> tuple[ir.Share, list[ir.Cluster]]:
    pick = ir.Pick(f"picker/ns/{name}", f"/pick/ns/{name}", 5.0, fail_open=False)
    socket = ir.Endpoint(str(made.folder / "pick.sock"))
    endpoint = ir.Endpoint(server.host, server.port)
    share = ir.Share(f"pool/ns/{name}", 1, pick, pool=True)
    return share, [
        ir.Cluster(f"picker/ns/{name}", ir.ClusterKind.PICKER, (socket,)),
        ir.Cluster(f"pool/ns/{name}", ir.ClusterKind.POOL, (endpoint,), strict=True),
        ir.Cluster(
            f"feedback/ns/{name}", ir.ClusterKind.FEEDBACK, (ir.Endpoint(made.host, log.port),)
        ),
    ]


async def test_usage_and_destination_reach_the_picker_that_picked() -> None:
    server = Server(json_backend("a"))
    await server.start(own_address(20))

    async def pick(asked: HttpRequest, writer: asyncio.StreamWriter) -> None:
        if asked.path.endswith("/busy"):
            answer(writer, b"{}", status=429)
            return
        headers = {"x-gateway-destination-endpoint": f"{own_address(51)}:1,{server.address}"}
        answer(writer, headers={**headers, "x-inferway-pick": asked.path})

    async def serve(asked: HttpRequest, writer: asyncio.StreamWriter) -> None:
        if asked.path.endswith("/stream"):
            answer(writer, _STREAM, headers={"content-type": "text/event-stream"})
        else:
            await json_backend("a")(asked, writer)

    server.handler = serve
    picker = Server(pick)
    async with rig() as made, feedback(made.host) as first, feedback(made.host) as second:
        await picker.start("", str(made.folder / "pick.sock"))
        one, clusters = pool("one", made, first, server)
        two, more = pool("two", made, second, server)
        routes = tuple(
            ir.Route(
                share.cluster,
                ir.RequestMatch(ir.PathMatch(ir.MatchKind.PREFIX, f"/{share.cluster[-3:]}")),
                (share,),
            )
            for share in (one, two)
        )
        service = ir.Cluster("service/ns/web/80", ir.ClusterKind.SERVICE, clusters[1].endpoints)
        plain = ir.Route("plain", ir.RequestMatch(), (ir.Share("service/ns/web/80"),))
        port = ir.Port(80, (ir.Host("*", (*routes, plain)),))
        gateway = ir.Gateway("ns", "gw", (port,), (*clusters, *more, service))
        await made.publish(gateway)
        address = (made.host, 8080)
        for path in ("/plain", "/one/busy", "/one/json", "/two/stream", "/one/stream"):
            await request(address, path)
        json_entry, stream_entry = await first.first(2)
        (other,) = await second.first(1)
    picker.stop()
    server.stop()
    assert first.names == {"inferway"}
    headers = json_entry.request.request_headers
    assert headers["x-inferway-pick"] == "/pick/ns/one/one/json"
    metadata = json_entry.common_properties.metadata.filter_metadata
    assert dict(metadata["inferway.usage"]) == {"prompt_tokens": 3, "completion_tokens": 4}
    picked = metadata["envoy.filters.http.ext_authz"]["x-gateway-destination-endpoint"]
    assert picked == f"{own_address(51)}:1,{server.address}"
    remote = json_entry.common_properties.upstream_remote_address.socket_address
    assert (remote.address, remote.port_value) == (server.host, server.port)
    assert json_entry.common_properties.upstream_request_attempt_count == 1
    assert json_entry.common_properties.HasField("time_to_first_upstream_rx_byte")
    for entry in (stream_entry, other):
        usage = entry.common_properties.metadata.filter_metadata["inferway.usage"]
        assert dict(usage) == {"prompt_tokens": 7, "completion_tokens": 8, "cached_tokens": 2}
    assert other.request.request_headers["x-inferway-pick"] == "/pick/ns/two/two/stream"
