"""Listens for the proxies of other gateways: gRPC, TLS or not, with gRPC health beside ext_proc."""

from __future__ import annotations

import asyncio
import datetime
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from envoy.service.ext_proc.v3 import external_processor_pb2 as ext_proc

from inferway.picker.extproc.certificates import CertificateFolder, credentials
from inferway.picker.extproc.counts import StreamCounts
from inferway.picker.extproc.machine import ExtProcMachine, Settings
from inferway.picker.extproc.room import Room
from inferway.picker.extproc.stream import Asker, ExtProcStream
from inferway.picker.health import EXT_PROC_SERVICE, HealthService
from inferway.scheduling.events import Event

_log = logging.getLogger(__name__)

# A message has a body of 64 MiB at most, where a proxy buffers it, and headers and metadata.
MESSAGE_BYTES_MAX = 65 * 1024 * 1024
# Requests at once, health checks among them; each costs some tens of KB. Beyond it a gateway does
# as its failure mode says.
STREAMS_MAX = 16_384
# Bodies that wait for their decision or are being sent back, all requests together.
BODIES_BYTES_MAX = 512 * 1024 * 1024
KEEPALIVE_MS = 30_000
# In the stream's initial metadata: which pool is meant, where a process has several.
POOL_METADATA = "x-inferway-pool"


@dataclass(frozen=True, slots=True)
class ServingOptions:
    """How to listen. ``cert_path`` is a folder, or empty for a self-signed certificate."""

    secure: bool = True
    cert_path: str = ""
    receive_bytes_max: int = MESSAGE_BYTES_MAX
    send_bytes_max: int = MESSAGE_BYTES_MAX
    streams_max: int = STREAMS_MAX
    counted: bool = False


class ExtProcServer:
    """Answers ext_proc for ``pools``, the first of them where a stream names none.

    ``ask`` answers callouts for all pools, ``settle`` is told what became of requests.
    """

    def __init__(
        self,
        pools: Mapping[str, Settings],
        ask: Asker,
        settle: Callable[[Event], None],
        health: HealthService,
        options: ServingOptions,
    ) -> None:
        self._pools = dict(pools)
        self._first = next(iter(self._pools.values()))
        self._ask = ask
        self.settle = settle
        self._health = health
        self._options = options
        self.room = Room(BODIES_BYTES_MAX)
        self.streams = 0
        self.counts = StreamCounts() if options.counted else None
        self._group: asyncio.TaskGroup | None = None
        self._server: Any = None

    def begin(self, group: asyncio.TaskGroup) -> None:
        """Streams may begin; ``group`` runs what they do beside reading, until ``stop``."""
        self._group = group

    async def listen(self, address: str) -> int:
        """Listens at host:port; gives the port.

        Raises InferwayError for a certificate that is none, RuntimeError if the port is taken.
        """
        o = self._options
        self._server = server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", o.receive_bytes_max),
                ("grpc.max_send_message_length", o.send_bytes_max),
                ("grpc.keepalive_time_ms", KEEPALIVE_MS),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
                # A second picker on the port must fail and not share it.
                ("grpc.so_reuseport", 0),
            ],
            maximum_concurrent_rpcs=o.streams_max,
        )
        handler = grpc.stream_stream_rpc_method_handler(
            self._process,
            request_deserializer=ext_proc.ProcessingRequest.FromString,
            response_serializer=ext_proc.ProcessingResponse.SerializeToString,
        )
        server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(EXT_PROC_SERVICE, {"Process": handler}),
                self._health.handler(),
            )
        )
        if o.secure:
            folder = CertificateFolder(Path(o.cert_path)) if o.cert_path else None
            secret = credentials(folder, datetime.datetime.now(datetime.UTC))
            port = server.add_secure_port(address, secret)
        else:
            port = server.add_insecure_port(address)
        await server.start()
        return int(port)

    async def stop(self, grace_seconds: float) -> None:
        """Takes no new streams, and gives those that are open the time to end."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(grace_seconds)

    async def _process(self, _: Any, context: Any) -> None:
        if self._group is None:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the picker is starting")
            return
        machine = ExtProcMachine(self._settings(context), self.room)
        stream = ExtProcStream(machine, self._ask, self.settle, context, self._group)
        self.streams += 1
        try:
            await (stream.run() if self.counts is None else _counted(stream, self.counts))
        finally:
            self.streams -= 1

    def _settings(self, context: Any) -> Settings:
        if len(self._pools) > 1:
            for name, value in context.invocation_metadata() or ():
                if name == POOL_METADATA:
                    # An unknown pool is refused by the service in words.
                    return self._pools.get(value) or Settings(value)
        return self._first


async def _counted(stream: ExtProcStream, counts: StreamCounts) -> None:
    time = asyncio.get_running_loop().time
    # Cancelled with the picker, if nothing else is said. A proxy that resets a stream and one that
    # has read it to its end look alike to gRPC for Python.
    began, code = time(), "Canceled"
    counts.open += 1
    try:
        await stream.run()
        code = "OK"
    except grpc.aio.AbortError:
        code = "Unavailable"
        raise
    finally:
        counts.open -= 1
        counts.ended(code, time() - began)
