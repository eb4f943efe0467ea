"""A scripted picker that speaks the pick channel, with the handlers of one that speaks HTTP.

Reads and writes frames by itself, so that the product's own reading is not its measure.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, cast

from gateway_rig import HttpRequest, Server

GREETING = b"IWPICK1\n"
PICK, DONE, CANCEL, ANSWER = 1, 2, 3, 4
ROUTE, FINAL, FAILED = 1, 2, 3
_HEAD = struct.Struct("<IB3xQ")


@dataclass(frozen=True, slots=True)
class Outcome:
    """A report as it came."""

    id: int
    status: int
    attempts: int
    flags: int
    first: int
    last: int
    duration: int
    served: str
    usage: Any


def outcome(number: int, payload: bytes) -> Outcome:
    fixed = struct.Struct("<HHIIII")
    served, _, usage = payload[fixed.size :].partition(b"\0")
    numbers = fixed.unpack_from(payload)
    return Outcome(number, *numbers, served.decode(), json.loads(usage) if usage else None)


def asked(payload: bytes) -> HttpRequest:
    """The request as a callout would have brought it."""
    (length,) = struct.unpack_from("<I", payload)
    texts = payload[4 : 4 + length].decode().split("\0")
    assert texts[-1] == ""
    headers = dict(zip(texts[1:-1:2], texts[2::2], strict=True))
    path = f"/pick/{texts[0]}{headers[':path']}"
    return HttpRequest(headers[":method"], path, headers, payload[4 + length :])


def worded(number: int, answer: bytes) -> bytes:
    """An HTTP answer of a callout as a frame; anything else goes as it is."""
    if not answer.startswith(b"HTTP/1.1 "):
        return answer
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    status = int(lines[0].split(" ")[1])
    headers = dict(line.split(": ", 1) for line in lines[1:])
    if status == 200:
        fields = [headers["x-gateway-destination-endpoint"]]
        if "x-inferway-splice" in headers:
            fields += headers["x-inferway-splice"].split(",", 2)
        return frame(number, ROUTE, 0, fields)
    if status >= 500:
        return frame(number, FAILED, status)
    del headers["content-length"]
    fields = [text for header in headers.items() for text in header]
    return frame(number, FINAL, 503 if status == 463 else status, fields, body)


def frame(
    number: int, verdict: int, status: int, fields: list[str] | None = None, body: bytes = b""
) -> bytes:
    text = "\0".join(fields or []).encode()
    rest = struct.pack("<HHI", verdict, status, len(text)) + text + body
    return _HEAD.pack(len(rest), ANSWER, number) + rest


class _Words:
    """Stands for the writer of one question's answer."""

    def __init__(self, real: asyncio.StreamWriter) -> None:
        self.transport = real.transport
        self.said = b""

    def write(self, data: bytes) -> None:
        self.said += data


@dataclass
class ChannelServer(Server):
    """Runs the handler for each question; a handler that says nothing holds its question."""

    connections: int = 0
    cancelled: list[int] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    told: asyncio.Event = field(default_factory=asyncio.Event)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        self.connections += 1
        tasks: dict[int, asyncio.Task[None]] = {}
        try:
            async with asyncio.TaskGroup() as group:
                assert await reader.readexactly(len(GREETING)) == GREETING
                while True:
                    try:
                        length, kind, number = _HEAD.unpack(await reader.readexactly(_HEAD.size))
                        payload = await reader.readexactly(length)
                    except (asyncio.IncompleteReadError, ConnectionError):
                        break
                    self._take(kind, number, payload, writer, tasks, group)
                for task in tasks.values():
                    task.cancel()
        finally:
            self.closed.set()
            self._writers.discard(writer)
            writer.transport.abort()

    def _take(
        self,
        kind: int,
        number: int,
        payload: bytes,
        writer: asyncio.StreamWriter,
        tasks: dict[int, asyncio.Task[None]],
        group: asyncio.TaskGroup,
    ) -> None:
        if kind == PICK:
            request = asked(payload)
            self.seen.append(request)
            tasks[number] = group.create_task(self._answer(number, request, writer))
        elif kind == DONE:
            self.outcomes.append(outcome(number, payload))
            self.told.set()
        else:
            assert (kind, payload) == (CANCEL, b"")
            self.cancelled.append(number)
            tasks[number].cancel()
            self.closed.set()
            self.told.set()

    def _answer(
        self, number: int, request: HttpRequest, writer: asyncio.StreamWriter
    ) -> Coroutine[Any, Any, None]:
        async def run() -> None:
            words = _Words(writer)
            await self.handler(request, cast(asyncio.StreamWriter, words))
            if words.said and not writer.is_closing():
                writer.write(worded(number, words.said))

        return run()

    async def heard(self, count: int) -> list[Outcome]:
        """The reports, as soon as there are so many."""
        async with asyncio.timeout(15):
            while len(self.outcomes) < count:
                self.told.clear()
                await self.told.wait()
        return self.outcomes
