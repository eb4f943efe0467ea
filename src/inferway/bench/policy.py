"""``make bench-policy``: rules of routing against each other, in simulated time.

Method: ``policy_world``: simulated engines of an 8B model on one H100 each, eight workloads, four
loads from idle to past the knee, the same requests for each rule. ``load`` 3 is the knee: there
queues begin to last. ``best_peer`` and ``ratio`` stand on our own rows: the least TTFT p99 of all
others, and ours over it. The conversation trace of Mooncake is used where its file is named:
``make bench-policy MOONCAKE=conversation_trace.jsonl``. Prints a table, writes
build/bench/policy.json.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from inferway.base.errors import InferwayError
from inferway.bench import processes, report
from inferway.bench.policy_rules import OWN, rules
from inferway.bench.policy_traces import Trace, traces
from inferway.bench.policy_world import World
from inferway.scheduling.decision import Policy
from inferway.simulator.engine.profiles import builtin_profiles

PROFILE = "h100-8b"
REQUESTS = 1500
SEEDS = (0, 1)
OUTPUT = Path("build/bench/policy.json")
COLUMNS = (
    "trace", "load", "rps", "policy", "ttft_p50_ms", "ttft_p99_ms", "throughput", "e2e_mean_s",
    "cached", "best_peer", "ratio",
)  # fmt: skip


def main(argv: Sequence[str] = ()) -> int:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(prog="python -m inferway.bench.policy")
    parser.add_argument("--mooncake", type=Path, help="the conversation trace of Mooncake")
    parser.add_argument("--requests", type=int, default=REQUESTS, help="for each run")
    parser.add_argument("--traces", nargs="+", default=[], help="only these")
    parser.add_argument("--loads", nargs="+", type=int, default=[1, 2, 3, 4], help="only these")
    parser.add_argument("--policies", nargs="+", default=[], help="only these")
    args = parser.parse_args(argv)
    makers = rules()
    chosen = {name: makers[name] for name in args.policies or makers if name in makers}
    rows: list[dict[str, object]] = []
    try:
        for trace in traces(args.mooncake):
            if args.traces and trace.name not in args.traces:
                continue
            for load in args.loads:
                rows += compared(trace, load, chosen, args.requests)
    except InferwayError as error:
        print(f"bench-policy: error: {error}", file=sys.stderr)
        return error.exit_code
    report.show("Rules of routing in simulated time", COLUMNS, rows)
    report.write(OUTPUT, {**processes.machine(), "profile": PROFILE, "seeds": list(SEEDS)}, rows)
    return 0


def compared(
    trace: Trace, load: int, makers: dict[str, Callable[[], Policy]], requests: int
) -> list[dict[str, object]]:
    """One row for each rule, ours with the best of the others."""
    rows = [row(trace, load, name, make, requests) for name, make in makers.items()]
    peers = {str(r["policy"]): float(str(r["ttft_p99_ms"])) for r in rows if r["policy"] != OWN}
    for one in rows:
        if one["policy"] == OWN and peers:
            best = min(peers, key=peers.__getitem__)
            one["best_peer"] = best
            one["ratio"] = float(str(one["ttft_p99_ms"])) / peers[best]
    return rows


def row(
    trace: Trace, load: int, name: str, make: Callable[[], Policy], requests: int
) -> dict[str, object]:
    """One line of the table; times of all seeds together."""
    rate = trace.loads[load - 1]
    profile = builtin_profiles()[PROFILE]
    results = [
        World(trace, trace.calls(seed, requests), rate, make(), profile).run() for seed in SEEDS
    ]
    cuts = statistics.quantiles([t for r in results for t in r.ttft], n=100)
    prompts = sum(r.prompt_tokens for r in results)
    return {
        "trace": trace.name,
        "load": load,
        "rps": rate,
        "policy": name,
        "ttft_p50_ms": round(cuts[49] * 1e3),
        "ttft_p99_ms": round(cuts[98] * 1e3),
        # Output tokens a second of the whole pool.
        "throughput": round(sum(r.output_tokens / r.seconds for r in results) / len(results)),
        "e2e_mean_s": statistics.mean(t for r in results for t in r.e2e),
        "cached": sum(r.cached_tokens for r in results) / prompts,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
