"""gRPC health, by the names that the published pickers' probes ask for.

The two messages are so small that they are written here by hand: a string field 1 in, an enum
field 1 out.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc

SERVICE = "grpc.health.v1.Health"
SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3
EXT_PROC_SERVICE = "envoy.service.ext_proc.v3.ExternalProcessor"
LIVE_NAMES = frozenset({"liveness"})
READY_NAMES = frozenset({"", "readiness", "inference-extension", EXT_PROC_SERVICE})
# How often a watching client is told of a change at the latest.
WATCH_SECONDS = 1.0
_NAME_BYTES_MAX = 127


class HealthService:
    """Answers from a function, so that health is what it is at the time of the question."""

    def __init__(self, ready: Callable[[], bool]) -> None:
        self._ready = ready

    def status(self, name: str) -> int:
        """The state of one service name."""
        if name in LIVE_NAMES:
            return SERVING
        if name in READY_NAMES:
            return SERVING if self._ready() else NOT_SERVING
        return SERVICE_UNKNOWN

    async def check(self, name: str, context: Any) -> int:
        """One question; an unknown name is NOT_FOUND, as the protocol has it."""
        status = self.status(name)
        if status == SERVICE_UNKNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"unknown service {name!r}")
        return status

    async def watch(self, name: str, context: Any) -> AsyncIterator[int]:
        """The state, and again after each change."""
        told = None
        while True:
            status = self.status(name)
            if status != told:
                told = status
                yield status
            await asyncio.sleep(WATCH_SECONDS)

    def handler(self) -> Any:
        """What a grpc.aio server takes."""
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Check": grpc.unary_unary_rpc_method_handler(
                    self.check, request_deserializer=decode_name, response_serializer=encode_status
                ),
                "Watch": grpc.unary_stream_rpc_method_handler(
                    self.watch, request_deserializer=decode_name, response_serializer=encode_status
                ),
            },
        )


def decode_name(message: bytes) -> str:
    """HealthCheckRequest.service; a message that is not one asks for a service nobody knows."""
    if not message:
        return ""
    if message[0] != 0x0A or len(message) < 2 or message[1] > _NAME_BYTES_MAX:
        return "?"
    return message[2 : 2 + message[1]].decode(errors="replace")


def encode_status(status: int) -> bytes:
    """HealthCheckResponse."""
    return bytes([0x08, status])


def server(service: HealthService) -> Any:
    """A server without ports."""
    made = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    made.add_generic_rpc_handlers((service.handler(),))
    return made
