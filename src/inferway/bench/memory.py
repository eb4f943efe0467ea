"""``make bench-memory``: what a picker's memory does over a million requests.

Method: one pool of ten endpoints in this process; every prompt is random, so that nothing can be
shared and every index fills to its limit. Requests are parsed, decided, reserved, answered and
counted by the picker's own service, and finished ten later. ``picker_mb`` is the resident memory of
the process. Writes build/bench/memory.json.
"""

from __future__ import annotations

import argparse
import gc
import random
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from inferway.base.clock import SystemClock
from inferway.bench import processes, report
from inferway.picker.debug import DecisionRing
from inferway.picker.machine import Callout, CalloutMachine
from inferway.picker.replies import Chosen
from inferway.picker.run import GC_THRESHOLDS
from inferway.picker.service import PickService, PoolRuntime
from inferway.picker.telemetry import Telemetry
from inferway.scheduling.events import Finished, ModelCard, Scrape
from inferway.scheduling.policy import CostPolicy
from inferway.scheduling.pool import PoolScheduler
from inferway.scheduling.snapshot import Endpoint

REQUESTS = 1_000_000
POINTS = 10
ENDPOINTS = 10
PROMPT_BYTES = 2048
IN_FLIGHT = 200
# What a server of 80 GB tells, so that the index grows as large as it may.
KV_TOKENS = 400_000
OUTPUT = Path("build/bench/memory.json")
COLUMNS = ("requests", "picker_mb")


class World:
    """One picker's pool without sockets."""

    def __init__(self) -> None:
        clock = SystemClock()
        self.scheduler = PoolScheduler(CostPolicy())
        self.now = clock.monotonic()
        addresses = [f"10.0.0.{n + 1}:8000" for n in range(ENDPOINTS)]
        self.scheduler.set_endpoints([Endpoint(a, a) for a in addresses], self.now)
        for address in addresses:
            self.scheduler.observe_models(address, [ModelCard("m")])
            self.scheduler.observe(address, Scrape(kv_tokens=KV_TOKENS), self.now)
        self.telemetry = Telemetry("ns/p", self.scheduler, DecisionRing(clock))
        runtime = PoolRuntime(self.scheduler, synced=True)
        self.service = PickService(
            {("ns", "p"): runtime}, clock, random.Random(1), self.telemetry, "bench"
        )
        self.protocol = CalloutMachine()
        self.rng = random.Random(2)
        self.open: deque[Chosen] = deque()

    def request(self) -> None:
        """One more request, and the end of an old one."""
        prompt = self.rng.randbytes(PROMPT_BYTES // 2).hex().encode()
        body = b'{"model":"m","stream":true,"prompt":"%b"}' % prompt
        data = b"POST /pick/ns/p/v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b"
        for command in self.protocol.handle(data % (len(body), body)):
            assert isinstance(command, Callout)
            reply = self.service.answer(command, "proxy")
            assert isinstance(reply, Chosen)
            self.open.append(reply)
        if len(self.open) > IN_FLIGHT:
            old = self.open.popleft()
            event = Finished(
                old.pick,
                code=200,
                served=old.addresses[0],
                first_byte_seconds=0.1,
                last_byte_seconds=1.0,
                prompt_tokens=PROMPT_BYTES // 4,
                completion_tokens=50,
                cached_tokens=0,
            )
            ended = self.scheduler.settle(event, self.now)
            self.telemetry.settled(event, ended)


def resident_mb() -> float:
    """The process's resident memory in MB."""
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * 4096 / 1e6


def main(argv: Sequence[str] = ()) -> int:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(prog="python -m inferway.bench.memory")
    parser.add_argument("--requests", type=int, default=REQUESTS)
    args = parser.parse_args(argv)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    world = World()
    rows = [{"requests": 0, "picker_mb": resident_mb()}]
    step = max(args.requests // POINTS, 1)
    for point in range(1, POINTS + 1):
        for _ in range(step):
            world.request()
        rows.append({"requests": point * step, "picker_mb": resident_mb()})
    report.show("Memory of a picker", COLUMNS, rows)
    report.write(OUTPUT, processes.machine(), rows)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
