"""A pool of simulated engines in simulated time, routed by one policy: one run of ``bench-policy``.

Method: the engines are the simulated server's model (``simulator.engine``), stepped by an event
queue; every request is routed by the real scheduler under the policy, which sees what a picker
sees: scrapes every 0.2 s, each server at a phase of its own, and the ends of requests 50 ms late,
with the usage that the server reports.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

from inferway.bench.policy_traces import Call, Trace
from inferway.scheduling.decision import Decision, Policy
from inferway.scheduling.events import Finished, ModelCard, Scrape
from inferway.scheduling.pool import PoolScheduler
from inferway.scheduling.request import ApiKind
from inferway.scheduling.request import Request as Asked
from inferway.scheduling.snapshot import Endpoint
from inferway.simulator.engine.engine import Engine
from inferway.simulator.engine.profiles import Profile
from inferway.simulator.engine.values import EngineConfig, Output, Request

SCRAPE_SECONDS = 0.2
# A proxy reports ends together, at most this late.
REPORT_SECONDS = 0.05
BYTES_PER_TOKEN = 4
# Coarser than vLLM's 16, which makes no difference to who has a prefix and saves most hashing.
BLOCK_TOKENS = 64
# What 80 GB hold beside an 8B model, at 128 KB a token.
KV_TOKENS = 400_000
# The first requests meet empty caches and unknown rates.
WARM_UP_SHARE = 0.2
BASE = "base"


@dataclass(slots=True)
class Result:
    """What came of it: of each request after the warm-up, in the order of arrival."""

    ttft: list[float] = field(default_factory=list)
    e2e: list[float] = field(default_factory=list)
    output_tokens: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class _Open:
    call: Call
    began: float
    judged: bool
    first: float = -1.0
    cached: int = 0
    server: int = -1


class World:
    """One run of one policy at one rate (requests per second)."""

    def __init__(
        self, trace: Trace, calls: Sequence[Call], rate: float, policy: Policy, profile: Profile
    ) -> None:
        self.trace = trace
        self.now = 0.0
        self.result = Result()
        self.pool = PoolScheduler(policy)
        self._choice = random.Random(1)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._ids = count()
        config = EngineConfig(
            block_size_tokens=BLOCK_TOKENS,
            blocks=KV_TOKENS // BLOCK_TOKENS,
            adapters_device_max=trace.slots,
            adapters_host_max=max(trace.host_slots, trace.slots),
        )
        self._engines = [Engine(config, profile.scaled(speed)) for speed in trace.speeds]
        self._busy = [False] * len(self._engines)
        self._open: dict[int, _Open] = {}
        self._left = len(calls)
        self._addresses = [f"s{n}:8000" for n in range(len(self._engines))]
        self.pool.set_endpoints([Endpoint(a, a) for a in self._addresses], 0.0)
        names = [ModelCard(f"a{n:02d}", BASE) for n in range(trace.adapters)]
        for number, address in enumerate(self._addresses):
            self.pool.observe_models(address, [*names, ModelCard(BASE)])
            phase = SCRAPE_SECONDS * (number + 0.5) / len(self._engines)
            self._at(phase, lambda number=number: self._scrape(number))  # type: ignore[misc]
        warm = int(len(calls) * WARM_UP_SHARE)
        for number, call in enumerate(calls):
            self._at(
                call.at / rate,
                lambda call=call, judged=number >= warm: self._arrive(call, judged),  # type: ignore[misc]
            )
        self._judged_from = calls[warm].at / rate

    def run(self) -> Result:
        """Until all requests have ended."""
        while self._left:
            self.now, _, work = heapq.heappop(self._events)
            work()
        self.result.seconds = self.now - self._judged_from
        return self.result

    def _at(self, when: float, work: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._ids), work))

    # -- requests --------------------------------------------------------------------------

    def _arrive(self, call: Call, judged: bool) -> None:
        number = next(self._ids)
        asked = Asked(
            call.adapter or BASE, ApiKind.COMPLETIONS, text(call), stream=True,
        )  # fmt: skip
        decision = self.pool.pick(asked, str(number), "proxy", self.now, self._choice)
        assert isinstance(decision, Decision)
        server = decision.slots[0]
        self._open[number] = _Open(call, self.now, judged, server=server)
        self._engines[server].add(
            Request(
                id=number,
                prompt=[content for content, size in call.segments for _ in range(size)],
                output=[number] * call.output_tokens,
                arrived=self.now,
                adapter=call.adapter,
            )
        )
        if not self._busy[server]:
            self._busy[server] = True
            self._step(server)

    def _step(self, server: int) -> None:
        engine = self._engines[server]
        if engine.idle:
            self._busy[server] = False
            return
        step = engine.step(self.now)
        cached = {number: timing.cached_tokens for number, timing in step.timings.items()}
        outputs = step.outputs
        self._at(self.now + step.seconds, lambda: self._stepped(server, outputs, cached))

    def _stepped(self, server: int, outputs: Sequence[Output], cached: dict[int, int]) -> None:
        for output in outputs:
            request = self._open[output.id]
            if request.first < 0:
                request.first = self.now
            if output.finished:
                del self._open[output.id]
                self._end(output.id, request, cached[output.id])
        self._step(server)

    def _end(self, number: int, request: _Open, cached: int) -> None:
        self._left -= 1
        first, last = request.first - request.began, self.now - request.began
        result, call = self.result, request.call
        if request.judged:
            result.ttft.append(first)
            result.e2e.append(last)
            result.output_tokens += call.output_tokens
            result.prompt_tokens += call.prompt_tokens
            result.cached_tokens += cached
        event = Finished(
            str(number),
            code=200,
            served=self._addresses[request.server],
            first_byte_seconds=first,
            last_byte_seconds=last,
            duration_seconds=last,
            prompt_tokens=call.prompt_tokens,
            completion_tokens=call.output_tokens,
            cached_tokens=cached,
        )
        self._at(self.now + REPORT_SECONDS, lambda: self._report(event))

    def _report(self, event: Finished) -> None:
        self.pool.settle(event, self.now)

    # -- signals ---------------------------------------------------------------------------

    def _scrape(self, server: int) -> None:
        stats = self._engines[server].stats()
        scrape = Scrape(
            waiting=float(stats.waiting),
            running=float(stats.running),
            kv_use=stats.cache_usage,
            kv_tokens=KV_TOKENS,
            max_loras=self.trace.slots if self.trace.adapters else 0,
            running_adapters=frozenset(stats.running_adapters),
            waiting_adapters=frozenset(stats.waiting_adapters),
        )
        self.pool.observe(self._addresses[server], scrape, self.now)
        self._at(self.now + SCRAPE_SECONDS, lambda: self._scrape(server))


def text(call: Call) -> bytes:
    """The prompt in bytes: equal where the tokens are equal."""
    return b"".join(
        b"%08x" % (content & 0xFFFFFFFF) * (size * BYTES_PER_TOKEN // 8)
        for content, size in call.segments
    )
