"""A small HTTP/1.1 client that shows what is on the wire: headers, framing, pieces of a stream.

Knows one request per connection; knows nothing of models. An ordinary client would hide the
differences that the contract is about.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

# A real engine on a busy CPU takes seconds for what takes milliseconds elsewhere.
ANSWER_SECONDS_MAX = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    """One whole response. ``headers`` have lower-case names in the order of the wire."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        return dict(self.headers).get(name)

    def json(self) -> Any:
        return json.loads(self.body)

    def events(self) -> list[tuple[str, str]]:
        """Name (or nothing) and data of each server-sent event; other lines are an error."""
        blocks = self.body.decode().split("\n\n")
        assert blocks.pop() == "", "the last event is not ended by an empty line"
        found = []
        for block in blocks:
            name = ""
            if block.startswith("event: "):
                name, _, block = block.removeprefix("event: ").partition("\n")
            assert block.startswith("data: "), block
            assert "\n" not in block, block
            found.append((name, block.removeprefix("data: ")))
        return found


def encode(method: str, target: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
    """The bytes of a request."""
    lines = [f"{method} {target} HTTP/1.1"]
    known = {name.lower() for name in headers}
    if "host" not in known:
        lines.append("Host: contract")
    if body is not None and "content-length" not in known and "transfer-encoding" not in known:
        lines.append(f"Content-Length: {len(body)}")
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


async def _head(reader: asyncio.StreamReader) -> tuple[int, str, tuple[tuple[str, str], ...]]:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    _, status, reason = (lines[0] + " ").split(" ", 2)
    pairs = [line.partition(":") for line in lines[1:] if line]
    headers = tuple((name.lower(), value.strip()) for name, _, value in pairs)
    return int(status), reason.strip(), headers


async def chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """The pieces of a chunked body as they come."""
    while True:
        size = int((await reader.readuntil(b"\r\n")).strip(), 16)
        piece = await reader.readexactly(size)
        assert await reader.readexactly(2) == b"\r\n"
        if not size:
            return
        yield piece


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to the server of a URL."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=1 << 20)
    try:
        yield reader, writer
    finally:
        writer.close()


async def ask(
    url: str, method: str, target: str, headers: Mapping[str, str], body: bytes | None
) -> Answer:
    """Sends one request and reads its whole answer."""
    async with asyncio.timeout(ANSWER_SECONDS_MAX), opened(url) as (reader, writer):
        writer.write(encode(method, target, headers, body))
        await writer.drain()
        status, reason, found = await _head(reader)
        names = dict(found)
        if method == "HEAD" or status in (204, 304):
            whole = b""
        elif names.get("transfer-encoding") == "chunked":
            whole = b"".join([piece async for piece in chunks(reader)])
        elif "content-length" in names:
            whole = await reader.readexactly(int(names["content-length"]))
        else:
            whole = await reader.read()
        return Answer(status, reason, found, whole)


async def post(url: str, target: str, body: Any, **headers: str) -> Answer:
    """A JSON request."""
    words = {"Content-Type": "application/json", **headers}
    return await ask(url, "POST", target, words, json.dumps(body).encode())


async def get(url: str, target: str) -> Answer:
    return await ask(url, "GET", target, {}, None)


async def begin(
    url: str, target: str, body: Any
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Starts a request and returns after the head of its answer; the caller closes the writer."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    head = {"Content-Type": "application/json"}
    writer.write(encode("POST", target, head, json.dumps(body).encode()))
    await writer.drain()
    async with asyncio.timeout(ANSWER_SECONDS_MAX):
        await _head(reader)
    return reader, writer
