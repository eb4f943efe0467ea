"""The engine in real time, with the API server in front of it."""

from __future__ import annotations

import asyncio

from inferway.simulator.engine.engine import Engine
from inferway.simulator.engine.profiles import Profile
from inferway.simulator.engine.values import EngineConfig, Request, Step, Timing
from inferway.simulator.pump import EnginePump

DEADLINE_SECONDS = 5.0


class Heard:
    """A sink and an observer that note what they hear."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.steps = 0
        self.done = asyncio.Event()

    def gained(self, tokens: int, at: float, ended: float, timing: Timing | None) -> None:
        assert ended <= at
        self.times.append(at)
        if timing is not None:
            self.done.set()

    def stepped(self, step: Step) -> None:
        self.steps += 1


def ask(pump: EnginePump, sink: Heard, tokens: int) -> int:
    identity = pump.next_id()
    output = tuple(range(tokens))
    pump.submit(Request(id=identity, prompt=(1, 2), output=output, arrived=pump.now()), sink)
    return identity


async def test_requests_and_tokens_pass_the_api_server_in_order() -> None:
    profile = Profile(base_seconds=0.001, request_seconds=0.010, token_seconds=0.004)
    heard, first, second = Heard(), Heard(), Heard()
    pump = EnginePump(Engine(EngineConfig(), profile), asyncio.get_running_loop(), heard)
    began = pump.now()
    ask(pump, first, 2)
    ask(pump, second, 1)
    async with asyncio.timeout(DEADLINE_SECONDS):
        await asyncio.gather(first.done.wait(), second.done.wait())
    # 10 ms for the first request; the second is worked on while the first is computed, and then
    # each token waits for what came before it.
    assert first.times[0] - began >= 0.015
    assert second.times[0] - began >= 0.025
    assert first.times == sorted(first.times)
    assert pump.engine.idle


async def test_a_client_that_leaves_at_once_never_reaches_the_engine() -> None:
    profile = Profile(base_seconds=0.001, request_seconds=0.010)
    heard, gone, other = Heard(), Heard(), Heard()
    pump = EnginePump(Engine(EngineConfig(), profile), asyncio.get_running_loop(), heard)
    pump.abort(ask(pump, gone, 50))
    ask(pump, other, 3)
    async with asyncio.timeout(DEADLINE_SECONDS):
        await other.done.wait()
    assert gone.times == []
    assert len(other.times) == 3
    assert heard.steps == 3
