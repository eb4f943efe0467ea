"""``make bench-pickers``: what several active pickers cost in waiting, against one.

Method: the worlds of ``bench-policy`` (simulated engines in simulated time, the default policy).
The pickers of a run are asked in turn; each scrapes at a phase of its own and hears the ends of its
own requests only. ``told``: they tell each other what they reserve and release, as pickers do, a
millisecond and a half later; without it each knows of the others by what it scrapes. The same
requests for every row of a trace. ``ratio`` is TTFT p99 over that of one picker. Prints a table,
writes build/bench/pickers.json.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from inferway.bench import processes, report
from inferway.bench.policy_traces import Call, Trace, traces
from inferway.bench.policy_world import KV_TOKENS, SCRAPE_SECONDS, World
from inferway.scheduling.announced import HASHES_MAX, Announced
from inferway.scheduling.decision import Decision, Refusal
from inferway.scheduling.events import Event, Finished, ModelCard, Scrape
from inferway.scheduling.policy import CostPolicy
from inferway.scheduling.pool import PoolScheduler
from inferway.scheduling.request import Request, Rng
from inferway.scheduling.snapshot import Endpoint
from inferway.simulator.engine.profiles import Profile, builtin_profiles

PROFILE = "h100-8b"
# Long shared prefixes, sessions of agents, and bursts of one prompt: where pickers that do not know
# of each other lose most.
TRACES = ("mooncake-like", "agents", "same-prefix-bursts")
REQUESTS = 1000
SEEDS = (0, 1, 2)
PICKERS = (1, 2, 4)
# A batch is collected for a millisecond; the rest is sending, reading and a busy loop.
TOLD_SECONDS = 0.0015
OUTPUT = Path("build/bench/pickers.json")
COLUMNS = (
    "trace", "load", "rps", "pickers", "told", "ttft_p50_ms", "ttft_p99_ms", "cached", "ratio",
)  # fmt: skip

Later = Callable[[float, Callable[[], None]], None]


@dataclass(slots=True)
class Replicas:
    """Several schedulers as one pool, asked in turn."""

    schedulers: list[PoolScheduler]
    later: Later
    told: bool
    turn: int = 0
    chosen_by: dict[str, int] = field(default_factory=dict)

    def pick(
        self, request: Request, pick: str, proxy: str, now: float, rng: Rng
    ) -> Decision | Refusal:
        """The next one decides and tells the others."""
        number = self.turn = (self.turn + 1) % len(self.schedulers)
        own = self.schedulers[number]
        decision = own.pick(request, pick, proxy, now, rng)
        self.chosen_by[pick] = number
        if isinstance(decision, Decision) and self.told:
            announced = Announced(
                pick,
                own.columns.address[decision.slots[0]],
                request.model,
                len(request.prompt),
                decision.matched_bytes,
                decision.prompt_tokens,
                request.stream,
                list(decision.blocks.hashes[:HASHES_MAX]),
            )
            at = now + TOLD_SECONDS
            self._tell(number, lambda other: other.reserve_announced(announced, "x", at))
        return decision

    def settle(self, event: Event, now: float) -> None:
        """Whoever decided hears of the end, and tells it."""
        assert isinstance(event, Finished)
        number = self.chosen_by.pop(event.pick)
        self.schedulers[number].settle(event, now)
        if self.told:
            at = now + TOLD_SECONDS
            self._tell(number, lambda other: other.settle(event, at))

    def _tell(self, number: int, what: Callable[[PoolScheduler], object]) -> None:
        for other in self.schedulers:
            if other is not self.schedulers[number]:
                self.later(TOLD_SECONDS, partial(_done, what, other))

    def set_endpoints(self, endpoints: Sequence[Endpoint], now: float) -> None:
        """The same for all."""
        for scheduler in self.schedulers:
            scheduler.set_endpoints(endpoints, now)

    def observe_models(self, address: str, cards: Sequence[ModelCard]) -> None:
        """The same for all."""
        for scheduler in self.schedulers:
            scheduler.observe_models(address, cards)


def _done(what: Callable[[PoolScheduler], object], scheduler: PoolScheduler) -> None:
    what(scheduler)


class PickersWorld(World):
    """A run with several pickers."""

    def __init__(
        self,
        trace: Trace,
        calls: Sequence[Call],
        rate: float,
        profile: Profile,
        *,
        pickers: int,
        told: bool,
    ) -> None:
        super().__init__(trace, calls, rate, CostPolicy(), profile)
        first, *_ = self._addresses
        cards = self.pool.cards(first) or ()
        schedulers = [PoolScheduler(CostPolicy()) for _ in range(pickers)]
        self.replicas = Replicas(schedulers, self._later, told)
        self.replicas.set_endpoints([Endpoint(a, a) for a in self._addresses], 0.0)
        for address in self._addresses:
            self.replicas.observe_models(address, cards)
        self.pool = self.replicas  # type: ignore[assignment]

    def _later(self, seconds: float, work: Callable[[], None]) -> None:
        self._at(self.now + seconds, work)

    def _scrape(self, server: int) -> None:
        pickers = len(self.replicas.schedulers)
        for number in range(pickers):
            self._later(
                SCRAPE_SECONDS * number / pickers,
                lambda number=number: self._scrape_for(server, number),  # type: ignore[misc]
            )
        self._later(SCRAPE_SECONDS, lambda: self._scrape(server))

    def _scrape_for(self, server: int, picker: int) -> None:
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
        scheduler = self.replicas.schedulers[picker]
        scheduler.observe(self._addresses[server], scrape, self.now)


def main(argv: Sequence[str] = ()) -> int:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(prog="python -m inferway.bench.pickers")
    parser.add_argument("--requests", type=int, default=REQUESTS, help="for each run")
    parser.add_argument("--traces", nargs="+", default=list(TRACES), help="only these")
    parser.add_argument("--loads", nargs="+", type=int, default=[3], help="only these")
    args = parser.parse_args(argv)
    rows: list[dict[str, object]] = []
    for trace in traces(None):
        if trace.name in args.traces:
            for load in args.loads:
                rows += compared(trace, load, args.requests)
    report.show("Several pickers in simulated time", COLUMNS, rows)
    report.write(OUTPUT, {**processes.machine(), "profile": PROFILE, "seeds": list(SEEDS)}, rows)
    return 0


def compared(trace: Trace, load: int, requests: int) -> list[dict[str, object]]:
    """One picker first, then several that talk, then several that do not."""
    cases = [(1, True), *((n, told) for told in (True, False) for n in PICKERS[1:])]
    rows = [row(trace, load, requests, pickers, told) for pickers, told in cases]
    for one in rows:
        one["ratio"] = float(str(one["ttft_p99_ms"])) / float(str(rows[0]["ttft_p99_ms"]))
    return rows


def row(trace: Trace, load: int, requests: int, pickers: int, told: bool) -> dict[str, object]:
    """One line of the table; times of all seeds together."""
    rate = trace.loads[load - 1]
    profile = builtin_profiles()[PROFILE]
    results = [
        PickersWorld(
            trace, trace.calls(seed, requests), rate, profile, pickers=pickers, told=told
        ).run()
        for seed in SEEDS
    ]
    cuts = statistics.quantiles([t for r in results for t in r.ttft], n=100)
    return {
        "trace": trace.name,
        "load": load,
        "rps": rate,
        "pickers": pickers,
        "told": "yes" if told else "no",
        "ttft_p50_ms": round(cuts[49] * 1e3, 1),
        "ttft_p99_ms": round(cuts[98] * 1e3, 1),
        "cached": sum(r.cached_tokens for r in results) / sum(r.prompt_tokens for r in results),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
