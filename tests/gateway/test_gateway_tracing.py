"""Envoy's own spans: off by default, and else the parents of the picker's and of the server's.

Real Envoy, real picker, and a collector on loopback that keeps what it is sent.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from aiohttp import web
from gateway_channel import ChannelServer
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
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from inferway.gateway.controller.options import parse
from inferway.gateway.envoy.listener import Site
from inferway.gateway.envoy.names import CLUSTER_TYPE, LISTENER_TYPE, ROUTE_TYPE
from inferway.gateway.envoy.resources import Built, Options
from inferway.gateway.envoy.tracing import COLLECTOR, Tracing
from inferway.gateway.translate import ir
from inferway.observe.spans import Parent, Sampler, parent_of

GOLDEN = Path(__file__).parent / "testdata" / "tracing.xds.yaml"
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def gateway(server: ir.Endpoint, picker: ir.Endpoint) -> ir.Gateway:
    pick = ir.Pick("picker/ns/epp", "/pick/ns/pool", 5.0, fail_open=False)
    shares = {
        "/pool": ir.Share("pool/ns/pool", 1, pick, pool=True),
        "/plain": ir.Share("service/ns/plain"),
    }
    routes = tuple(
        ir.Route(path, ir.RequestMatch(ir.PathMatch(ir.MatchKind.PREFIX, path)), (share,))
        for path, share in shares.items()
    )
    clusters = (
        ir.Cluster("pool/ns/pool", ir.ClusterKind.POOL, (server,), strict=True),
        ir.Cluster("picker/ns/epp", ir.ClusterKind.PICKER, (picker,)),
        ir.Cluster("service/ns/plain", ir.ClusterKind.SERVICE, (server,)),
    )
    return ir.Gateway("ns", "gw", (ir.Port(80, (ir.Host("*", routes),)),), clusters)


@dataclass
class Collector:
    """Keeps the spans of Envoy; ``protocol`` as OTEL_EXPORTER_OTLP_PROTOCOL has it."""

    address: str = ""
    spans: list[Any] = field(default_factory=list)
    resource: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    came: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, data: bytes, headers: dict[str, str]) -> None:
        read = trace_service_pb2.ExportTraceServiceRequest.FromString(data)
        self.headers = headers
        for item in read.resource_spans:
            self.resource = {a.key: a.value.string_value for a in item.resource.attributes}
            for scope in item.instrumentation_library_spans:
                self.spans += scope.spans
        self.came.set()

    async def until(self, count: int) -> dict[str, Any]:
        """So many spans, by their ids."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while len(self.spans) < count:
                self.came.clear()
                await self.came.wait()
        return {span.span_id.hex(): span for span in self.spans}


@asynccontextmanager
async def collector(protocol: str) -> AsyncIterator[Collector]:
    made = Collector()
    host = own_address(30)
    if protocol == "grpc":

        async def export(data: bytes, context: Any) -> bytes:
            made.take(data, dict(context.invocation_metadata()))
            return b""

        server = grpc.aio.server()
        method = grpc.unary_unary_rpc_method_handler(export)
        name = "opentelemetry.proto.collector.trace.v1.TraceService"
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(name, {"Export": method}),)
        )
        made.address = f"{host}:{server.add_insecure_port(f'{host}:0')}"
        await server.start()
        yield made
        await server.stop(0)
        return

    async def post(asked: web.Request) -> web.Response:
        made.take(await asked.read(), dict(asked.headers))
        return web.Response()

    app = web.Application()
    app.router.add_post("/v1/traces", post)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, host, 0)
    await site.start()
    made.address = "{}:{}".format(*runner.addresses[0][:2])
    yield made
    await runner.cleanup()


@dataclass
class Traced:
    """A gateway with a scripted picker, a server and a collector."""

    rig: Rig
    server: Server
    picker: Any
    collector: Collector
    native: bool

    async def post(self, path: str, traceparent: str = "") -> None:
        headers = {"traceparent": traceparent} if traceparent else {}
        reply = await request((self.rig.host, 8080), path, headers=headers)
        assert reply.status == 200, reply

    def parents(self) -> tuple[Parent | None, Parent | None]:
        """Whose children the picker and the server are told that they are, of the last request."""
        told = (self.picker.seen[-1], self.server.seen[-1])
        picker, server = (parent_of(r.headers.get("traceparent", "").encode()) for r in told)
        return picker, server


