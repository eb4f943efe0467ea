"""What the native pick filter tells a picker about how a request went, in real Envoy."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from gateway_channel import Outcome
from gateway_rig import DEADLINE_SECONDS, HttpRequest, answer, own_address, read_head
from native_stack import NativeStack, native_stack

pytestmark = pytest.mark.slow
# Envoy's response flags.
NO_HEALTHY_HOST, UPSTREAM_FAILURE, CLIENT_GONE, UPSTREAM_PROTOCOL_ERROR = (
    *(1 << 1, 1 << 5, 1 << 14, 1 << 23),
)
USAGE = {
    "prompt_tokens": 7,
    "completion_tokens": 8,
    "total_tokens": 15,
    "prompt_tokens_details": {"cached_tokens": 2},
}
EVENTS = [
    b'data: {"id": "1", "choices": [{"delta": {"text": "\\"usage\\": {1}"}}], "usage": null}\n\n',
    b'data: {"id": "1", "choices": [], "usage": %b}\n\n' % json.dumps(USAGE).encode(),
    b"data: [DONE]\n\n",
]


@pytest_asyncio.fixture
async def stack(pick_module: str) -> AsyncIterator[NativeStack]:
    async with native_stack(pick_module) as made:
        yield made


def _answers(stack: NativeStack, body: bytes, content_type: str) -> None:
    async def serve(_: HttpRequest, writer: asyncio.StreamWriter) -> None:
        answer(writer, body, headers={"content-type": content_type})

    stack.server.handler = serve


async def _only(stack: NativeStack) -> Outcome:
    (outcome,) = await stack.pickers["one"].heard(1)
    assert stack.pickers["one"].cancelled == []
    return outcome


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", json.dumps({"choices": [], "usage": USAGE}).encode()),
        ("application/json; charset=utf-8", json.dumps({"usage": USAGE, "n": [{}]}).encode()),
        ("text/event-stream", b"".join(EVENTS)),
        ("text/event-stream; charset=utf-8", b"".join(EVENTS).replace(b"\n", b"\r\n")),
    ],
)
async def test_usage_of_an_answer(stack: NativeStack, content_type: str, body: bytes) -> None:
    await stack.serve("one")
    _answers(stack, body, content_type)
    reply = await stack.post()
    assert reply.body == body
    outcome = await _only(stack)
    assert outcome.usage == USAGE
    assert (outcome.status, outcome.served) == (200, stack.server.address)
    assert (outcome.attempts, outcome.flags) == (1, 0)
    assert 0 < outcome.first <= outcome.last <= outcome.duration < DEADLINE_SECONDS * 1e6


async def test_answer_of_another_kind_has_no_usage(stack: NativeStack) -> None:
    await stack.serve("one")
    _answers(stack, json.dumps({"usage": USAGE}).encode(), "text/plain")
    await stack.post()
    assert (await _only(stack)).usage is None


async def test_times_of_a_stream(stack: NativeStack) -> None:
    await stack.serve("one")
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def stream(_: HttpRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n")
        writer.write(b"transfer-encoding: chunked\r\n\r\n")
        for event in EVENTS:
            for byte in event:
                writer.write(b"1\r\n%b\r\n" % bytes([byte]))
            await writer.drain()
            begun.set()
            await go_on.wait()
        writer.write(b"0\r\n\r\n")

    stack.server.handler = stream
    reader, writer = await asyncio.open_connection(*stack.address)
    writer.write(b"POST /one HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}")
    # What the client has, the proxy has seen.
    await read_head(reader)
    await begun.wait()
    loop = asyncio.get_running_loop()
    before = loop.time()
    await stack.start_picker("two")
    await stack.serve("one", "two")
    paused = loop.time() - before
    go_on.set()
    await reader.readuntil(b"\r\n0\r\n\r\n")
    writer.close()
    outcome = await _only(stack)
    assert outcome.usage == USAGE
    assert outcome.last - outcome.first >= paused * 1e6 / 2


async def test_attempts_are_those_of_the_router(stack: NativeStack) -> None:
    await stack.serve("one", more=2)
    gone = [f"{own_address(60 + number)}:1" for number in range(2)]

    async def pick(_: HttpRequest, writer: asyncio.StreamWriter) -> None:
        listed = ",".join([*gone, stack.server.address])
        answer(writer, headers={"x-gateway-destination-endpoint": listed})

    stack.pickers["one"].handler = pick
    assert (await stack.post()).status == 200
    outcome = await _only(stack)
    assert (outcome.status, outcome.attempts, outcome.served) == (200, 3, stack.server.address)


async def test_no_server_answers(stack: NativeStack) -> None:
    await stack.serve("one")
    stack.server.stop()
    assert (await stack.post()).status == 503
    outcome = await _only(stack)
    assert outcome.status == 503
    # The retry finds that there is no other server.
    assert outcome.flags & (UPSTREAM_FAILURE | NO_HEALTHY_HOST)
    assert (outcome.first, outcome.last, outcome.usage) == (0, 0, None)


async def test_unknown_server_is_not_served(stack: NativeStack) -> None:
    await stack.serve("one")

    async def pick(_: HttpRequest, writer: asyncio.StreamWriter) -> None:
        answer(writer, headers={"x-gateway-destination-endpoint": f"{own_address(99)}:1"})

    stack.pickers["one"].handler = pick
    assert (await stack.post()).status == 503
    outcome = await _only(stack)
    assert (outcome.status, outcome.served, outcome.attempts) == (503, "", 1)
    assert outcome.flags & NO_HEALTHY_HOST


async def _stream_that_waits(stack: NativeStack) -> asyncio.StreamWriter:
    """A client in the middle of a stream."""

    async def stream(_: HttpRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n")
        writer.write(b"transfer-encoding: chunked\r\n\r\n")
        writer.write(b"%x\r\n%b\r\n" % (len(EVENTS[1]), EVENTS[1]))
        await asyncio.Event().wait()

    stack.server.handler = stream
    reader, writer = await asyncio.open_connection(*stack.address)
    writer.write(b"POST /one HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}")
    await read_head(reader)
    await reader.readuntil(b"usage")
    return writer


async def test_client_that_leaves_in_the_stream(stack: NativeStack) -> None:
    await stack.serve("one")
    writer = await _stream_that_waits(stack)
    writer.transport.abort()
    outcome = await _only(stack)
    assert outcome.flags & CLIENT_GONE
    assert (outcome.usage, outcome.served) == (USAGE, stack.server.address)


async def test_server_that_dies_in_the_stream(stack: NativeStack) -> None:
    await stack.serve("one")
    writer = await _stream_that_waits(stack)
    stack.server.stop()
    outcome = await _only(stack)
    writer.transport.abort()
    assert outcome.flags & UPSTREAM_PROTOCOL_ERROR
    assert outcome.served == stack.server.address


async def test_what_the_picker_decides_itself_is_not_reported(stack: NativeStack) -> None:
    await stack.serve("one")
    routed = stack.pickers["one"].handler

    async def refuse(_: HttpRequest, writer: asyncio.StreamWriter) -> None:
        stack.pickers["one"].handler = routed
        answer(writer, b"{}", status=429)

    stack.pickers["one"].handler = refuse
    assert [(await stack.post()).status for _ in range(2)] == [429, 200]
    assert (await _only(stack)).status == 200


async def test_each_choice_is_reported_or_taken_back_once(stack: NativeStack) -> None:
    """Clients leave at any time: before, while and after the picker answers."""
    await stack.serve("one")
    picker = stack.pickers["one"]

    async def leave(number: int) -> None:
        _, writer = await asyncio.open_connection(*stack.address)
        writer.write(b"POST /one HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}")
        for _ in range(number % 23):
            turn = asyncio.Event()
            asyncio.get_running_loop().call_soon(turn.set)
            await turn.wait()
        writer.transport.abort()

    for batch in range(10):
        await asyncio.gather(*(leave(batch + number) for number in range(40)))
    assert (await stack.post()).status == 200
    async with asyncio.timeout(DEADLINE_SECONDS):
        while len(picker.outcomes) + len(picker.cancelled) < len(picker.seen):
            picker.told.clear()
            await picker.told.wait()
    told = [*(outcome.id for outcome in picker.outcomes), *picker.cancelled]
    assert len(told) == len(set(told)) == len(picker.seen)
    assert picker.connections == 1
