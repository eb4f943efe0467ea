"""Replays: the requests, the policies, the figures, and a run against simulated servers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from inferway.base.errors import InferwayError
from inferway.bench import replay, replay_policies, replay_servers, replay_trace
from inferway.bench.replay_load import busy_seconds, gap_for
from inferway.bench.replay_policies import Cost, LeastRequests, PrefixAffinity
from inferway.bench.replay_run import Run, Summary, Times, summarize
from inferway.bench.replay_run import replay as send
from inferway.simulator import flags
from inferway.simulator.engine.profiles import Profile
from inferway.simulator.engine.values import EngineConfig
from inferway.simulator.main import serve

TOKENS = tuple(range(100, 4100))


def test_a_seed_always_gives_the_same_requests() -> None:
    calls = replay_trace.generate(3)
    assert calls == replay_trace.generate(3)
    assert calls != replay_trace.generate(4)
    assert len(calls) == replay_trace.REQUESTS
    assert [call.at for call in calls] == sorted(call.at for call in calls)
    assert max(call.prompt_tokens + call.output_tokens for call in calls) < 2048


def test_prompts_share_what_their_group_shares_and_nothing_else() -> None:
    calls = replay_trace.generate(3)
    prompts = {call.number: replay_trace.prompt(call, TOKENS, 1) for call in calls}
    assert all(len(prompts[call.number]) == call.prompt_tokens for call in calls)
    first = calls[0]
    shared = tuple(prompts[0][: first.shared_tokens])
    for call in calls[1:]:
        same = tuple(prompts[call.number][: call.shared_tokens]) == shared
        assert same == (call.group == first.group)
    # Another run is new to every cache from the first block on.
    assert replay_trace.prompt(first, TOKENS, 2)[:16] != prompts[0][:16]
    assert len({tuple(prompt) for prompt in prompts.values()}) == len(calls)


def test_a_trace_is_made_small_enough(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    rows = [
        {"timestamp": 100 * n, "input_length": 1000 * (n + 1), "output_length": 100,
         "hash_ids": [0, n % 2, n]}
        for n in range(4)
    ]  # fmt: skip
    path.write_text("\n".join(map(json.dumps, rows)))
    calls = replay_trace.read(path)
    assert [call.group for call in calls] == [0, 1, 0, 1]
    assert calls[-1].prompt_tokens == replay_trace.TRACE_PROMPT_TOKENS_MAX
    assert [call.at for call in calls] == pytest.approx([0, 4 / 3, 8 / 3, 4])


@pytest.mark.parametrize("text", ["", "nonsense", "{}", '{"timestamp": 0, "input_length": "x"}'])
def test_what_is_no_trace_is_one_message(tmp_path: Path, text: str) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text(text)
    with pytest.raises(InferwayError) as caught:
        replay_trace.read(path)
    assert caught.value.code == "INFERWAY0512"


def test_every_policy_gives_back_what_it_took() -> None:
    calls = replay_trace.generate(3, 40)
    for policy in replay_policies.policies(2):
        chosen = []
        for call in calls:
            prompt = replay_trace.prompt(call, TOKENS, 0)
            server = policy.choose(call, prompt, call.at)
            chosen.append(server)
            policy.ended(call, server, (0.1, 0.2), call.at + 0.2)
        assert set(chosen) == {0, 1}, policy.name
        if isinstance(policy, LeastRequests):
            assert policy.in_flight == [0, 0]


def test_affinity_follows_the_group_until_a_server_has_too_much() -> None:
    policy = PrefixAffinity(2)
    call = replay_trace.generate(3, 1)[0]
    chosen = [policy.choose(call, (), 0.0) for _ in range(7)]
    assert len(set(chosen[:5])) == 1
    assert len(set(chosen)) == 2


def test_the_cost_policy_spreads_what_shares_nothing() -> None:
    policy = Cost(2)
    calls = replay_trace.generate(3, 10)
    prompts = [replay_trace.prompt(call, TOKENS, 0) for call in calls]
    chosen = [policy.choose(c, p, 0.0) for c, p in zip(calls, prompts, strict=True)]
    assert 3 <= chosen.count(0) <= 7


def test_a_gap_gives_the_load_that_was_asked_for() -> None:
    profile = Profile(base_seconds=0.01, prefill_token_seconds=1e-4, request_seconds=0.002)
    calls = replay_trace.generate(3)
    gap = gap_for(profile, EngineConfig(), calls, 0.5)
    share = busy_seconds(profile, EngineConfig(), calls, gap) / (len(calls) * gap)
    assert share == pytest.approx(0.5, rel=0.05)


def _times(scale: float) -> list[Times]:
    return [Times(scale * n / 100, scale * n / 50) for n in range(1, 101)]


def test_figures_are_held_against_their_bounds() -> None:
    rows = replay.fidelity(_times(1.0), _times(1.2))
    assert [row["figure"] for row in rows] == ["ttft p50", "ttft p95", "e2e p50", "e2e p95"]
    assert [row["ok"] for row in rows] == [False, True, False, True]
    assert all(row["difference_percent"] == pytest.approx(20) for row in rows)


def _summaries(**means: float) -> dict[str, Summary]:
    return {name: summarize([Times(mean, 2 * mean)]) for name, mean in means.items()}


def test_ranks_are_alike_where_the_real_ones_differ_clearly() -> None:
    real = _summaries(a=1.0, b=1.05, c=2.0)
    # The order of a and b is noise, that of c is not; nor is a difference that vanishes.
    assert replay.alike(real, _summaries(a=1.3, b=1.0, c=3.0))
    assert replay.alike(real, _summaries(a=1.0, b=2.05, c=2.0))
    assert not replay.alike(real, _summaries(a=1.1, b=3.0, c=2.0))
    rows = replay.ranking(real, _summaries(a=1.1, b=1.0, c=3.0))
    assert [(r["system"], r["real_rank"], r["simulated_rank"]) for r in rows] == [
        ("a", 1, 2), ("b", 2, 1), ("c", 3, 3),
    ]  # fmt: skip


def test_no_engine_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(InferwayError) as caught:
        replay_servers.find_real({"INFERWAY_VLLM_HOME": str(tmp_path)}, None, None)
    assert caught.value.code == "INFERWAY0514"
    (tmp_path / "engine.json").write_text('{"python": "/p"}')
    found = replay_servers.find_real({"INFERWAY_VLLM_HOME": str(tmp_path)}, None, None)
    assert (found.python, found.model) == ("/p", str(tmp_path / "models/random-qwen2"))


@asynccontextmanager
async def simulated() -> AsyncIterator[str]:
    options = flags.parse(
        ["m", "--host", "127.0.0.1", "--port", "0", "--disable-uvicorn-access-log"], {}
    )
    stop = asyncio.Event()
    address: asyncio.Future[tuple[str, int]] = asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as group:
        group.create_task(serve(options, stop, lambda *at: address.set_result(at)), name="server")
        host, port = await address
        try:
            yield f"http://{host}:{port}"
        finally:
            stop.set()


@pytest.mark.slow
async def test_a_run_answers_every_request() -> None:
    calls = replay_trace.generate(3, 30)
    async with AsyncExitStack() as stack:
        urls = [await stack.enter_async_context(simulated()) for _ in range(2)]
        run = Run(calls, TOKENS, urls, "m", 0.005, 1)
        times = await send(run, Cost(2))
    assert len(times) == 30
    assert all(0.0 < one.first <= one.last for one in times)


async def test_a_server_that_is_gone_ends_the_replay() -> None:
    run = Run(replay_trace.generate(3, 3), TOKENS, ["http://127.0.0.1:1"], "m", 0.0, 1)
    with pytest.raises(InferwayError) as caught:
        await send(run, LeastRequests(1))
    assert caught.value.code == "INFERWAY0513"
