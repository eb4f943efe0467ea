"""KV events over real sockets: the simulated server publishes, the picker follows."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress

from inferway.base.clock import SystemClock
from inferway.picker.kvevents.pump import KvSubscriber
from inferway.scheduling.events import BlockEvent, BlocksRemoved, BlocksStored
from inferway.scheduling.snapshot import Endpoint, KvEvents
from inferway.simulator.engine.engine import Engine
from inferway.simulator.engine.profiles import builtin_profiles
from inferway.simulator.engine.values import EngineConfig, Request
from inferway.simulator.kv_events import KvPublisher
from inferway.simulator.kv_events_config import KvEventsConfig

SECONDS_MAX = 20.0
LOOK_AGAIN_SECONDS = 0.02


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


async def eventually(
    world: World, check: Callable[[], bool], work: Callable[[], None] = lambda: None
) -> None:
    """Works on until it holds; looks whenever the picker was told something, and now and then."""
    async with asyncio.timeout(SECONDS_MAX):
        while not check():
            work()
            world.heard.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(world.heard.wait(), LOOK_AGAIN_SECONDS)


class World:
    """One simulated engine with its publisher, and what a picker was told of it."""

    def __init__(self) -> None:
        ports = KvEvents(free_port(), free_port())
        config = KvEventsConfig(
            enable_kv_cache_events=True,
            endpoint=f"tcp://127.0.0.1:{ports.port}",
            replay_endpoint=f"tcp://127.0.0.1:{ports.replay_port}",
        )
        self.config = config
        self.endpoint = Endpoint("127.0.0.1:1", "pod", kv_events=ports)
        self.engine = Engine(
            EngineConfig(block_size_tokens=4, blocks=12), builtin_profiles()["default"]
        )
        self.engine.record()
        self.publisher = KvPublisher(config, 4, "")
        self.told: list[BlockEvent] = []
        self.heard = asyncio.Event()
        self.subscriber = KvSubscriber(self.apply, SystemClock())
        self.number = 0

    def apply(self, address: str, events: Sequence[BlockEvent]) -> None:
        assert address == "127.0.0.1:1"
        self.told += events
        self.heard.set()

    def serve(self, prompt: list[int]) -> None:
        self.number += 1
        self.engine.add(Request(id=self.number, prompt=prompt, output=[1], arrived=0.0))
        while not self.engine.idle:
            self.engine.step(0.0)
            if log := self.engine.take_log():
                self.publisher.publish(log)

    def stored(self) -> list[list[int]]:
        return [list(e.tokens) for e in self.told if isinstance(e, BlocksStored)]


async def test_the_picker_hears_all_whenever_it_comes() -> None:
    world = World()
    try:
        async with asyncio.TaskGroup() as tasks:
            work = [
                tasks.create_task(world.publisher.run()),
                tasks.create_task(world.subscriber.run()),
            ]
            # Before anybody listens, so that it has to be asked for.
            world.serve(list(range(100, 108)))
            world.subscriber.set_endpoints([world.endpoint])

            def again() -> None:
                world.serve([world.number] * 4)

            await eventually(world, lambda: list(range(100, 108)) in world.stored(), again)
            told = world.stored()
            assert told[: len(told)] == [
                list(range(100, 108)),
                *([n] * 4 for n in range(1, len(told))),
            ]
            # The cache has 12 blocks: something must go.
            await eventually(
                world, lambda: any(isinstance(e, BlocksRemoved) for e in world.told), again
            )
            (session,) = world.subscriber.sessions.values()
            assert sum(session.skipped.values()) == 0
            world.subscriber.set_endpoints([])
            assert not world.subscriber.sessions
            for task in work:
                task.cancel()
    finally:
        world.publisher.close()


async def test_an_engine_that_starts_again_is_heard_again() -> None:
    world = World()
    try:
        async with asyncio.TaskGroup() as tasks:
            work = tasks.create_task(world.subscriber.run())
            world.subscriber.set_endpoints([world.endpoint])
            await eventually(
                world, lambda: bool(world.told), lambda: world.serve([7, world.number] * 2)
            )
            world.publisher.close()
            world.publisher = KvPublisher(world.config, 4, "")
            world.told.clear()
            await eventually(
                world, lambda: bool(world.told), lambda: world.serve([8, world.number] * 2)
            )
            work.cancel()
    finally:
        world.publisher.close()
