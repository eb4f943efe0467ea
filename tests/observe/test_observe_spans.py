"""Whom to sample, what OTLP says, and what a collector that is slow or gone costs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import grpc
import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from inferway.base.errors import UsageError
from inferway.observe import otlp
from inferway.observe.otlp import Exporter, TracingOptions, tracing_options
from inferway.observe.spans import Parent, Sampler, Span, parent_of

TRACE = bytes.fromhex("0af7651916cd43dd8448eb211c80319c")
PARENT = bytes.fromhex("b7ad6b7169203331")
SPAN = Span("pick", TRACE, b"12345678", PARENT, 1, 2, {"a": 1, "b": True, "c": "x", "d": 0.5})
DEADLINE_SECONDS = 10.0


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"00-%b-%b-01" % (TRACE.hex().encode(), PARENT.hex().encode()), True),
        (b"00-%b-%b-00" % (TRACE.hex().encode(), PARENT.hex().encode()), False),
        (b"cc-%b-%b-01-more" % (TRACE.hex().encode(), PARENT.hex().encode()), True),
        (b"ff-%b-%b-01" % (TRACE.hex().encode(), PARENT.hex().encode()), None),
        (b"00-%b-%b-01" % (b"0" * 32, PARENT.hex().encode()), None),
        (b"00-%b-%b-zz" % (TRACE.hex().encode(), PARENT.hex().encode()), None),
        (b"00-\xff\xfe-x-01", None),
        (b"", None),
    ],
)
def test_traceparent(header: bytes, expected: bool | None) -> None:
    found = parent_of(header)
    assert found == (None if expected is None else Parent(TRACE, PARENT, expected))


@pytest.mark.parametrize(
    ("name", "parent", "low", "high"),
    [
        ("always_on", None, True, True),
        ("always_off", True, False, False),
        ("traceidratio", True, True, False),
        ("parentbased_traceidratio", None, True, False),
        ("parentbased_traceidratio", True, True, True),
        ("parentbased_traceidratio", False, False, False),
        ("parentbased_always_on", None, True, True),
        ("parentbased_always_on", False, False, False),
    ],
)
def test_sampler(name: str, parent: bool | None, low: bool, high: bool) -> None:
    sampler = Sampler(name, 0.5)
    given = None if parent is None else Parent(TRACE, PARENT, parent)
    assert sampler.keeps(b"\x00" * 16, given) is low
    assert sampler.keeps(b"\xff" * 16, given) is high


def test_options_are_those_of_the_environment() -> None:
    assert tracing_options({}, "s") is None
    assert tracing_options({"OTEL_SDK_DISABLED": "true", ENDPOINT: "x:1"}, "s") is None
    options = tracing_options({ENDPOINT: "http://c:4317"}, "s")
    assert options is not None
    assert (options.protocol, options.sampler) == ("grpc", Sampler("parentbased_traceidratio", 0.1))
    assert options.resource == {"service.name": "s"}
    options = tracing_options(
        {
            ENDPOINT: "http://c:4318/",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_RESOURCE_ATTRIBUTES": "service.name=n,team=t",
            "OTEL_EXPORTER_OTLP_HEADERS": "Authorization=x y",
        },
        "s",
    )
    assert options is not None
    assert options.endpoint == "http://c:4318/v1/traces"
    assert options.resource == {"service.name": "n", "team": "t"}
    assert options.headers == (("Authorization", "x y"),)


ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_TRACES_SAMPLER", "sometimes"),
        ("OTEL_TRACES_SAMPLER_ARG", "2"),
        ("OTEL_TRACES_SAMPLER_ARG", "much"),
    ],
)
def test_what_cannot_be_meant_is_refused(name: str, value: str) -> None:
    with pytest.raises(UsageError):
        tracing_options({ENDPOINT: "c:4317", name: value}, "s")


async def until(condition: Callable[[], bool]) -> None:
    loop = asyncio.get_running_loop()
    while not condition():
        turn = asyncio.Event()
        loop.call_later(0.005, turn.set)
        await turn.wait()


async def received_by_http(got: list[bytes]) -> tuple[web.AppRunner, str]:
    async def take(request: web.Request) -> web.Response:
        got.append(await request.read())
        return web.Response(body=b"")

    app = web.Application()
    app.router.add_post("/v1/traces", take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}/v1/traces"


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
async def test_a_collector_gets_what_was_added(protocol: str) -> None:
    got: list[bytes] = []
    if protocol == "grpc":
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((collector(got),))
        endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
    else:
        runner, endpoint = await received_by_http(got)
    exporter = Exporter(TracingOptions(endpoint, protocol, resource={"service.name": "s"}))
    task = asyncio.ensure_future(exporter.run())
    exporter.add(SPAN)
    async with asyncio.timeout(DEADLINE_SECONDS):
        await until(lambda: exporter.sent == 1)
    exporter.add(SPAN)
    # What is there when the process ends is sent as well.
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (exporter.sent, exporter.dropped) == (2, 0)
    if protocol == "grpc":
        await server.stop(0)
    else:
        await runner.cleanup()
    read = trace_service_pb2.ExportTraceServiceRequest.FromString(got[0])
    (resource,) = read.resource_spans
    assert resource.resource.attributes[0].value.string_value == "s"
    (span,) = resource.instrumentation_library_spans[0].spans
    assert (span.name, span.trace_id, span.parent_span_id) == ("pick", TRACE, PARENT)
    assert [a.key for a in span.attributes] == ["a", "b", "c", "d"]
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (1, 2)


def collector(got: list[bytes]) -> grpc.GenericRpcHandler:
    async def export(request: bytes, context: object) -> bytes:
        got.append(request)
        return b""

    return grpc.method_handlers_generic_handler(
        "opentelemetry.proto.collector.trace.v1.TraceService",
        {"Export": grpc.unary_unary_rpc_method_handler(export)},
    )


@pytest.mark.slow
async def test_a_collector_that_is_gone_costs_spans_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "QUEUE_SPANS_MAX", 3)
    monkeypatch.setattr(otlp, "SEND_SECONDS_MAX", 0.2)
    exporter = Exporter(TracingOptions("http://127.0.0.1:1"))
    for _ in range(5):
        exporter.add(SPAN)
    assert exporter.dropped == 2
    task = asyncio.ensure_future(exporter.run())
    async with asyncio.timeout(DEADLINE_SECONDS):
        await until(lambda: exporter.dropped == 5)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert exporter.sent == 0
