"""The world of ``bench-policy`` and the pages and requests of the other measurements."""

from __future__ import annotations

from pathlib import Path

import pytest

from inferway.base.errors import InferwayError
from inferway.bench import idle, memory, policy
from inferway.bench.policy_rules import OWN, rules
from inferway.bench.policy_traces import read_mooncake, traces
from inferway.bench.policy_world import World, text
from inferway.picker import metrics_text
from inferway.simulator.engine.profiles import builtin_profiles

TRACES = {trace.name: trace for trace in traces(None)}


@pytest.mark.parametrize("name", list(TRACES))
def test_traces_come_at_the_rate_they_say(name: str) -> None:
    calls = TRACES[name].calls(3, 300)
    assert len(calls) == 300
    times = [call.at for call in calls]
    assert times == sorted(times)
    assert 0.8 * 300 <= times[-1] <= 1.25 * 300
    assert TRACES[name].calls(3, 300) == calls
    assert TRACES[name].calls(4, 300) != calls


def test_equal_tokens_are_equal_bytes() -> None:
    first, second = TRACES["shared-prefixes"].calls(1, 200)[:2]
    assert text(first)[: 4096 * 4] == b"%08x" % first.segments[0][0] * (4096 // 2)
    assert abs(len(text(second)) - second.prompt_tokens * 4) <= 8


def test_a_trace_of_mooncakes_form(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text(
        '{"timestamp": 0, "input_length": 700, "output_length": 5, "hash_ids": [0, 1]}\n'
        '{"timestamp": 3000, "input_length": 512, "output_length": 0, "hash_ids": [0]}\n'
    )
    first, second = read_mooncake(path, 0, 10)
    assert first.segments == ((0, 512), (1, 188))
    assert second.segments == ((0, 512),)
    assert (first.output_tokens, second.output_tokens) == (5, 1)
    path.write_text("{}\n")
    with pytest.raises(InferwayError, match="INFERWAY0512"):
        read_mooncake(path, 0, 10)


@pytest.mark.parametrize("name", list(rules()))
def test_every_rule_serves_every_request(name: str) -> None:
    trace = TRACES["adapters"]
    calls = trace.calls(0, 60)
    result = World(trace, calls, 6.0, rules()[name](), builtin_profiles()["h100-8b"]).run()
    assert len(result.ttft) == 48
    assert all(0 < first <= last for first, last in zip(result.ttft, result.e2e, strict=True))
    assert result.output_tokens == sum(call.output_tokens for call in calls[12:])


@pytest.mark.slow
def test_the_default_policy_is_no_worse_than_its_peers_where_prefixes_are_shared() -> None:
    makers = {name: rules()[name] for name in (OWN, "least-requests", "lmetric", "round-robin")}
    rows = policy.compared(TRACES["shared-prefixes"], 3, makers, 500)
    own = next(row for row in rows if row["policy"] == OWN)
    assert float(str(own["ratio"])) <= 1.02


def test_pages_and_requests_of_the_other_measurements() -> None:
    page = idle.page()
    assert 0.95 * idle.PAGE_BYTES < len(page) <= idle.PAGE_BYTES
    found = metrics_text.read(page, metrics_text.ENGINES["vllm"])
    assert found is not None
    assert found.kv_tokens == 16 * 9362
    world = memory.World()
    for _ in range(memory.IN_FLIGHT + 20):
        world.request()
    assert len(world.scheduler.ledger) == memory.IN_FLIGHT
    assert memory.resident_mb() > 10
