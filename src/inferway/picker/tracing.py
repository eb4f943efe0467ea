"""Spans of requests: the request itself with GenAI attributes, its wait in the queue, its pick.

A span is made when the end of its request is known, because only then are status and tokens. Names
are those of OpenTelemetry's conventions for GenAI, which are not stable yet.
"""

from __future__ import annotations

import secrets

import msgspec

from inferway.base.clock import Clock
from inferway.observe.otlp import Exporter
from inferway.observe.spans import Parent, Span, Value, parent_of
from inferway.picker.service import Asked, Watcher
from inferway.scheduling.accounting import Settled
from inferway.scheduling.decision import Decision, Explanation
from inferway.scheduling.events import Event, Finished
from inferway.scheduling.request import ApiKind

# Requests under way whose end will be a span; what comes beyond it is dropped and counted.
OPEN_MAX = 65_536

_OPERATIONS = {
    ApiKind.COMPLETIONS: "text_completion",
    ApiKind.CHAT: "chat",
    ApiKind.EMBEDDINGS: "embeddings",
}


class _Open(msgspec.Struct, gc=False):
    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    arrived: float
    began: float
    ended: float
    name: str
    attributes: dict[str, Value]


class Tracing:
    """A watcher that makes spans besides what another one counts. One pool."""

    def __init__(self, counter: Watcher, exporter: Exporter, clock: Clock, pool: str) -> None:
        self._counter = counter
        self._exporter = exporter
        self._sampler = exporter.options.sampler
        self._pool = pool
        # Monotonic readings become times of day by this difference.
        self._offset = clock.wall() - clock.monotonic()
        self._monotonic = clock.monotonic
        self._open: dict[str, _Open] = {}

    def chosen(
        self, pick: str, asked: Asked, decision: Decision, began: float, ended: float
    ) -> None:
        """A request goes on: its end will be a span, if it is kept."""
        self._counter.chosen(pick, asked, decision, began, ended)
        ids = self._kept(asked)
        if ids is None:
            return
        if len(self._open) >= OPEN_MAX:
            self._exporter.dropped += 1
            return
        trace_id, parent = ids
        self._open[pick] = _Open(
            trace_id,
            secrets.token_bytes(8),
            parent.span_id if parent is not None else b"",
            asked.arrived,
            began,
            ended,
            *self._named(asked, pick),
        )

    def refused(self, outcome: str, seconds: float, asked: Asked | None) -> None:
        """The picker gave the final answer: the request is over."""
        self._counter.refused(outcome, seconds, asked)
        ids = self._kept(asked) if asked is not None else None
        if ids is None or asked is None:
            return
        trace_id, parent = ids
        name, attributes = self._named(asked, "")
        self._exporter.add(
            Span(
                name,
                trace_id,
                secrets.token_bytes(8),
                parent.span_id if parent is not None else b"",
                self._at(asked.arrived),
                self._at(self._monotonic()),
                attributes,
                outcome,
                server=True,
            )
        )

    def listed(self) -> None:
        """Counts only."""
        self._counter.listed()

    def explained(self, pick: str, request_id: bytes, explanation: Explanation) -> None:
        """Counts only."""
        self._counter.explained(pick, request_id, explanation)

    def rewritten(self, rewrite: str, model: str, target: str) -> None:
        """Counts only."""
        self._counter.rewritten(rewrite, model, target)

    def settled(self, event: Event, ended: list[Settled]) -> None:
        """Requests that have ended become spans."""
        if not self._open:
            return
        for settled in ended:
            one = self._open.pop(settled.reservation.pick, None)
            if one is None:
                continue
            if settled.event is event and isinstance(event, Finished):
                self._send(one, self._monotonic(), _finish(one.attributes, event))
            else:
                self._send(one, self._monotonic(), "unknown_end")

    def _kept(self, asked: Asked) -> tuple[bytes, Parent | None] | None:
        parent = parent_of(asked.trace) if asked.trace else None
        trace_id = parent.trace_id if parent is not None else secrets.token_bytes(16)
        return (trace_id, parent) if self._sampler.keeps(trace_id, parent) else None

    def _named(self, asked: Asked, pick: str) -> tuple[str, dict[str, Value]]:
        request = asked.request
        operation = _OPERATIONS.get(request.kind, request.kind.value)
        model = asked.alias or request.model
        attributes: dict[str, Value] = {
            "gen_ai.operation.name": operation,
            "gen_ai.request.model": model,
            "gen_ai.request.stream": request.stream,
            "inferway.pool": self._pool,
            "http.request.header.x-request-id": asked.request_id.decode(errors="replace"),
        }
        if asked.alias:
            attributes["gen_ai.response.model"] = request.model
        if request.max_tokens:
            attributes["gen_ai.request.max_tokens"] = request.max_tokens
        if pick:
            attributes["inferway.pick"] = pick
        return f"{operation} {model}".rstrip(), attributes

    def _send(self, one: _Open, now: float, error: str) -> None:
        add, at = self._exporter.add, self._at
        trace_id, span_id = one.trace_id, one.span_id
        if one.began > one.arrived:
            queue = secrets.token_bytes(8)
            add(Span("queue", trace_id, queue, span_id, at(one.arrived), at(one.began), {}))
        pick = secrets.token_bytes(8)
        add(Span("pick", trace_id, pick, span_id, at(one.began), at(one.ended), {}))
        add(
            Span(
                one.name,
                trace_id,
                span_id,
                one.parent_id,
                at(one.arrived),
                at(now),
                one.attributes,
                error,
                server=True,
            )
        )

    def _at(self, monotonic: float) -> int:
        return int((monotonic + self._offset) * 1e9)


def _finish(attributes: dict[str, Value], event: Finished) -> str:
    """Adds what is known at the end; the kind of error, or nothing."""
    attributes["http.response.status_code"] = event.code
    host, _, port = event.served.rpartition(":")
    if host and port.isdigit():
        attributes["server.address"] = host
        attributes["server.port"] = int(port)
    if event.prompt_tokens:
        attributes["gen_ai.usage.input_tokens"] = event.prompt_tokens
    if event.completion_tokens:
        attributes["gen_ai.usage.output_tokens"] = event.completion_tokens
    if event.cached_tokens is not None:
        attributes["gen_ai.usage.cache_read.input_tokens"] = event.cached_tokens
    if event.first_byte_seconds is not None:
        attributes["inferway.time_to_first_byte_seconds"] = event.first_byte_seconds
    if event.code >= 400:
        return str(event.code)
    return "no_answer" if event.failed else ""
