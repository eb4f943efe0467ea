"""The native pick filter in real Envoy: what only it has, and what only it can get wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from gateway_channel import FAILED, FINAL, ROUTE, frame
from gateway_rig import DEADLINE_SECONDS, HttpRequest, answer, read_body, read_head
from native_stack import NativeStack, native_stack

pytestmark = pytest.mark.slow


@pytest_asyncio.fixture
async def stack(pick_module: str) -> AsyncIterator[NativeStack]:
    async with native_stack(pick_module) as made:
        yield made


async def raw(stack: NativeStack, data: bytes) -> tuple[str, bytes]:
    """Status line and body of what a client that writes these bytes is told."""
    reader, writer = await asyncio.open_connection(*stack.address, limit=2**27)
    try:
        writer.write(data)
        async with asyncio.timeout(DEADLINE_SECONDS):
            line, headers = await read_head(reader)
            return line, await read_body(reader, headers, eof=False)
    finally:
        writer.transport.abort()


async def test_one_connection_for_all_requests(stack: NativeStack) -> None:
    await stack.serve("one")
    replies = await asyncio.gather(*(stack.post() for _ in range(50)))
    assert [reply.status for reply in replies] == [200] * 50
    picker = stack.pickers["one"]
    assert (picker.connections, len(picker.seen)) == (1, 50)
    assert len({outcome.id for outcome in await picker.heard(50)}) == 50


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "DELETE"])
async def test_methods_without_a_body(stack: NativeStack, method: str) -> None:
    await stack.serve("one")
    reader, writer = await asyncio.open_connection(*stack.address)
    writer.write(f"{method} /one/models HTTP/1.1\r\nhost: a\r\n\r\n".encode())
    line, _ = await read_head(reader)
    writer.transport.abort()
    assert line.startswith("HTTP/1.1 200")
    (asked,) = stack.pickers["one"].seen
    assert (asked.method, asked.path, asked.body) == (method, "/pick/ns/one/one/models", b"")


@pytest.mark.parametrize("size", [1, 70_000, 50_000_000])
async def test_body_of_any_size_arrives_whole(stack: NativeStack, size: int) -> None:
    await stack.serve("one")
    body = (b"%07x\n" % 0xBEEF) * (size // 8) + b"x" * (size % 8)
    reply = await stack.post(body=body)
    assert reply.status == 200
    assert stack.pickers["one"].seen[0].body == body
    assert stack.server.seen[0].body == body


async def test_body_beyond_the_limit_is_refused(stack: NativeStack) -> None:
    await stack.serve("one")
    line, body = await raw(
        stack,
        b"POST /one HTTP/1.1\r\nhost: a\r\ncontent-length: 70000000\r\n\r\n" + b"x" * 68_000_000,
    )
    assert line.startswith("HTTP/1.1 413")
    assert b"request_too_large" in body
    assert not stack.pickers["one"].seen


@pytest.mark.parametrize("trailer", [b"", b"x-checksum: 1\r\n"])
@pytest.mark.parametrize("chunks", [1, 500])
async def test_chunked_body(stack: NativeStack, chunks: int, trailer: bytes) -> None:
    await stack.serve("one")
    pieces = [b"%x\r\n%b\r\n" % (5, b"%05d" % number) for number in range(chunks)]
    reader, writer = await asyncio.open_connection(*stack.address)
    writer.write(b"POST /one HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n")
    if trailer:
        writer.write(b"trailer: x-checksum\r\n")
    writer.write(b"\r\n")
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
    writer.write(b"0\r\n" + trailer + b"\r\n")
    line, _ = await read_head(reader)
    writer.transport.abort()
    assert line.startswith("HTTP/1.1 200")
    whole = b"".join(b"%05d" % number for number in range(chunks))
    assert stack.pickers["one"].seen[0].body == whole
    assert stack.server.seen[0].body == whole


async def test_client_that_waits_to_be_asked_for_its_body(stack: NativeStack) -> None:
    await stack.serve("one")
    reader, writer = await asyncio.open_connection(*stack.address)
    writer.write(
        b"POST /one HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n"
    )
    line, _ = await read_head(reader)
    assert line.startswith("HTTP/1.1 100")
    writer.write(b"{}")
    line, _ = await read_head(reader)
    writer.transport.abort()
    assert line.startswith("HTTP/1.1 200")
    assert stack.pickers["one"].seen[0].body == b"{}"


def _frames(number: int) -> dict[str, bytes]:
    route = frame(number, ROUTE, 0, ["127.0.0.1:1"])
    return {
        "garbage": b"HTTP/1.0 400 Bad Request\n\n" * 10,
        "half a frame and the end": route[:11],
        "a frame larger than an answer": b"\xff\xff\xff\x7f" + route[4:],
        "a frame of another kind": route[:4] + b"\x07" + route[5:],
        "fields beyond the frame": route[:20] + b"\xff" + route[21:],
        "a verdict that is none": frame(number, 9, 0),
        "a status that is none": frame(number, FINAL, 7),
    }


@pytest.mark.parametrize("name", sorted(_frames(0)))
async def test_picker_that_talks_nonsense(stack: NativeStack, name: str) -> None:
    await stack.serve("one", seconds=10.0)
    # Questions have the ids of the first slot, turn after turn.
    picker = stack.pickers["one"]

    async def talk(_: HttpRequest, writer: asyncio.StreamWriter) -> None:
        real = next(iter(picker._writers))
        real.write(_frames(len(picker.seen) << 32)[name])
        if "half" in name:
            real.close()

    working = picker.handler
    picker.handler = talk
    reply = await stack.post()
    assert reply.status == 503
    assert reply.json()["error"]["code"] == "picker_unavailable"
    picker.handler = working
    await _until(stack, 200)


async def _until(stack: NativeStack, status: int) -> None:
    """The channel connects again by itself, within a second."""
    async with asyncio.timeout(1.0):
        while (await stack.post()).status != status:
            pass


async def test_answers_to_nobody_and_twice_are_passed_over(stack: NativeStack) -> None:
    await stack.serve("one")
    picker = stack.pickers["one"]

    async def pick(_: HttpRequest, writer: asyncio.StreamWriter) -> None:
        real = next(iter(picker._writers))
        mine = len(picker.seen) << 32
        for number in (0, 5, mine + 1, 2**64 - 1, mine, mine):
            real.write(frame(number, ROUTE, 0, [stack.server.address]))
        real.write(frame(mine, FAILED, 503))

    picker.handler = pick
    assert [(await stack.post()).status for _ in range(3)] == [200, 200, 200]
    assert picker.connections == 1


async def test_answers_byte_by_byte(stack: NativeStack) -> None:
    await stack.serve("one")
    picker = stack.pickers["one"]

    async def pick(_: HttpRequest, writer: asyncio.StreamWriter) -> None:
        real = next(iter(picker._writers))
        for byte in frame(len(picker.seen) << 32, ROUTE, 0, [stack.server.address]):
            real.write(bytes([byte]))
            await real.drain()

    picker.handler = pick
    assert (await stack.post()).status == 200


async def test_headers_that_can_not_be_headers_are_left_out(stack: NativeStack) -> None:
    await stack.serve("one")

    async def refuse(_: HttpRequest, writer: asyncio.StreamWriter) -> None:
        picker = stack.pickers["one"]
        fields = ["x-good", "1", "x-bad", "a\r\nset-cookie: b", ":status", "200", "x-last", ""]
        real = next(iter(picker._writers))
        real.write(frame(len(picker.seen) << 32, FINAL, 429, fields, b'{"busy": 1}'))

    stack.pickers["one"].handler = refuse
    reply = await stack.post()
    assert (reply.status, reply.body) == (429, b'{"busy": 1}')
    assert (reply.headers["x-good"], reply.headers["x-last"]) == ("1", "")
    assert not {"x-bad", "set-cookie"} & set(reply.headers)


async def test_picker_that_reads_nothing_holds_up_nobody_else(stack: NativeStack) -> None:
    """Its questions end by their time, with much unsent."""
    stack.pickers["one"].stop()
    held: list[asyncio.StreamWriter] = []

    async def ignore(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        held.append(writer)

    (stack.rig.folder / "one.sock").unlink()
    server = await asyncio.start_unix_server(ignore, stack.socket("one"))
    await stack.start_picker("two")
    await stack.serve("one", "two", seconds=2.0)
    large = b"x" * 4_000_000
    stuck = [asyncio.ensure_future(stack.post(body=large)) for _ in range(4)]
    assert (await stack.post("/two")).status == 200
    assert [reply.status for reply in await asyncio.gather(*stuck)] == [503] * 4
    assert (await stack.post("/two")).status == 200
    for writer in held:
        writer.transport.abort()
    server.close()


async def test_picker_is_found_again_after_a_restart(stack: NativeStack) -> None:
    await stack.serve("one")
    assert (await stack.post()).status == 200
    stack.pickers["one"].stop()
    (stack.rig.folder / "one.sock").unlink(missing_ok=True)
    while (await stack.post()).status == 200:
        pass
    picker = await stack.start_picker("one")
    await _until(stack, 200)
    assert picker.connections == 1


async def test_question_of_a_lost_connection_is_asked_once_more(stack: NativeStack) -> None:
    await stack.serve("one")
    picker = stack.pickers["one"]
    working = picker.handler
    # A connection that did not last is not made again at once.
    await asyncio.wait_for(_seconds_of_work(stack, 0.2), 5)

    async def hang_up(_: HttpRequest, writer: asyncio.StreamWriter) -> None:
        picker.handler = working
        writer.transport.abort()

    picker.handler = hang_up
    seen = len(picker.seen)
    body = b"x" * 300_000
    reply = await stack.post(body=body)
    assert reply.status == 200
    assert [asked.body == body for asked in picker.seen[seen:]] == [True, True]
    assert picker.connections == 2


async def _seconds_of_work(stack: NativeStack, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while loop.time() < end:
        assert (await stack.post()).status == 200


async def test_change_of_configuration_while_requests_wait(stack: NativeStack) -> None:
    await stack.serve("one")
    picker = stack.pickers["one"]
    go_on, asked = asyncio.Event(), asyncio.Event()

    async def wait(_: HttpRequest, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await go_on.wait()
        answer(writer, headers={"x-gateway-destination-endpoint": stack.server.address})

    picker.handler = wait
    waiting = asyncio.ensure_future(stack.post())
    await asked.wait()
    await stack.start_picker("two")
    await stack.serve("two")
    assert (await stack.post("/two")).status == 200
    assert (await stack.post("/one")).status == 404
    go_on.set()
    assert (await waiting).status == 200
    # The last request of a picker that no route names reports, and then its channel closes.
    await picker.heard(1)
    await asyncio.wait_for(picker.closed.wait(), DEADLINE_SECONDS)


async def test_two_pickers_of_one_gateway(stack: NativeStack) -> None:
    await stack.start_picker("two")
    await stack.serve("one", "two")
    for path in ("/one/a", "/two/b", "/one/c"):
        assert (await stack.post(path)).status == 200
    paths = {name: [asked.path for asked in made.seen] for name, made in stack.pickers.items()}
    assert paths == {
        "one": ["/pick/ns/one/one/a", "/pick/ns/one/one/c"],
        "two": ["/pick/ns/two/two/b"],
    }


async def test_all_pickers_of_a_pool_are_asked(stack: NativeStack) -> None:
    await stack.start_picker("two")
    # The third is a Pod that is not there yet.
    await stack.serve("one", replicas=("two", "three"))
    for _ in range(20):
        assert (await stack.post()).status == 200
    counts = [len(made.seen) for made in stack.pickers.values()]
    assert sum(counts) == 20
    # In turn; the first questions may have found only one of them.
    assert min(counts) >= 5
    assert [made.connections for made in stack.pickers.values()] == [1, 1]


async def test_a_picker_that_dies_hands_over_to_the_others(stack: NativeStack) -> None:
    two = await stack.start_picker("two")
    await stack.serve("one", replicas=("two",))
    one = stack.pickers["one"]
    asked = asyncio.Event()

    async def hold(_: HttpRequest, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await asyncio.Event().wait()

    async with asyncio.timeout(DEADLINE_SECONDS), asyncio.TaskGroup() as tasks:
        while not (one.seen and two.seen):
            assert (await stack.post()).status == 200
        before, others = len(one.seen), len(two.seen)
        one.handler = hold
        # Of two that are asked in turn each has one of these.
        held = [tasks.create_task(stack.post(), name="held") for _ in range(2)]
        await asked.wait()
        # One that hangs has most questions, and gets no more of them.
        replies = [await stack.post() for _ in range(10)]
        assert [reply.status for reply in replies] == [200] * 10
        assert len(one.seen) == before + 1
        one.stop()
        # What waited there is asked again, and nothing else was there.
        assert [(await task).status for task in held] == [200] * 2
        assert [(await stack.post()).status for _ in range(10)] == [200] * 10
        assert len(two.seen) == others + 22
        again = await stack.start_picker("one")
        while not again.seen:
            assert (await stack.post()).status == 200


async def test_a_picker_that_hangs_up_costs_nobody_an_answer(stack: NativeStack) -> None:
    two = await stack.start_picker("two")
    await stack.serve("one", replicas=("two",))
    one = stack.pickers["one"]

    async def hang_up(_: HttpRequest, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    one.handler = hang_up
    async with asyncio.timeout(DEADLINE_SECONDS):
        while len(one.seen) < 3:
            replies = await asyncio.gather(*(stack.post() for _ in range(10)))
            assert [reply.status for reply in replies] == [200] * 10
    assert len(two.seen) >= 10


async def test_late_question_is_taken_back(stack: NativeStack) -> None:
    await stack.serve("one", seconds=0.1, fail_open=True)
    picker = stack.pickers["one"]

    async def hang(_: HttpRequest, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    picker.handler = hang
    assert (await stack.post()).status == 200
    await asyncio.wait_for(picker.told.wait(), DEADLINE_SECONDS)
    assert (len(picker.cancelled), picker.outcomes) == (1, [])


async def test_first_request_after_a_new_configuration_waits_for_the_connection(
    stack: NativeStack,
) -> None:
    for name in ("two", "three", "four"):
        await stack.start_picker(name)
        await stack.serve(name)
        assert (await stack.post(f"/{name}")).status == 200
