"""Spans: values, whom to sample, and how OTLP says them. Pure.

The message types come with xds-protos, which has the same files as OpenTelemetry's own package of
them, so that both can not be installed side by side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

# Attributes are of these types; others are left to the caller to word.
Value = str | int | float | bool

_TRACE_HEX, _SPAN_HEX = 32, 16
_SAMPLED = 1
_FRACTION_BITS = 56
_PARENT_BASED = "parentbased_"
RATIO_DEFAULT = 0.1
SAMPLERS = (
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
)


class Parent(msgspec.Struct, frozen=True):
    """The span that a request came with."""

    trace_id: bytes
    span_id: bytes
    sampled: bool


class Span(msgspec.Struct, frozen=True):
    """One piece of work; times are nanoseconds since the epoch. ``parent_id`` may be empty."""

    name: str
    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    began: int
    ended: int
    attributes: Mapping[str, Value]
    # Why it failed; empty: it did not, or nobody knows.
    error: str = ""
    server: bool = False


def parent_of(header: bytes) -> Parent | None:
    """What a ``traceparent`` says (W3C Trace Context); None if it is none."""
    pieces = header.split(b"-")
    if len(pieces) < 4 or len(pieces[0]) != 2 or pieces[0] == b"ff":
        return None
    if (len(pieces[1]), len(pieces[2]), len(pieces[3])) != (_TRACE_HEX, _SPAN_HEX, 2):
        return None
    try:
        trace_id, span_id, flags = (bytes.fromhex(piece.decode()) for piece in pieces[1:4])
    except ValueError:
        return None
    if not any(trace_id) or not any(span_id):
        return None
    return Parent(trace_id, span_id, bool(flags[0] & _SAMPLED))


class Sampler(msgspec.Struct, frozen=True):
    """Which traces are kept, as ``OTEL_TRACES_SAMPLER`` names it. Raises ValueError."""

    name: str = "parentbased_traceidratio"
    ratio: float = RATIO_DEFAULT

    def __post_init__(self) -> None:
        if self.name not in SAMPLERS:
            raise ValueError(f"{self.name!r} is none of {', '.join(SAMPLERS)}")
        if not 0.0 <= self.ratio <= 1.0:
            raise ValueError(f"{self.ratio} is no share of 1")

    @property
    def parent_based(self) -> bool:
        """Whether a client's decision holds where there is one."""
        return self.name.startswith(_PARENT_BASED)

    @property
    def share(self) -> float:
        """Which part of the traces is kept that nobody has decided about."""
        rule = self.name.removeprefix(_PARENT_BASED)
        return {"always_on": 1.0, "always_off": 0.0}.get(rule, self.ratio)

    def keeps(self, trace_id: bytes, parent: Parent | None) -> bool:
        """Whether this trace is kept; every picker and proxy decides alike about one id."""
        if parent is not None and self.parent_based:
            return parent.sampled
        # The last seven bytes are the random ones (W3C Trace Context, level 2).
        return int.from_bytes(trace_id[-7:], "big") < self.share * (1 << _FRACTION_BITS)


def message(spans: Sequence[Span], resource: Mapping[str, Value], scope: str) -> Any:
    """An ExportTraceServiceRequest."""
    request = trace_service_pb2.ExportTraceServiceRequest()
    mine = request.resource_spans.add()
    _attributes(mine.resource.attributes, resource)
    # Of an older release: what is scope_spans and scope today has the same place on the wire.
    scoped = mine.instrumentation_library_spans.add()
    scoped.instrumentation_library.name = scope
    for span in spans:
        made = scoped.spans.add(
            trace_id=span.trace_id,
            span_id=span.span_id,
            parent_span_id=span.parent_id,
            name=span.name,
            kind=2 if span.server else 1,
            start_time_unix_nano=span.began,
            end_time_unix_nano=span.ended,
        )
        _attributes(made.attributes, span.attributes)
        if span.error:
            made.status.code = 2
            made.attributes.add(key="error.type").value.string_value = span.error
    return request


def _attributes(into: Any, values: Mapping[str, Value]) -> None:
    for key, value in values.items():
        field = into.add(key=key).value
        if isinstance(value, bool):
            field.bool_value = value
        elif isinstance(value, int):
            field.int_value = value
        elif isinstance(value, float):
            field.double_value = value
        else:
            field.string_value = value
