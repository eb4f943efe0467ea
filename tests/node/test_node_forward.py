"""The forwarder on real sockets: half-close, back-pressure, resets, many connections."""

from __future__ import annotations

import asyncio
import hashlib
import select
import socket
import struct
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest
from node_cluster import eventually

from inferway.local.node.sandbox.forward import Choose, Forwarder
from inferway.local.node.sandbox.services import Turns
from inferway.local.node.sandboxes import listening_socket


@contextmanager
def forwarding(choose: Choose) -> Iterator[tuple[int, Forwarder]]:
    """A forwarder in a thread of its own, and the port where it listens."""
    poll = select.epoll()
    forwarder = Forwarder(poll, choose)
    listener = listening_socket("127.0.0.1", 0)
    port = listener.getsockname()[1]
    forwarder.listen(listener, 1)
    stop_read, stop_write = socket.socketpair()
    poll.register(stop_read.fileno(), select.EPOLLIN)

    def work() -> None:
        while True:
            for descriptor, events in poll.poll():
                if descriptor == stop_read.fileno():
                    return
                forwarder.handle(descriptor, events)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield port, forwarder
    finally:
        stop_write.send(b"x")
        thread.join()
        forwarder.unlisten(1)
        for side in list(forwarder._sides.values()):
            side.sock.close()
        poll.close()
        stop_read.close()
        stop_write.close()


@asynccontextmanager
async def echo() -> AsyncIterator[int]:
    """A server that answers only when its client has finished sending."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        digest, count = hashlib.sha256(), 0
        while data := await reader.read(65536):
            digest.update(data)
            count += len(data)
        writer.write(digest.hexdigest().encode() + b"\n" + bytes(count))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1024)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def exchange(port: int, payload: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(payload)
    await writer.drain()
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    return answer


@pytest.mark.parametrize("size", [0, 1, 65536, 10_000_000])
async def test_a_half_closed_connection_still_gets_its_answer(size: int) -> None:
    payload = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    async with echo() as target:
        with forwarding(lambda _: ("127.0.0.1", target)) as (port, _):
            answer = await exchange(port, payload)
    digest, _, body = answer.partition(b"\n")
    assert digest.decode() == hashlib.sha256(payload).hexdigest()
    assert len(body) == size


async def test_many_connections_at_once_and_nothing_is_left() -> None:
    async with echo() as target:
        with forwarding(lambda _: ("127.0.0.1", target)) as (port, forwarder):
            payloads = [f"request {number}".encode() * 50 for number in range(300)]
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(exchange(port, one)) for one in payloads]
            for task, payload in zip(tasks, payloads, strict=True):
                assert hashlib.sha256(payload).hexdigest().encode() in task.result()
            # The forwarder's own thread closes a moment after its clients have seen the end.
            await eventually(lambda: forwarder._sides == {})


@pytest.mark.slow
async def test_a_slow_reader_holds_its_writer_back() -> None:
    sent = 0
    stopped = asyncio.Event()

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        try:
            while sent < 200_000_000:
                writer.write(b"x" * 65536)
                async with asyncio.timeout(0.3):
                    await writer.drain()
                sent += 65536
        except TimeoutError:
            stopped.set()
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        target = server.sockets[0].getsockname()[1]
        with forwarding(lambda _: ("127.0.0.1", target)) as (port, _):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            # Nobody reads: the kernel's buffers fill and the server waits.
            reader._transport.pause_reading()  # type: ignore[attr-defined]
            async with asyncio.timeout(10):
                await stopped.wait()
            writer.transport.abort()
    assert sent < 100_000_000


@pytest.mark.parametrize("target", ["refused", "none"])
async def test_a_target_that_is_not_there_is_a_reset(target: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        place = ("127.0.0.1", taken.getsockname()[1])
        choose = place if target == "refused" else None
        with forwarding(lambda _: choose) as (port, _):
            assert await breaks(port)


async def breaks(port: int) -> bool:
    """Connecting, sending or reading fails; which of them comes first is a race."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"hello")
        await reader.read()
    except OSError:
        return True
    return False


async def test_a_reset_of_one_end_reaches_the_other() -> None:
    broken = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.read(100):
                pass
        except ConnectionResetError:
            broken.set()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        target = server.sockets[0].getsockname()[1]
        with forwarding(lambda _: ("127.0.0.1", target)) as (port, _):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"hello")
            await writer.drain()
            at_once = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
            writer.transport.abort()
            async with asyncio.timeout(5):
                await broken.wait()


def test_services_take_turns() -> None:
    turns = Turns()
    assert turns.choose(1) is None
    turns.set(1, [("a", 1), ("b", 2)])
    assert [turns.choose(1) for _ in range(4)] == [("a", 1), ("b", 2)] * 2
    turns.set(1, [("c", 3)])
    assert turns.choose(1) == ("c", 3)
    turns.drop(1)
    assert turns.choose(1) is None
