"""The pick channel over real sockets: what a proxy says, and what the picker counts."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from fake_server import FakeServer
from test_picker_frames import CANCEL, frame, question
from test_picker_process import BASE, DEADLINE_SECONDS, ask, picker_for, until

from inferway.picker import channel as pick_channel
from inferway.picker.channel import FAILED_FLAGS, finished
from inferway.picker.frames import GREETING, Report
from inferway.picker.run import Picker
from inferway.scheduling.accounting import DOUBT_SECONDS

BODY = json.dumps({"model": "m", "prompt": "x"}).encode()
USAGE = (
    b'{"prompt_tokens": 40, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 8}}'
)


class Proxy:
    """The native filter's end of a channel."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        writer.write(GREETING)

    async def answer(self) -> tuple[int, int, int, bytes]:
        """Id, verdict, status, and the rest."""
        head = await self.reader.readexactly(16)
        length, kind, number = struct.unpack("<IB3xQ", head)
        rest = await self.reader.readexactly(length)
        assert kind == 4
        return (number, *struct.unpack_from("<HH", rest), rest[8:])

    async def choose(self, number: int) -> str:
        self.writer.write(question(number, BODY))
        answered, verdict, _, addresses = await self.answer()
        assert (answered, verdict) == (number, 1)
        return addresses.decode()

    def report(self, number: int, served: str, usage: bytes = USAGE, flags: int = 0) -> None:
        numbers = struct.pack("<HHIIII", 200, 1, flags, 50_000, 90_000, 100_000)
        self.writer.write(frame(2, number, numbers + served.encode() + b"\0" + usage))


@asynccontextmanager
async def channel() -> AsyncIterator[tuple[Picker, str, Proxy]]:
    """A picker with one server, the server's address, and a proxy."""
    async with FakeServer([BASE]).serving() as server, picker_for(server.address) as picker:
        reader, writer = await asyncio.open_connection("127.0.0.1", picker.ports["pick"])
        try:
            async with asyncio.timeout(2 * DEADLINE_SECONDS):
                yield picker, server.address, Proxy(reader, writer)
        finally:
            writer.transport.abort()


def in_flight(picker: Picker) -> int:
    return sum(picker.pool.scheduler.in_flight().values())


@pytest.mark.slow
async def test_question_and_report() -> None:
    async with channel() as (picker, address, proxy):
        assert await proxy.choose(1) == address
        assert in_flight(picker) == 1
        proxy.report(1, address)
        await until(lambda: in_flight(picker) == 0)
        proxy.report(1, address)
        proxy.report(99, address)
        assert await proxy.choose(2) == address
        assert in_flight(picker) == 1


@pytest.mark.slow
async def test_many_questions_in_one_write_are_answered_in_one_order() -> None:
    async with channel() as (picker, _, proxy):
        proxy.writer.write(b"".join(question(number, BODY) for number in range(50)))
        assert [(await proxy.answer())[0] for _ in range(50)] == list(range(50))
        assert in_flight(picker) == 50


@pytest.mark.slow
async def test_cancelled_choice_counts_no_more() -> None:
    async with channel() as (picker, _, proxy):
        await proxy.choose(1)
        proxy.writer.write(frame(CANCEL, 1) + frame(CANCEL, 1) + frame(CANCEL, 5))
        await until(lambda: in_flight(picker) == 0)
        await proxy.choose(1)


@pytest.mark.slow
async def test_bad_body_is_answered_and_the_connection_goes_on() -> None:
    async with channel() as (picker, address, proxy):
        proxy.writer.write(question(1, b"{not json"))
        number, verdict, status, said = await proxy.answer()
        assert (number, verdict, status) == (1, 2, 400)
        assert b"invalid_request_error" in said
        assert await proxy.choose(2) == address
        assert in_flight(picker) == 1


@pytest.mark.slow
async def test_nonsense_ends_the_connection_and_no_other() -> None:
    async with channel() as (picker, _, proxy):
        reader, writer = await asyncio.open_connection("127.0.0.1", picker.ports["pick"])
        other = Proxy(reader, writer)
        await other.choose(1)
        other.writer.write(frame(77, 1))
        assert await other.reader.read() == b""
        await proxy.choose(1)
        writer.close()


@pytest.mark.slow
async def test_lost_connection_leaves_its_choices_in_doubt() -> None:
    """A proxy that lost only its connection runs them on, and can not tell how they end."""
    async with channel() as (picker, _, proxy):
        await proxy.choose(1)
        ledger = picker.pool.scheduler.ledger
        (taken,) = ledger
        proxy.writer.transport.abort()
        loop = asyncio.get_running_loop()
        await until(lambda: taken.deadline <= loop.time() + DOUBT_SECONDS)
        assert len(ledger) == 1


@pytest.mark.slow
async def test_a_choice_beyond_the_limit_leaves_the_oldest_in_doubt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pick_channel, "PICKS_MAX", 2)
    async with channel() as (picker, address, proxy):
        for number in range(3):
            await proxy.choose(number)
        first, *others = picker.pool.scheduler.ledger
        soon = asyncio.get_running_loop().time() + DOUBT_SECONDS
        assert first.deadline <= soon
        assert all(one.deadline > soon for one in others)
        # What it tells of the oldest is not understood any more.
        for number in range(3):
            proxy.report(number, address)
        await until(lambda: in_flight(picker) == 1)


@pytest.mark.slow
async def test_http_and_channel_at_one_door(tmp_path: Path) -> None:
    path = str(tmp_path / "pick.sock")
    extra = ("--pick-socket", path)
    async with (
        FakeServer([BASE]).serving() as server,
        picker_for(server.address, extra=extra) as picker,
    ):
        reader, writer = await asyncio.open_unix_connection(path)
        proxy = Proxy(reader, writer)
        assert await proxy.choose(1) == server.address
        status, headers, _ = await ask(picker, {"model": "m", "prompt": "x"})
        assert status == 200
        assert headers["x-gateway-destination-endpoint"] == server.address
        assert in_flight(picker) == 2
        writer.transport.abort()
        # Who greets slowly is served too.
        reader, writer = await asyncio.open_unix_connection(path)
        for byte in GREETING[:-1]:
            writer.write(bytes([byte]))
            await writer.drain()
        writer.write(GREETING[-1:] + question(1, BODY))
        proxy = Proxy.__new__(Proxy)
        proxy.reader, proxy.writer = reader, writer
        assert (await proxy.answer())[:2] == (1, 1)
        writer.transport.abort()


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        (USAGE, (40, 7, 8)),
        (b"", (0, 0, None)),
        (b'{"prompt_tokens": 3}', (3, 0, None)),
        (b'{"prompt_tokens": null, "prompt_tokens_details": null}', (0, 0, None)),
        (b'{"prompt_tokens": -3, "completion_tokens": 1e300}', (0, 0, None)),
        (b'{"prompt_tokens": 99999999999999}', (0, 0, None)),
        (b'{"prompt_tokens": "7"}', (0, 0, None)),
        (b"[" * 1000, (0, 0, None)),
        (b"\xff\xfe", (0, 0, None)),
    ],
)
def test_usage_of_a_report(usage: bytes, tokens: tuple[int, int, int | None]) -> None:
    event = finished("p", Report(1, 200, 0, FAILED_FLAGS, 0, 0, 5, b"a:1", usage))
    assert (event.prompt_tokens, event.completion_tokens, event.cached_tokens) == tokens
    assert (event.failed, event.attempts, event.served) == (True, 1, "a:1")
    assert event.first_byte_seconds is None
    assert event.duration_seconds == pytest.approx(5e-6)