@asynccontextmanager
async def traced(protocol: str, module: str = "", **settings: Any) -> AsyncIterator[Traced]:
    server = Server(json_backend("a"))
    await server.start(own_address(20))

    async def pick(_: HttpRequest, writer: asyncio.StreamWriter) -> None:
        answer(writer, headers={"x-gateway-destination-endpoint": server.address})

    picker = ChannelServer(pick) if module else Server(pick)
    async with collector(protocol) as kept, rig(module) as made:
        socket = str(made.folder / "picker.sock")
        await picker.start("", socket)
        path = "" if protocol == "grpc" else "/v1/traces"
        tracing = Tracing(f"http://{kept.address}{path}", protocol, **settings)
        wanted = gateway(ir.Endpoint(server.host, server.port), ir.Endpoint(socket))
        await made.publish(wanted, options=Options(tracing=tracing))
        try:
            yield Traced(made, server, picker, kept, native=bool(module))
        finally:
            picker.stop()
            server.stop()


@pytest.fixture(params=["callout", "native"])
def module(request: pytest.FixtureRequest) -> str:
    return "" if request.param == "callout" else str(request.getfixturevalue("pick_module"))


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
async def test_the_gateways_span_is_the_parent(module: str, protocol: str) -> None:
    settings = {"service": "front", "headers": (("x-team", "t"),), "resource": {"zone": "z"}}
    async with traced(protocol, module, share=1.0, **settings) as stack:
        await stack.post("/pool")
        picker, server = stack.parents()
        assert picker is not None
        assert server is not None
        # The callout is a span of its own, between the gateway's and the picker's.
        spans = await stack.collector.until(1 if stack.native else 2)
        own = spans[server.span_id.hex()]
        assert (own.trace_id, own.parent_span_id) == (picker.trace_id, b"")
        assert server.trace_id == picker.trace_id
        assert server.sampled
        assert picker.sampled
        asked = spans[picker.span_id.hex()]
        assert asked is own if stack.native else asked.parent_span_id == own.span_id
        assert stack.collector.resource["service.name"] == "front"
        assert stack.collector.resource["inferway.gateway"] == "ns/gw"
        assert stack.collector.resource["zone"] == "z"
        assert stack.collector.headers["x-team"] == "t"


@pytest.mark.slow
async def test_a_client_decides_about_its_trace(module: str) -> None:
    async with traced("grpc", module, share=0.0) as stack:
        await stack.post("/pool", f"00-{TRACE}-{SPAN}-00")
        for parent in stack.parents():
            assert parent is not None
            assert (parent.trace_id.hex(), parent.sampled) == (TRACE, False)
        await stack.post("/pool")
        for parent in stack.parents():
            assert parent is not None
            assert not parent.sampled
        await stack.post("/pool", f"00-{TRACE}-{SPAN}-01")
        picker, server = stack.parents()
        assert picker is not None
        assert server is not None
        assert picker.sampled
        assert server.sampled
        spans = await stack.collector.until(1 if stack.native else 2)
        assert {span.trace_id.hex() for span in spans.values()} == {TRACE}
        assert spans[server.span_id.hex()].parent_span_id.hex() == SPAN


@pytest.mark.slow
async def test_a_share_of_traces_is_kept_and_all_agree(module: str) -> None:
    async with traced("grpc", module, share=0.5, parent_based=False) as stack:
        kept = 0
        for _ in range(60):
            await stack.post("/pool")
            picker, server = stack.parents()
            assert picker is not None
            assert server is not None
            assert picker.sampled == server.sampled
            if stack.native:
                assert picker.sampled == Sampler("traceidratio", 0.5).keeps(picker.trace_id, None)
            kept += picker.sampled
        # Less than one in ten million runs is outside.
        assert 9 < kept < 51
        spans = await stack.collector.until(kept if stack.native else 2 * kept)
        assert len({span.trace_id for span in spans.values()}) == kept


