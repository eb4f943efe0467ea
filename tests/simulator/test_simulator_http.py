"""Conversations on the wire, byte by byte: what a proxy or an odd client may send."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inferway.simulator.http import (
    BODY_BYTES_MAX,
    HEAD_BYTES_MAX,
    PIPELINED_REQUESTS_MAX,
    Exchange,
    HttpServer,
)

DEADLINE_SECONDS = 10.0


class Held:
    """Exchanges of requests for /held, which the test answers."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []
        self.left: list[Exchange] = []
        self.arrived = asyncio.Event()
        self.gone = asyncio.Event()


@asynccontextmanager
async def serving(held: Held | None = None) -> AsyncIterator[tuple[int, HttpServer]]:
    """A server that tells back what it was asked."""

    def handler(exchange: Exchange) -> None:
        if exchange.path == "/held" and held is not None:

            def leave() -> None:
                held.left.append(exchange)
                held.gone.set()

            exchange.on_close = leave
            held.exchanges.append(exchange)
            held.arrived.set()
        elif exchange.path == "/stream":
            exchange.stream(b"one")
            exchange.stream(b"two")
            exchange.end_stream(b"three")
        else:
            told = {
                "method": exchange.method, "path": exchange.path, "query": exchange.query,
                "body": exchange.body.decode("latin-1"),
                "x": exchange.header(b"x-test").decode("latin-1"),
            }  # fmt: skip
            exchange.respond(200, json.dumps(told).encode())

    http = HttpServer(handler)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(http, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], http
    finally:
        server.close()
        http.abort()


