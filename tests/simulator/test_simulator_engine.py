"""The engine model: tables for its rules, properties for what must hold in every run."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferway.simulator.engine.engine import Engine
from inferway.simulator.engine.frontend import Frontend
from inferway.simulator.engine.profiles import Profile, Work, builtin_profiles
from inferway.simulator.engine.values import EngineConfig, Request, Step

PROFILE = Profile(
    base_seconds=1.0,
    prefill_token_seconds=0.1,
    decode_sequence_seconds=0.01,
    cache_token_seconds=0.001,
    adapter_host_load_seconds=10.0,
    adapter_disk_load_seconds=100.0,
)
# Enough for every generated case; a run that needs more is a run that does not end.
STEPS_MAX = 5000


def request(number: int, prompt: Sequence[int], tokens: int, adapter: str = "") -> Request:
    return Request(
        id=number, prompt=prompt, output=range(1000, 1000 + tokens), arrived=0.0, adapter=adapter
    )


def run(engine: Engine) -> list[Step]:
    steps = []
    while not engine.idle:
        steps.append(engine.step(float(len(steps))))
        assert len(steps) < STEPS_MAX, "the engine makes no progress"
    return steps


def test_a_request_is_prefilled_then_decoded_token_by_token() -> None:
    engine = Engine(EngineConfig(), PROFILE)
    engine.add(request(1, range(10), 3))
    steps = run(engine)
    assert [(s.prefill_tokens, s.decode_tokens) for s in steps] == [(10, 1), (0, 1), (0, 1)]
    assert steps[0].seconds == pytest.approx(1.0 + 10 * 0.1)
    # The second step reads the keys and values of ten prompt tokens.
    assert steps[1].seconds == pytest.approx(1.0 + 0.01 + 10 * 0.001)
    assert [o.finished for s in steps for o in s.outputs] == [False, False, True]
    assert engine.pool.used == 0


def test_a_long_prompt_is_prefilled_in_chunks_while_others_decode() -> None:
    engine = Engine(EngineConfig(batched_tokens_max=8, prefix_caching=False), PROFILE)
    engine.add(request(1, range(4), 6))
    engine.step(0.0)
    engine.add(request(2, range(20), 1))
    steps = run(engine)
    # One token of the budget goes to the running sequence, the rest to the new prompt.
    assert [s.prefill_tokens for s in steps] == [7, 7, 6, 0, 0]


def test_without_chunked_prefill_a_prompt_waits_for_a_step_of_its_own() -> None:
    engine = Engine(EngineConfig(batched_tokens_max=8, chunked_prefill=False), PROFILE)
    engine.add(request(1, range(4), 3))
    engine.add(request(2, range(100, 108), 1))
    steps = run(engine)
    assert [s.prefill_tokens for s in steps] == [4, 0, 0, 8]


def test_a_repeated_prompt_is_read_from_the_cache_but_for_its_last_block() -> None:
    engine = Engine(EngineConfig(block_size_tokens=4), PROFILE)
    engine.add(request(1, range(12), 1))
    run(engine)
    engine.add(request(2, range(12), 1))
    step = engine.step(0.0)
    assert (step.cache_queried_tokens, step.cache_hit_tokens, step.prefill_tokens) == (12, 8, 4)
    assert step.timings[2].cached_tokens == 8


def test_the_answer_is_cached_for_the_next_turn() -> None:
    engine = Engine(EngineConfig(block_size_tokens=4), PROFILE)
    first = request(1, range(6), 7)
    engine.add(first)
    run(engine)
    engine.add(request(2, [*first.prompt, *first.output, 7, 8, 9], 1))
    # Twelve tokens were computed in full blocks; the thirteenth was never fed back.
    assert engine.step(0.0).cache_hit_tokens == 12


@pytest.mark.parametrize(("adapter", "salt", "hit"), [("", "", 8), ("a", "", 0), ("", "tenant", 0)])
def test_the_cache_is_separate_for_adapters_and_salts(adapter: str, salt: str, hit: int) -> None:
    engine = Engine(EngineConfig(block_size_tokens=4), PROFILE)
    engine.add(request(1, range(9), 1))
    run(engine)
    engine.add(Request(id=2, prompt=range(9), output=[1], arrived=0.0, adapter=adapter, salt=salt))
    assert engine.step(0.0).cache_hit_tokens == hit


def test_the_block_unused_for_longest_is_evicted_first() -> None:
    engine = Engine(EngineConfig(block_size_tokens=4, blocks=4), PROFILE)
    for number, begin in enumerate((0, 100)):
        engine.add(request(number, range(begin, begin + 8), 1))
        run(engine)
    # All four blocks hold something; a third prompt takes the two of the first.
    engine.add(request(3, range(200, 208), 1))
    run(engine)
    engine.add(request(4, range(100, 108), 1))
    assert engine.step(0.0).cache_hit_tokens == 4
    run(engine)
    engine.add(request(5, range(8), 1))
    assert engine.step(0.0).cache_hit_tokens == 0


def test_the_sequence_admitted_last_is_preempted_and_starts_again() -> None:
    engine = Engine(EngineConfig(block_size_tokens=2, blocks=6, prefix_caching=False), PROFILE)
    engine.add(request(1, range(4), 8))
    engine.add(request(2, range(4), 4))
    steps = run(engine)
    assert sum(s.preempted for s in steps) == 1
    timings = {number: t for s in steps for number, t in s.timings.items()}
    assert (timings[1].preemptions, timings[2].preemptions) == (0, 1)
    # What was generated before the preemption is prefilled again, not generated again.
    assert sum(o.tokens for s in steps for o in s.outputs if o.id == 2) == 4
    assert engine.pool.used == 0


def test_a_preempted_sequence_comes_back_before_newcomers() -> None:
    config = EngineConfig(block_size_tokens=2, blocks=6, sequences_max=2, prefix_caching=False)
    engine = Engine(config, PROFILE)
    engine.add(request(1, range(4), 8))
    engine.add(request(2, range(4), 4))
    engine.add(request(3, range(2), 1))
    steps = run(engine)
    assert sum(s.preempted for s in steps) == 1
    finished = [o.id for s in steps for o in s.outputs if o.finished]
    assert finished == [1, 2, 3]


def test_those_who_let_others_pass_keep_their_places() -> None:
    engine = Engine(EngineConfig(sequences_max=2), PROFILE)
    engine.add(request(1, range(4), 3, "a"))
    engine.add(request(2, range(4), 1, "b"))
    engine.add(request(3, range(4), 1, "b"))
    engine.add(request(4, range(4), 2, "a"))
    engine.add(request(5, range(4), 1, "b"))
    finished = [o.id for s in run(engine) for o in s.outputs if o.finished]
    assert finished == [4, 1, 2, 3, 5]


def test_the_end_of_a_prefix_is_evicted_before_its_beginning() -> None:
    engine = Engine(EngineConfig(block_size_tokens=4, blocks=4), PROFILE)
    engine.add(request(1, range(15), 1))
    run(engine)
    engine.add(request(2, range(100, 108), 1))
    run(engine)
    engine.add(request(3, range(15), 1))
    assert engine.step(0.0).cache_hit_tokens == 8


def test_adapters_share_slots_and_loading_takes_time() -> None:
    config = EngineConfig(adapters_device_max=1, adapters_host_max=2)
    engine = Engine(config, PROFILE)
    engine.add(request(1, range(4), 1, "a"))
    engine.add(request(2, range(4), 1, "b"))
    engine.add(request(3, range(4), 1, "a"))
    first, second = run(engine)
    # The second adapter lets the third request pass, because its adapter has the slot.
    assert {o.id for o in first.outputs} == {1, 3}
    assert first.seconds == pytest.approx(1.0 + 8 * 0.1 + 110.0)
    assert second.seconds == pytest.approx(1.0 + 4 * 0.1 + 110.0)
    engine.add(request(4, range(50, 54), 1, "a"))
    # The first adapter is still in host memory.
    assert engine.step(0.0).seconds == pytest.approx(1.0 + 4 * 0.1 + 10.0)


def test_stats_name_adapters_with_requests_in_flight_only() -> None:
    engine = Engine(EngineConfig(sequences_max=1, adapters_device_max=2), PROFILE)
    engine.add(request(1, range(4), 2, "a"))
    engine.add(request(2, range(4), 1, "b"))
    engine.step(0.0)
    stats = engine.stats()
    assert (stats.running, stats.waiting) == (1, 1)
    assert (stats.running_adapters, stats.waiting_adapters) == (("a",), ("b",))
    assert 0 < stats.cache_usage < 1
    run(engine)
    assert engine.stats().running_adapters == ()


def test_an_aborted_request_gives_everything_back() -> None:
    engine = Engine(EngineConfig(sequences_max=1), PROFILE)
    engine.add(request(1, range(40), 5))
    engine.add(request(2, range(40), 5))
    engine.step(0.0)
    assert engine.abort(2)
    assert engine.abort(1)
    assert not engine.abort(1)
    assert engine.idle
    assert engine.pool.used == 0


def test_the_instant_profile_finishes_in_one_step() -> None:
    engine = Engine(EngineConfig(), builtin_profiles()["instant"])
    engine.add(request(1, range(10), 500))
    step = engine.step(0.0)
    assert (step.seconds, step.outputs[0].tokens, step.outputs[0].finished) == (0.0, 500, True)


def test_a_scaled_profile_keeps_its_shape() -> None:
    profile = builtin_profiles()["default"]
    work = Work(prefill_tokens=5, prefill_pairs=9, decode_sequences=3, cache_tokens=7, adapters=1)
    assert profile.scaled(2).step_seconds(work) == pytest.approx(2 * profile.step_seconds(work))
    assert profile.scaled(2).kv_token_bytes == profile.kv_token_bytes


def test_a_prefill_costs_its_pairs_and_an_adapter_costs_its_step() -> None:
    profile = Profile(prefill_pair_seconds=1.0, adapter_step_seconds=0.5)
    engine = Engine(EngineConfig(batched_tokens_max=6, adapters_device_max=1), profile)
    engine.add(request(1, range(10), 1))
    # Token n looks at itself and at n - 1 others: 6 tokens are 21 pairs, all 10 are 55.
    assert [engine.step(0.0).seconds, engine.step(0.0).seconds] == [21, 55 - 21]
    engine.add(Request(id=2, prompt=(7,), output=(1,), arrived=0.0, adapter="a"))
    assert engine.step(0.0).seconds == 1.5


def test_jitter_keeps_the_mean_and_is_the_same_every_time() -> None:
    profile = Profile(base_seconds=0.01, jitter_share=0.3)
    steps = [profile.jittered(0.01, n) for n in range(4000)]
    assert steps == [profile.jittered(0.01, n) for n in range(4000)]
    assert statistics.fmean(steps) == pytest.approx(0.01, rel=0.02)
    assert statistics.stdev(steps) == pytest.approx(0.003, rel=0.1)
    # A step of a hundred times the length differs by a tenth of that in proportion.
    long = [profile.jittered(1.0, n) for n in range(4000)]
    assert statistics.stdev(long) == pytest.approx(0.03, rel=0.1)
    assert Profile(base_seconds=0.01).jittered(0.01, 5) == 0.01


def test_the_api_server_does_one_thing_at_a_time() -> None:
    frontend = Frontend(Profile(request_seconds=2.0, token_seconds=0.5))
    assert [frontend.take(10.0), frontend.take(11.0)] == [12.0, 14.0]
    assert frontend.tell(13.0, 4) == 16.0
    assert frontend.take(20.0) == 22.0
    idle = Frontend(Profile())
    assert [idle.take(10.0), idle.take(9.0), idle.tell(9.5, 100)] == [10.0, 9.0, 9.5]


CONFIGS = st.builds(
    EngineConfig,
    block_size_tokens=st.sampled_from([1, 2, 4, 16]),
    blocks=st.integers(40, 80),
    batched_tokens_max=st.integers(1, 40),
    sequences_max=st.integers(1, 6),
    prefix_caching=st.booleans(),
    adapters_device_max=st.integers(1, 2),
    adapters_host_max=st.integers(1, 3),
)
# Few different tokens, so that prefixes are often shared.
REQUESTS = st.lists(
    st.tuples(
        st.lists(st.integers(0, 1), min_size=1, max_size=24),
        st.integers(1, 16),
        st.sampled_from(["", "a", "b", "c"]),
        st.integers(0, 6),
    ),
    min_size=1,
    max_size=12,
)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    config=CONFIGS,
    requests=REQUESTS,
    burst=st.sampled_from([1, 1, 3, 1 << 30]),
    aborted=st.sets(st.integers(0, 11)),
)
def test_every_run_keeps_the_rules(
    config: EngineConfig,
    requests: list[tuple[list[int], int, str, int]],
    burst: int,
    aborted: set[int],
) -> None:
    engine = Engine(config, Profile(base_seconds=1.0, decode_tokens_per_step=burst))
    pending = sorted(enumerate(requests), key=lambda item: item[1][3])
    gained: dict[int, int] = {}
    finished: set[int] = set()
    first_token: list[int] = []
    number = 0
    while pending or not engine.idle:
        while pending and pending[0][1][3] <= number:
            key, (prompt, tokens, adapter, _) = pending.pop(0)
            engine.add(request(key, prompt, tokens, adapter))
        step = engine.step(float(number))
        number += 1
        assert number < STEPS_MAX, "the engine makes no progress"
        assert step.prefill_tokens + step.decode_sequences <= config.batched_tokens_max
        stats = engine.stats()
        assert stats.running <= config.sequences_max
        assert len(set(stats.running_adapters)) <= config.adapters_device_max
        assert 0 <= engine.pool.available <= config.blocks
        for output in step.outputs:
            assert output.tokens >= 1
            if output.id not in gained:
                first_token.append(output.id)
            gained[output.id] = gained.get(output.id, 0) + output.tokens
            if output.finished:
                assert output.id not in finished
                finished.add(output.id)
        for key in aborted & gained.keys() - finished:
            engine.abort(key)
    # Every request that was left alone ended with all of its tokens, and nothing is held.
    for key, (_, tokens, _, _) in enumerate(requests):
        if key not in aborted:
            assert key in finished
            assert gained[key] == tokens
    assert engine.pool.used == 0


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(
    prompts=st.lists(st.integers(1, 20), min_size=1, max_size=10),
    config=CONFIGS,
)
def test_first_come_first_served(prompts: list[int], config: EngineConfig) -> None:
    """With equal work and one adapter, nobody gets a first token before an earlier request."""
    engine = Engine(config, PROFILE)
    for number, size in enumerate(prompts):
        engine.add(request(number, [1] * size, 3))
    order = []
    for step in run(engine):
        order += [o.id for o in step.outputs if o.id not in order]
    assert order == sorted(order)


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(requests=REQUESTS, config=CONFIGS)
def test_the_same_input_gives_the_same_run(
    requests: list[tuple[list[int], int, str, int]], config: EngineConfig
) -> None:
    runs = []
    for _ in range(2):
        engine = Engine(config, PROFILE)
        for key, (prompt, tokens, adapter, _arrival) in enumerate(requests):
            engine.add(request(key, prompt, tokens, adapter))
        runs.append(run(engine))
    assert runs[0] == runs[1]