@pytest.mark.slow
async def test_services_and_traceparents_that_are_none(module: str) -> None:
    async with traced("grpc", module, share=1.0) as stack:
        await stack.post("/plain", f"00-{TRACE}-{SPAN}-01")
        told = stack.server.seen[-1].headers["traceparent"].encode()
        spans = await stack.collector.until(1)
        parent = parent_of(told)
        assert parent is not None
        assert spans[parent.span_id.hex()].parent_span_id.hex() == SPAN
        await stack.post("/pool", "nonsense")
        assert stack.server.seen[-1].body == b"{}"


@pytest.mark.slow
async def test_a_collector_that_is_gone_costs_no_request(module: str) -> None:
    async with traced("grpc", module, share=1.0) as stack:
        gone = Tracing("http://127.0.0.1:1", share=1.0)
        endpoints = (ir.Endpoint(stack.server.host, stack.server.port),)
        socket = ir.Endpoint(str(stack.rig.folder / "picker.sock"))
        await stack.rig.publish(gateway(*endpoints, socket), options=Options(tracing=gone))
        for _ in range(10):
            await stack.post("/pool")


def _plain(message: Any) -> Any:
    return json.loads(json_format.MessageToJson(message))


def resources(tracing: Tracing | None, *, native: bool) -> dict[str, Any]:
    built = Built(
        gateway(ir.Endpoint("10.0.0.1", 8000), ir.Endpoint("10.0.0.9", 9004)),
        Options(tracing=tracing),
    ).at(Site(native=native))
    return {
        kind: {name: _plain(r.body) for name, r in built[kind].items()}
        for kind in (CLUSTER_TYPE, LISTENER_TYPE, ROUTE_TYPE)
    }


CASES = {
    "grpc": Tracing("http://collector.tracing:4317", share=0.25, headers=(("Team", "t"),)),
    "grpc-tls": Tracing("https://collector.example.com", parent_based=False, share=1.0),
    "http": Tracing("http://10.0.0.5:4318/v1/traces", "http/protobuf", headers=(("Team", "t"),)),
}


def shown(tracing: Tracing) -> dict[str, Any]:
    """What differs from a gateway without tracing."""
    found = resources(tracing, native=True)
    (listener,) = found[LISTENER_TYPE].values()
    manager = listener["filterChains"][0]["filters"][0]["typedConfig"]
    return {"cluster": found[CLUSTER_TYPE][COLLECTOR], "tracing": manager["tracing"]}


def test_golden(update_golden: bool) -> None:
    found = yaml.safe_dump({name: shown(case) for name, case in CASES.items()}, width=100)
    if update_golden:
        GOLDEN.write_text(found)
    assert found == GOLDEN.read_text()


@pytest.mark.parametrize("native", [False, True])
def test_off_by_default(native: bool) -> None:
    text = json.dumps(resources(None, native=native))
    assert "tracing" not in text
    assert COLLECTOR not in text
    assert "sampled_ppm" not in text


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317"}, Tracing("http://c:4317")),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
                "OTEL_EXPORTER_OTLP_HEADERS": "k=v",
                "OTEL_RESOURCE_ATTRIBUTES": "zone=z",
                "OTEL_SERVICE_NAME": "s",
                "OTEL_TRACES_SAMPLER": "always_on",
            },
            Tracing(
                "http://c:4318/v1/traces",
                "http/protobuf",
                1.0,
                parent_based=False,
                service="s",
                headers=(("k", "v"),),
                resource={"zone": "z"},
            ),
        ),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "c:4317",
                "OTEL_TRACES_SAMPLER": "parentbased_always_off",
            },
            Tracing("c:4317", share=0.0),
        ),
    ],
)
def test_the_controllers_environment_says_it(given: dict[str, str], wanted: Tracing | None) -> None:
    assert parse([], given).tracing == wanted