async def talk(port: int, *parts: bytes) -> bytes:
    """Sends parts one after the other and reads until the server closes."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for part in parts:
            writer.write(part)
            await writer.drain()
        answer = await reader.read()
        writer.close()
    return answer


def bodies(answer: bytes) -> list[Any]:
    """The JSON bodies of responses with a length."""
    found = []
    while answer:
        head, _, rest = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK"), head
        length = next(
            int(line.split(b":")[1])
            for line in head.lower().split(b"\r\n")
            if line.startswith(b"content-length:")
        )
        found.append(json.loads(rest[:length]))
        answer = rest[length:]
    return found


CLOSE = b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


async def test_a_response_in_full() -> None:
    async with serving() as (port, _):
        answer = await talk(port, CLOSE)
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 200 OK"
    assert lines[1].startswith(b"date: ")
    assert lines[1].endswith(b" GMT")
    assert lines[2:] == [
        b"server: uvicorn",
        b"content-length: %d" % len(body),
        b"content-type: application/json",
        b"vary: Origin",
        b"connection: close",
    ]


async def test_a_stream_in_full() -> None:
    async with serving() as (port, _):
        answer = await talk(port, CLOSE.replace(b"/last", b"/stream"))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"\r\ntransfer-encoding: chunked" in head
    assert b"\r\ncontent-type: text/event-stream; charset=utf-8" in head
    assert body == b"3\r\none\r\n3\r\ntwo\r\n5\r\nthree\r\n0\r\n\r\n"


async def test_pipelined_requests_are_answered_in_order() -> None:
    asked = b"".join(
        b"POST /%d HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n%d" % (n, n) for n in range(9)
    )
    async with serving() as (port, _):
        answers = bodies(await talk(port, asked + CLOSE))
    assert [a["path"] for a in answers] == [f"/{n}" for n in range(9)] + ["/last"]
    assert [a["body"] for a in answers[:-1]] == [str(n) for n in range(9)]


async def test_requests_behind_a_slow_one_wait_for_it() -> None:
    held = Held()
    first = b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n"
    count = PIPELINED_REQUESTS_MAX * 2
    async with serving(held) as (port, _):
        async with asyncio.TaskGroup() as group:
            asked = first + b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n" * count + CLOSE
            answer = group.create_task(talk(port, asked))
            await asyncio.wait_for(held.arrived.wait(), DEADLINE_SECONDS)
            held.exchanges[0].respond(200, b'{"path": "/held"}')
        assert [a["path"] for a in bodies(answer.result())] == [
            "/held", *["/next"] * count, "/last",
        ]  # fmt: skip


async def test_a_client_that_leaves_is_noticed() -> None:
    held = Held()
    async with serving(held) as (port, http):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.wait_for(held.arrived.wait(), DEADLINE_SECONDS)
        writer.close()
        await asyncio.wait_for(held.gone.wait(), DEADLINE_SECONDS)
        exchange = held.exchanges[0]
        assert exchange.closed
        # An answer that comes too late goes nowhere.
        exchange.respond(200, b"{}")
        exchange.stream(b"x")
        exchange.end_stream()
        assert not http.connections


async def test_draining_lets_what_is_under_way_finish() -> None:
    held = Held()
    async with serving(held) as (port, http):
        async with asyncio.TaskGroup() as group:
            idle = group.create_task(talk(port))
            asked = group.create_task(talk(port, b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n"))
            await asyncio.wait_for(held.arrived.wait(), DEADLINE_SECONDS)
            drained = group.create_task(http.drain())
            assert await idle == b""
            assert not drained.done()
            held.exchanges[0].respond(200, b'{"path": "/held"}')
        assert bodies(asked.result()) == [{"path": "/held"}]


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * (HEAD_BYTES_MAX + 1) + b"\r\n\r\n", b"431"),
        (b"GET /" + b"a" * (HEAD_BYTES_MAX + 1) + b" HTTP/1.1\r\n\r\n", b"431"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"400"),
    ],
)
async def test_what_is_no_request_is_refused(asked: bytes, status: bytes) -> None:
    async with serving() as (port, _):
        answer = await talk(port, asked)
    assert answer.startswith(b"HTTP/1.1 " + status)


@pytest.mark.slow
async def test_a_body_beyond_the_limit_is_refused() -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (BODY_BYTES_MAX + 1)
    piece = b"a" * (1024 * 1024)
    async with serving() as (port, _), asyncio.timeout(DEADLINE_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head)
        try:
            for _ in range(BODY_BYTES_MAX // len(piece) + 1):
                writer.write(piece)
                await writer.drain()
        except ConnectionError:
            pass
        assert (await reader.readline()).startswith(b"HTTP/1.1 413")
        writer.close()


async def test_a_client_that_asks_before_it_sends_is_told_to_go_on() -> None:
    asked = (
        b"POST /e HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n"
        b"Connection: close\r\n\r\n"
    )
    async with serving() as (port, _), asyncio.timeout(DEADLINE_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(asked)
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"ok")
        assert bodies(await reader.read())[0]["body"] == "ok"
        writer.close()


@pytest.mark.slow
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    cuts=st.lists(st.integers(1, 200), max_size=6),
    chunks=st.lists(st.binary(min_size=1, max_size=30), min_size=1, max_size=4),
)
def test_how_bytes_arrive_does_not_matter(cuts: list[int], chunks: list[bytes]) -> None:
    """A chunked body, cut anywhere, gives the same request."""
    framed = b"".join(b"%x\r\n%s\r\n" % (len(c), c) for c in chunks) + b"0\r\n\r\n"
    asked = (
        b"POST /p?q=1 HTTP/1.1\r\nHost: x\r\nX-Test: yes\r\nTransfer-Encoding: chunked\r\n\r\n"
        + framed
        + CLOSE
    )
    parts = []
    begin = 0
    for cut in sorted(cuts):
        parts.append(asked[begin:cut])
        begin = max(cut, begin)
    parts.append(asked[begin:])

    async def go() -> list[Any]:
        async with serving() as (port, _):
            return bodies(await talk(port, *parts))

    first, last = asyncio.run(go())
    assert first == {
        "method": "POST", "path": "/p", "query": "q=1", "x": "yes",
        "body": b"".join(chunks).decode("latin-1"),
    }  # fmt: skip
    assert last["path"] == "/last"


async def test_old_clients_get_no_chunks() -> None:
    async with serving() as (port, _):
        stream = await talk(port, b"GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        plain = await talk(port, b"GET /a HTTP/1.0\r\n\r\n")
        kept = await talk(
            port, b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /b HTTP/1.0\r\n\r\n"
        )
    head, _, body = stream.partition(b"\r\n\r\n")
    assert body == b"onetwothree"
    assert b"chunked" not in head
    assert b"connection: close" in head
    assert bodies(plain)[0]["path"] == "/a"
    assert [answer["path"] for answer in bodies(kept)] == ["/a", "/b"]
    assert b"connection: keep-alive" in kept


async def test_a_pipelined_expectation_does_not_break_into_a_response() -> None:
    held = Held()
    asked = (
        b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n"
        b"POST /e HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n"
        b"Connection: close\r\n\r\nok"
    )
    async with serving(held) as (port, _):
        async with asyncio.TaskGroup() as group:
            answer = group.create_task(talk(port, asked))
            await asyncio.wait_for(held.arrived.wait(), DEADLINE_SECONDS)
            held.exchanges[0].respond(200, b'{"path": "/held"}')
        assert [a["path"] for a in bodies(answer.result())] == ["/held", "/e"]


async def test_every_response_is_logged_once() -> None:
    lines: list[str] = []
    log: Callable[[str], None] = lines.append
    loop = asyncio.get_running_loop()
    http = HttpServer(lambda exchange: exchange.respond(404, b"{}"), log)
    server = await loop.create_server(http, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    await talk(port, CLOSE.replace(b"/last", b"/a?b=c"))
    server.close()
    (line,) = lines
    assert line.startswith("INFO:     127.0.0.1:")
    assert line.endswith(' - "GET /a?b=c HTTP/1.1" 404 Not Found')
