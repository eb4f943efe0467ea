"""The access log service: Envoy tells here how requests went. A pump around ``entries``."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from envoy.service.accesslog.v3 import als_pb2
from google.protobuf.message import DecodeError

from inferway.picker import entries
from inferway.scheduling.events import Finished

_log = logging.getLogger(__name__)

SERVICE = "envoy.service.accesslog.v3.AccessLogService"
# Envoy flushes a batch at 16 KiB by default; entries carry request headers.
MESSAGE_BYTES_MAX = 16 * 1024 * 1024
# Batches come about every 50 ms; beyond this many entries only some are read for their times.
TIMED_ALL_ENTRIES_MAX = 8
TIMED_EVERY = 4


class FeedbackService:
    """Hands each entry with a pick id on as an event."""

    def __init__(self, settle: Callable[[Finished], None]) -> None:
        self._settle = settle
        self.streams = 0
        self.skipped = 0

    async def stream(self, messages: AsyncIterator[Any], context: Any) -> Any:
        """One proxy worker's log; ends when the proxy ends it."""
        self.streams += 1
        try:
            async for message in messages:
                self.take(message)
        finally:
            self.streams -= 1
        return als_pb2.StreamAccessLogsResponse()

    def take(self, message: Any) -> None:
        """One batch, None if it is none. An entry that can not be read costs itself only.

        A full batch teaches by some of its entries: speed is learned as well from a part.
        """
        if message is None:
            self._skip("a message of the log is none")
            return
        batch = message.http_logs.log_entry
        step = 1 if len(batch) <= TIMED_ALL_ENTRIES_MAX else TIMED_EVERY
        for number, entry in enumerate(batch):
            try:
                event = entries.finished(entry, timed=number % step == 0)
            except (ValueError, OverflowError) as error:
                self._skip(str(error))
                # Its request is over, whatever else it was to say.
                event = Finished(entry.request.request_headers[entries.PICK_HEADER])
            if event is not None:
                self._settle(event)

    def _skip(self, why: str) -> None:
        self.skipped += 1
        _log.warning("access log entry not understood", extra={"data": {"error": why}})

    def handler(self) -> Any:
        """What a grpc.aio server takes."""
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "StreamAccessLogs": grpc.stream_unary_rpc_method_handler(
                    self.stream,
                    request_deserializer=parsed,
                    response_serializer=als_pb2.StreamAccessLogsResponse.SerializeToString,
                )
            },
        )


def parsed(data: bytes) -> Any:
    """The message, or None where it can not be read: the stream goes on."""
    try:
        return als_pb2.StreamAccessLogsMessage.FromString(data)
    except DecodeError:
        return None


def server(service: FeedbackService) -> Any:
    """A server without ports."""
    # Without the second option two pickers would share a port and half of the log each.
    options = [
        ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
        ("grpc.so_reuseport", 0),
    ]
    made = grpc.aio.server(options=options)
    made.add_generic_rpc_handlers((service.handler(),))
    return made
