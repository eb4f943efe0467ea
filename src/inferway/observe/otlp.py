"""Sends spans by OTLP, over gRPC or HTTP, in batches and beside everything else.

What the collector does not take is dropped and counted: tracing never holds up a request.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from inferway.base.errors import UsageError
from inferway.observe.spans import RATIO_DEFAULT, Sampler, Span, Value, message

_log = logging.getLogger(__name__)

# Spans that wait to be sent; more than the largest batch while a collector is slow.
QUEUE_SPANS_MAX = 4096
BATCH_SPANS_MAX = 512
BATCH_SECONDS = 1.0
SEND_SECONDS_MAX = 5.0
_METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_HTTP_PATH = "/v1/traces"


@dataclass(frozen=True, slots=True)
class TracingOptions:
    """Where to, what, and as whom. ``protocol`` is ``grpc`` or ``http/protobuf``."""

    endpoint: str
    protocol: str = "grpc"
    sampler: Sampler = field(default_factory=Sampler)
    headers: tuple[tuple[str, str], ...] = ()
    resource: Mapping[str, Value] = field(default_factory=dict)


def tracing_options(env: Mapping[str, str], service: str) -> TracingOptions | None:
    """What the ``OTEL_*`` variables ask for; None without an endpoint. Raises UsageError."""
    endpoint = env.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "")
    own = bool(endpoint)
    endpoint = endpoint or env.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")
    if not endpoint or env.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    protocol = env.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or env.get(
        "OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"
    )
    if protocol not in ("grpc", "http/protobuf"):
        raise _wrong(f"OTEL_EXPORTER_OTLP_PROTOCOL: {protocol!r}", "Use grpc or http/protobuf.")
    if protocol != "grpc" and not own:
        endpoint = endpoint.rstrip("/") + _HTTP_PATH
    try:
        sampler = Sampler(
            env.get("OTEL_TRACES_SAMPLER") or Sampler().name,
            float(env.get("OTEL_TRACES_SAMPLER_ARG") or RATIO_DEFAULT),
        )
    except ValueError as error:
        raise _wrong("OTEL_TRACES_SAMPLER or its _ARG", str(error)) from None
    resource: dict[str, Value] = {**_pairs(env.get("OTEL_RESOURCE_ATTRIBUTES", ""))}
    resource["service.name"] = env.get("OTEL_SERVICE_NAME") or resource.get("service.name", service)
    headers = tuple(_pairs(env.get("OTEL_EXPORTER_OTLP_HEADERS", "")).items())
    return TracingOptions(endpoint, protocol, sampler, headers, resource)


def _wrong(what: str, fix: str) -> UsageError:
    return UsageError("INFERWAY0403", f"{what} can not be understood", fix=fix)


def _pairs(text: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in text.split(",") if "=" in part)
    return {key.strip(): value.strip() for key, _, value in pairs}


class Sender(Protocol):
    """One way to a collector."""

    async def send(self, request: Any) -> None:
        """Raises whatever went wrong."""
        ...

    async def close(self) -> None:
        """Ends the connection."""
        ...


class Exporter:
    """A bounded queue of spans, and the task that empties it."""

    def __init__(self, options: TracingOptions) -> None:
        self.options = options
        self.sent = 0
        self.dropped = 0
        self._queue: deque[Span] = deque()
        self._wake = asyncio.Event()
        self._failing = False

    def add(self, span: Span) -> None:
        """Takes a span, or counts that there is no room for it."""
        if len(self._queue) >= QUEUE_SPANS_MAX:
            self.dropped += 1
            return
        self._queue.append(span)
        if len(self._queue) >= BATCH_SPANS_MAX:
            self._wake.set()

    async def run(self) -> None:
        """Sends until cancelled, and then once more what is there."""
        sender = _sender(self.options)
        try:
            while True:
                try:
                    async with asyncio.timeout(BATCH_SECONDS):
                        await self._wake.wait()
                except TimeoutError:
                    pass
                self._wake.clear()
                while self._queue:
                    await self._send(sender)
        except asyncio.CancelledError:
            if self._queue:
                await self._send(sender)
            raise
        finally:
            await sender.close()

    async def _send(self, sender: Sender) -> None:
        batch = [self._queue.popleft() for _ in range(min(BATCH_SPANS_MAX, len(self._queue)))]
        try:
            async with asyncio.timeout(SEND_SECONDS_MAX):
                await sender.send(message(batch, self.options.resource, "inferway"))
        except Exception as error:
            # Whatever a collector does, it is the spans' loss only.
            self.dropped += len(batch)
            if not self._failing:
                why = {"endpoint": self.options.endpoint, "error": str(error)}
                _log.warning("spans can not be sent", extra={"data": why})
            self._failing = True
            return
        self.sent += len(batch)
        self._failing = False


def _sender(options: TracingOptions) -> Sender:
    return _Grpc(options) if options.protocol == "grpc" else _Http(options)


class _Grpc:
    def __init__(self, options: TracingOptions) -> None:
        parts = urlsplit(options.endpoint)
        target = parts.netloc or options.endpoint
        self._metadata = tuple((key.lower(), value) for key, value in options.headers)
        self._channel = (
            grpc.aio.secure_channel(target, grpc.ssl_channel_credentials())
            if parts.scheme == "https"
            else grpc.aio.insecure_channel(target)
        )
        self._call = self._channel.unary_unary(
            _METHOD,
            request_serializer=trace_service_pb2.ExportTraceServiceRequest.SerializeToString,
            response_deserializer=trace_service_pb2.ExportTraceServiceResponse.FromString,
        )

    async def send(self, request: Any) -> None:
        await self._call(request, metadata=self._metadata, timeout=SEND_SECONDS_MAX)

    async def close(self) -> None:
        await self._channel.close()


class _Http:
    def __init__(self, options: TracingOptions) -> None:
        # Only here: a picker that does not trace by HTTP has no client for it.
        import aiohttp

        self._url = options.endpoint
        headers = {"content-type": "application/x-protobuf", **dict(options.headers)}
        self._session = aiohttp.ClientSession(headers=headers, raise_for_status=True)

    async def send(self, request: Any) -> None:
        async with self._session.post(self._url, data=request.SerializeToString()):
            pass

    async def close(self) -> None:
        await self._session.close()
