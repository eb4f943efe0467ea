"""Two pickers in one process, over real sockets: what one reserves counts with the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest
from fake_server import FakeServer

from inferway.base.clock import SystemClock
from inferway.picker import flags
from inferway.picker.exchange import machine, messages
from inferway.picker.exchange.pump import Exchange
from inferway.picker.machine import Callout
from inferway.picker.replies import Chosen
from inferway.picker.run import Picker
from inferway.scheduling import accounting
from inferway.scheduling.events import Finished, Tick
from inferway.scheduling.policy import CostPolicy

DEADLINE_SECONDS = 5.0
PROMPT = b'{"model": "m", "prompt": "' + b"x" * 4000 + b'"}'


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():
            turn = asyncio.Event()
            asyncio.get_running_loop().call_later(0.002, turn.set)
            await turn.wait()


@asynccontextmanager
async def picker(name: str, peers: str, *servers: str) -> AsyncIterator[Picker]:
    argv = ["--pool-name=ns/p", "--bind-address=127.0.0.1", "--drain-timeout=0s"]
    argv += ["--endpoints", ",".join(servers), "--peers", peers]
    argv += [f"--{p}-port=0" for p in ("grpc", "pick", "feedback", "grpc-health", "metrics")]
    argv += ["--exchange-port=0"]
    made = Picker(flags.parse(argv, {}), CostPolicy, SystemClock(), name)
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        work = tasks.create_task(made.run(None, stop))
        try:
            await until(lambda: made.pool.synced or work.done())
            if not work.done():
                yield made
        finally:
            stop.set()
            await work


async def shut(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


def choose(one: Picker) -> Chosen:
    reply = one.service.answer(Callout(b"POST", b"/pick/ns/p/v1/completions", PROMPT), "proxy")
    assert isinstance(reply, Chosen)
    return reply


@asynccontextmanager
async def two(*servers: str) -> AsyncIterator[tuple[Picker, Picker]]:
    # The first is told of the second when its port is known.
    async with (
        picker("aaaa", "127.0.0.1:1", *servers) as one,
        picker("bbbb", f"127.0.0.1:{one.exchange.port}", *servers) as other,
    ):
        one.exchange.set_peers([f"127.0.0.1:{other.exchange.port}"])
        await until(lambda: one.exchange.listeners == other.exchange.listeners == 1)
        await until(lambda: one.exchange.heard.connected == 1)
        await until(lambda: other.exchange.heard.connected == 1)
        yield one, other


async def test_what_one_reserves_counts_with_the_other() -> None:
    async with (
        FakeServer([{"id": "m"}]).serving() as x,
        FakeServer([{"id": "m"}]).serving() as y,
        two(x.address, y.address) as (one, other),
    ):
        chosen = choose(one)
        first = chosen.addresses.split(",")[0]
        await until(lambda: other.scheduler.in_flight()[first] == 1)
        # The same beginning goes where it was put by another picker.
        slot = other.scheduler.slot(first)
        assert slot is not None
        assert other.scheduler.prefixes.held_bytes(slot) > 0
        one.settle(Finished(chosen.pick, 200))
        await until(lambda: sum(other.scheduler.in_flight().values()) == 0)
        assert choose(other).addresses.split(",")[0] == first
        await until(lambda: one.scheduler.in_flight()[first] == 1)


async def test_a_report_finds_its_picker() -> None:
    async with (
        FakeServer([{"id": "m"}]).serving() as x,
        two(x.address) as (one, other),
    ):
        pick = choose(one).pick
        await until(lambda: other.scheduler.in_flight()[x.address] == 1)
        other.settle(Finished(pick, 200))
        assert other.scheduler.in_flight()[x.address] == 0
        await until(lambda: one.scheduler.in_flight()[x.address] == 0)
        # Counted by the picker that decided, and by it alone.
        for made, wanted in ((one, 1), (other, 0)):
            made.telemetry.count()
            assert made.telemetry.finished[200] == wanted


async def test_one_that_joins_hears_what_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "GONE_SECONDS", 0.05)
    async with (
        FakeServer([{"id": "m"}]).serving() as x,
        picker("aaaa", "127.0.0.1:1", x.address) as one,
    ):
        for _ in range(3):
            choose(one)
        async with picker("bbbb", f"127.0.0.1:{one.exchange.port}", x.address) as other:
            await until(lambda: other.scheduler.in_flight()[x.address] == 3)
            # Nobody hears b: it has told nothing, and a nothing of it.
            assert one.scheduler.in_flight()[x.address] == 3
            one.exchange.close()
            await until(lambda: other.scheduler.in_flight()[x.address] == 0)


async def test_a_picker_that_dies_may_take_reports_of_others_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(accounting, "DOUBT_SECONDS", 0.0)
    async with (
        FakeServer([{"id": "m"}]).serving() as x,
        picker("aaaa", "127.0.0.1:1", x.address) as one,
    ):
        async with picker("bbbb", f"127.0.0.1:{one.exchange.port}", x.address) as other:
            one.exchange.set_peers([f"127.0.0.1:{other.exchange.port}"])
            await until(lambda: one.exchange.heard.connected == 1)
            choose(one)
            one.settle(Tick())
            assert one.scheduler.in_flight()[x.address] == 1
        await until(lambda: one.exchange.heard.connected == 0)
        one.settle(Tick())
        assert one.scheduler.in_flight()[x.address] == 0


async def test_strangers_are_sent_away() -> None:
    exchange = Exchange("a", {}, lambda event: None, SystemClock())
    await exchange.listen("127.0.0.1", 0)
    try:
        for words in (b"GET / HTTP/1.1\r\n\r\n", b"IWEXCH2\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", exchange.port)
            writer.write(words)
            async with asyncio.timeout(DEADLINE_SECONDS):
                with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                    await reader.readexactly(1)
            await shut(writer)
        reader, writer = await asyncio.open_connection("127.0.0.1", exchange.port)
        for letter in messages.GREETING:
            writer.write(bytes([letter]))
        async with asyncio.timeout(DEADLINE_SECONDS):
            size = messages.length(await reader.readexactly(4))
            hello = messages.decode(await reader.readexactly(size))
        assert hello == messages.Hello("a", 1, {})
        await shut(writer)
        await until(lambda: exchange.listeners == 0)
    finally:
        exchange.close()
