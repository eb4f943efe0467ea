"""Requests as spans: whose child they are, what they say, and that untraced ones say nothing."""

from __future__ import annotations

import json

import pytest
from test_picker_telemetry import World, answered, body

from inferway.base.clock import SystemClock
from inferway.observe.otlp import Exporter, TracingOptions
from inferway.observe.spans import Sampler, Span
from inferway.picker.machine import Callout
from inferway.picker.replies import Chosen
from inferway.picker.tracing import Tracing
from inferway.scheduling.events import Doubted, Event, Tick

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = f"00-{TRACE}-{PARENT}-01".encode()


class Traced(World):
    """A picker whose spans are kept in a list."""

    def __init__(self, sampler: Sampler | None = None) -> None:
        super().__init__()
        self.exporter = Exporter(TracingOptions("nobody:1", sampler=sampler or Sampler(ratio=0.0)))
        self.spans: list[Span] = []
        self.exporter.add = self.spans.append  # type: ignore[method-assign]
        self.tracing = Tracing(self.telemetry, self.exporter, SystemClock(), "ns/p")
        self.service.trace(self.tracing)

    def request(self, model: str = "m", trace: bytes = SAMPLED) -> str:
        headers = {b"traceparent": trace} if trace else {}
        asked = body(model, stream=True)
        call = Callout(b"POST", b"/pick/ns/p/v1/chat/completions", asked, b"r-7", headers)
        reply = self.service.answer(call, "proxy")
        return reply.pick if isinstance(reply, Chosen) else ""

    def settle(self, event: Event, now: float = 1.0) -> None:
        ended = self.scheduler.settle(event, now)
        self.telemetry.settled(event, ended)
        self.tracing.settled(event, ended)


async def test_a_request_is_a_span_with_its_pick_under_it() -> None:
    world = Traced()
    assert b"traceparent" in world.service.declared
    pick = world.request()
    assert world.spans == []
    world.settle(answered(pick))
    one, request = world.spans
    assert (one.name, one.parent_id, one.trace_id.hex()) == ("pick", request.span_id, TRACE)
    assert (request.parent_id.hex(), request.trace_id.hex()) == (PARENT, TRACE)
    assert request.began <= one.began <= one.ended <= request.ended
    said = dict(request.attributes)
    assert said.pop("inferway.pick") == pick
    assert said == {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "m",
        "gen_ai.request.stream": True,
        "gen_ai.usage.input_tokens": 40,
        "gen_ai.usage.output_tokens": 11,
        "gen_ai.usage.cache_read.input_tokens": 16,
        "http.response.status_code": 200,
        "http.request.header.x-request-id": "r-7",
        "inferway.pool": "ns/p",
        "inferway.time_to_first_byte_seconds": 0.25,
        "server.address": "10.0.0.1",
        "server.port": 8000,
    }
    assert request.name == "chat m"
    assert request.error == ""
    assert "hello" not in json.dumps(said)


async def test_errors_are_named() -> None:
    world = Traced()
    world.settle(answered(world.request(), code=503, failed=True))
    world.request("nobody-has-it")
    world.settle(Doubted(world.request()))
    world.settle(Tick(), 1e9)
    errors = [span.error for span in world.spans if span.name != "pick"]
    assert errors == ["503", "unknown_model", "unknown_end"]


@pytest.mark.parametrize(
    ("sampler", "trace", "kept"),
    [
        (Sampler(ratio=0.0), SAMPLED[:-1] + b"0", False),
        (Sampler(ratio=1.0), SAMPLED[:-1] + b"0", False),
        (Sampler(ratio=0.0), b"", False),
        (Sampler(ratio=1.0), b"", True),
        (Sampler("always_on"), b"nonsense", True),
    ],
)
async def test_only_sampled_requests_are_spans(sampler: Sampler, trace: bytes, kept: bool) -> None:
    world = Traced(sampler)
    world.settle(answered(world.request(trace=trace)))
    assert bool(world.spans) is kept


async def test_without_tracing_nothing_is_read() -> None:
    world = World()
    assert world.service.declared == frozenset()
