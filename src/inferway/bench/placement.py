"""``make bench-placement``: where adapters are, against what requests wait.

Method: simulated engines in simulated time (``placement_world``), the same seeds for all systems of
a scenario, so that each sees the same requests; times of all seeds together, counts per seed.
``everywhere``: every server lists every adapter and swaps as the engine does. ``static``: each
adapter on one server. ``placement``: LoRAAdapters without a minimum, loaded on demand and copied by
demand. All are routed by the same default policy, which knows which adapters lie in a server's
places. Prints a table, writes build/bench/placement.json.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from inferway.bench import processes, report
from inferway.bench.placement_world import Result, Scenario, World
from inferway.simulator.engine.profiles import builtin_profiles

SYSTEMS = ("everywhere", "static", "placement")
PROFILE = "h100-8b"
SEEDS = (7, 8, 9)
OUTPUT = Path("build/bench/placement.json")

SCENARIOS = (
    Scenario("12 adapters in 16 slots, steady", 12, 12.0, 140.0, skew=1.2),
    Scenario("12 in 16, shifting", 12, 12.0, 140.0, skew=1.2, shift_seconds=40.0),
    Scenario("32 in 16, steady", 32, 8.0, 140.0, skew=1.2),
    Scenario("32 in 16, shifting", 32, 8.0, 140.0, skew=1.2, shift_seconds=40.0),
    Scenario("32 in 16 + RAM, steady", 32, 8.0, 140.0, skew=1.2, host_slots=32),
    Scenario(
        "32 in 16 + RAM, shifting", 32, 8.0, 140.0, skew=1.2, shift_seconds=40.0, host_slots=32
    ),
)
COLUMNS = (
    "scenario", "system", "ttft_p50_ms", "ttft_p95_ms", "ttft_p99_ms", "loads", "stalled_s",
    "slot_hits", "retried", "refused", "finished",
)  # fmt: skip


def main(argv: Sequence[str] = ()) -> int:
    """Measures, prints, writes."""
    rows = [row(scenario, system) for scenario in SCENARIOS for system in SYSTEMS]
    report.show("Adapter placement in simulated time", COLUMNS, rows)
    report.write(OUTPUT, {**processes.machine(), "profile": PROFILE, "seeds": list(SEEDS)}, rows)
    return 0


def row(scenario: Scenario, system: str) -> dict[str, object]:
    """One line of the table."""
    profile = builtin_profiles()[PROFILE]
    results = [World(scenario, system, profile, seed).run() for seed in SEEDS]
    return {"scenario": scenario.name, "system": system} | figures(results)


def figures(results: Sequence[Result]) -> dict[str, object]:
    """The numbers of some runs."""
    cuts = statistics.quantiles([t for result in results for t in result.ttft], n=100)
    runs = len(results)
    return {
        "ttft_p50_ms": round(cuts[49] * 1e3),
        "ttft_p95_ms": round(cuts[94] * 1e3),
        "ttft_p99_ms": round(cuts[98] * 1e3),
        "loads": round(sum(r.loads for r in results) / runs),
        "stalled_s": round(sum(r.stalled_seconds for r in results) / runs, 1),
        "slot_hits": round(
            sum(r.slot_hits for r in results) / max(sum(r.slot_uses for r in results), 1), 3
        ),
        "retried": sum(r.retried for r in results),
        "refused": sum(r.refused for r in results),
        "finished": sum(r.finished for r in results),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
