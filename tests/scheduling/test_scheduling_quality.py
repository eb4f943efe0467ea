"""The default policy against simple ones, on a small engine model with one seed per case.

The engine: a prompt's uncached tokens are computed one prompt after the other; each running
sequence makes a step longer. It is no proof of a policy, which the simulator is for; it notices
when a change makes the default policy foolish.
"""

from __future__ import annotations

import heapq
import random
from collections import OrderedDict
from dataclasses import dataclass, field

import pytest

from inferway.scheduling.decision import Decision
from inferway.scheduling.events import Finished, Scrape
from inferway.scheduling.policy import CostPolicy
from inferway.scheduling.pool import PoolScheduler
from inferway.scheduling.request import ApiKind, Request
from inferway.scheduling.snapshot import Endpoint

PREFILL_TOKENS_PER_SECOND = 8000.0
STEP_SECONDS = 0.015
STEP_GROWTH_SECONDS = 0.0003
BYTES_PER_TOKEN = 4
CACHED_FAMILIES = 6
SCRAPE_SECONDS = 0.2


@dataclass
class Engine:
    """One server: when its prefill is free, how many decode, which families are cached."""

    speed: float = 1.0
    free_at: float = 0.0
    decoding: int = 0
    cached: OrderedDict[int, None] = field(default_factory=OrderedDict)
    # When the prompts that are not computed yet will be.
    firsts: list[float] = field(default_factory=list)

    def first_token(self, now: float, family: int, shared: int, own: int) -> float:
        hit = family in self.cached
        self.cached[family] = None
        self.cached.move_to_end(family)
        while len(self.cached) > CACHED_FAMILIES:
            self.cached.popitem(last=False)
        tokens = own + (0 if hit else shared)
        # Decodes take their share of the steps that prefill chunks run in.
        seconds = tokens / PREFILL_TOKENS_PER_SECOND / self.speed * (1 + 0.02 * self.decoding)
        self.free_at = max(self.free_at, now) + seconds
        self.firsts.append(self.free_at)
        return self.free_at + self.step()

    def step(self) -> float:
        return (STEP_SECONDS + STEP_GROWTH_SECONDS * self.decoding) / self.speed


@dataclass(frozen=True)
class Load:
    requests_per_second: float
    families: int
    shared_tokens: int
    own_tokens: tuple[int, int]
    speeds: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)


class Run:
    def __init__(self, load: Load, rule: str, seed: int = 3) -> None:
        self.load = load
        self.rule = rule
        self.rng = random.Random(seed)
        self.choice = random.Random(seed + 1)
        self.engines = [Engine(speed) for speed in load.speeds]
        self.pool = PoolScheduler(CostPolicy())
        self.pool.set_endpoints([Endpoint(f"e:{n}") for n in range(len(self.engines))], 0.0)
        self.in_flight = [0] * len(self.engines)
        self.events: list[tuple[float, int, str, tuple[float, ...]]] = []
        self.count = 0
        self.ttft: list[float] = []

    def run(self, requests: int) -> list[float]:
        """Times to first token in order, the first fifth left out."""
        at = 0.0
        for n in range(requests):
            at += self.rng.expovariate(self.load.requests_per_second)
            self._at(at, "arrive", n)
        scrape = 0.0
        while scrape < at:
            self._at(scrape, "scrape")
            scrape += SCRAPE_SECONDS
        while self.events:
            now, _, kind, values = heapq.heappop(self.events)
            getattr(self, kind)(now, *values)
        return sorted(self.ttft[requests // 5 :])

    def _at(self, time: float, kind: str, *values: float) -> None:
        self.count += 1
        heapq.heappush(self.events, (time, self.count, kind, values))

    def arrive(self, now: float, number: float) -> None:
        load = self.load
        family = int(self.rng.paretovariate(1.0)) % load.families
        own = self.rng.randint(*load.own_tokens)
        output = self.rng.randint(16, 200)
        slot = self._choose(now, int(number), family, own)
        engine = self.engines[slot]
        first = engine.first_token(now, family, load.shared_tokens, own)
        self.ttft.append(first - now)
        engine.decoding += 1
        self.in_flight[slot] += 1
        end = first + output * engine.step()
        tokens = own + load.shared_tokens
        self._at(end, "finish", number, slot, first - now, end - now, tokens, output)

    def _choose(self, now: float, number: int, family: int, own: int) -> int:
        if self.rule == "random":
            return self.choice.randrange(len(self.engines))
        if self.rule == "least":
            least = min(self.in_flight)
            return self.choice.choice([n for n, c in enumerate(self.in_flight) if c == least])
        shared = f"{family:08d}".encode() * (self.load.shared_tokens * BYTES_PER_TOKEN // 8)
        prompt = shared + f"{number:08d}".encode() * (own * BYTES_PER_TOKEN // 8)
        request = Request("m", ApiKind.COMPLETIONS, prompt, stream=True)
        decision = self.pool.pick(request, str(number), "p", now, self.choice)
        assert isinstance(decision, Decision)
        return decision.slots[0]

    def finish(self, now: float, number: float, slot: float, *seen: float) -> None:
        first, total, tokens, output = seen
        self.engines[int(slot)].decoding -= 1
        self.in_flight[int(slot)] -= 1
        event = Finished(
            str(int(number)),
            code=200,
            served=f"e:{int(slot)}",
            first_byte_seconds=first,
            last_byte_seconds=total,
            prompt_tokens=int(tokens),
            completion_tokens=int(output),
        )
        self.pool.settle(event, now)

    def scrape(self, now: float) -> None:
        for n, engine in enumerate(self.engines):
            engine.firsts = [first for first in engine.firsts if first > now]
            # One prompt is being computed, which vLLM counts among the running.
            waiting = max(len(engine.firsts) - 1.0, 0.0)
            running = max(engine.decoding - waiting, 0.0)
            self.pool.observe(f"e:{n}", Scrape(waiting=waiting, running=running), now)


def quantile(values: list[float], share: float) -> float:
    return values[int(len(values) * share)]


CASES = {
    "shared prefixes": Load(14.0, 20, 2000, (50, 300)),
    "own prompts of all sizes": Load(8.0, 1, 0, (100, 6000)),
    "one slow server": Load(10.0, 12, 1000, (100, 800), (1.0, 1.0, 1.0, 0.3)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(CASES))
def test_default_policy_beats_random_and_least_requests(name: str) -> None:
    default = Run(CASES[name], "default").run(1500)
    for rule in ("random", "least"):
        other = Run(CASES[name], rule).run(1500)
        for share, allowed in ((0.5, 1.05), (0.9, 1.0), (0.99, 1.0)):
            mine, theirs = quantile(default, share), quantile(other, share)
            assert mine <= allowed * theirs, f"{rule} p{share:.0%}: {mine:.3f} against {theirs:.3f}"


@pytest.mark.slow
def test_idle_pool_is_never_worse_than_least_requests() -> None:
    load = Load(0.5, 5, 500, (50, 300))
    default, least = Run(load, "default").run(400), Run(load, "least").run(400)
    assert sum(default) <= 1.02 * sum(least)
