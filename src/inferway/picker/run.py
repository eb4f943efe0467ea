"""Puts the picker together, runs it, and takes it down in order."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import signal
from collections.abc import Mapping

from inferway.base.clock import SystemClock
from inferway.base.errors import InferwayError
from inferway.base.ids import RandomIds
from inferway.picker.callout import CalloutServer
from inferway.picker.flags import Options
from inferway.picker.service import PickService, PoolRuntime
from inferway.scheduling.decision import Explanation
from inferway.scheduling.events import Doubted, Event, ProxyGone
from inferway.scheduling.policy import CostPolicy
from inferway.scheduling.pool import PoolScheduler
from inferway.scheduling.snapshot import Endpoint

_log = logging.getLogger(__name__)


class NoWatcher:
    """Counts nothing."""

    def decided(self, outcome: str, seconds: float) -> None: ...

    def explained(self, pick: str, request_id: bytes, explanation: Explanation) -> None: ...


async def run(options: Options, env: Mapping[str, str]) -> int:
    clock = SystemClock()
    scheduler = PoolScheduler(CostPolicy())
    pool = PoolRuntime(scheduler)
    key = (options.text("pool-namespace"), options.text("pool-name"))
    service = PickService({key: pool}, clock, random.Random(), NoWatcher(), RandomIds().suffix(8))

    def settle(event: Event) -> None:
        scheduler.settle(event, clock.monotonic())

    server = CalloutServer(
        service,
        doubted=lambda pick: settle(Doubted(pick)),
        gone=lambda proxy: settle(ProxyGone(proxy)),
    )
    if options.endpoints:
        scheduler.set_endpoints([Endpoint(a, a) for a in options.endpoints], clock.monotonic())
        pool.synced = True
    try:
        await server.listen_tcp(options.text("bind-address"), options.number("pick-port"))
        if options.text("pick-socket"):
            await server.listen_unix(options.text("pick-socket"))
    except OSError as error:
        raise InferwayError("INFERWAY0410", f"can not listen: {error}") from None
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    await stop.wait()
    await server.drain()
    return 0
