"""What is learned and remembered: prefixes, tokens, rates, adapters."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferway.scheduling import prefix
from inferway.scheduling.lora import (
    IN_PLACE,
    LOAD_SECONDS_MIN,
    LOAD_SECONDS_PRIOR,
    LOADS_AGAIN,
    LOADS_FIRST,
    WAITS,
    LoraState,
)
from inferway.scheduling.prefix import ENDS, PrefixIndex, block_seed, boundaries, cut
from inferway.scheduling.rates import (
    PREFILL_SECONDS_PER_TOKEN_PRIOR,
    SAMPLES_FIRST,
    STEP_SECONDS_PRIOR,
    Rates,
)
from inferway.scheduling.tokens import BYTES_PER_TOKEN_PRIOR, TokenRatios

SEED = block_seed("m")


def test_boundaries_follow_the_schedule() -> None:
    assert boundaries(((4, 2), (12, 4), (20, 8))) == (2, 4, 8, 12, 20)
    assert len([end for end in ENDS if end <= 4096]) == 20
    assert ENDS[-1] == prefix.PROMPT_BYTES_MAX


@given(st.binary(max_size=3000), st.binary(max_size=3000), st.binary(max_size=3000))
def test_blocks_are_shared_exactly_by_common_beginnings(a: bytes, b: bytes, common: bytes) -> None:
    one, two = cut(common + a, SEED), cut(memoryview(common + b), SEED)
    shared = 0
    for left, right in zip(one.hashes, two.hashes, strict=False):
        if left != right:
            break
        shared += 1
    same = 0
    for left, right in zip(common + a, common + b, strict=False):
        if left != right:
            break
        same += 1
    whole = [end for end in ENDS if end <= same]
    assert shared == len(whole)


def test_seeds_separate_models_and_salts() -> None:
    seeds = {block_seed("m"), block_seed("n"), block_seed("m", b"s"), block_seed("m", b"t")}
    assert len(seeds) == 4


def test_match_is_the_longest_prefix_of_each_slot() -> None:
    index = PrefixIndex()
    long = cut(b"a" * 1024, SEED)
    index.insert(cut(b"a" * 300, SEED), 0)
    index.insert(long, 70)
    assert index.match(long) == {0: 256, 70: 1024}
    assert index.match(cut(b"b" * 1024, SEED)) == {}
    index.drop(70)
    assert index.match(long) == {0: 256}
    index.drop(0)
    assert (index.entries, index.held_bytes(0)) == (0, 0)


def test_the_end_of_an_old_prompt_leaves_first() -> None:
    index = PrefixIndex()
    index.set_capacity(0, 1024)
    old, new = cut(b"a" * 1024, SEED), cut(b"b" * 512, SEED)
    index.insert(old, 0)
    index.insert(new, 0)
    assert index.held_bytes(0) == 1024
    assert index.match(old) == {0: 512}
    assert index.match(new) == {0: 512}
    index.set_capacity(0, 256)
    assert index.held_bytes(0) == 256
    assert index.match(old) == {}


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6), st.booleans()), max_size=60))
def test_index_books_balance(steps: list[tuple[int, int, bool]]) -> None:
    index = PrefixIndex(bytes_max=40 * prefix.ENTRY_BYTES)
    prompts = [bytes([97 + n]) * (400 + 300 * n) for n in range(7)]
    for slot, n, drop in steps:
        if drop:
            index.drop(slot)
        else:
            index.set_capacity(slot, 1500)
            index.insert(cut(prompts[n], SEED), slot)
            assert index.held_bytes(slot) <= 1500
        assert index.entries <= 40
    for slot in range(4):
        index.drop(slot)
    assert index.entries == 0
    assert all(index.match(cut(prompt, SEED)) == {} for prompt in prompts)


def test_token_ratio_moves_to_what_servers_count() -> None:
    ratios = TokenRatios()
    assert ratios.bytes_per_token("m") == BYTES_PER_TOKEN_PRIOR
    for _ in range(50):
        ratios.learn("m", 2000, 1000)
    assert ratios.bytes_per_token("m") == pytest.approx(2.0, abs=0.05)
    before = ratios.bytes_per_token("m")
    ratios.learn("m", 1_000_000, 10)
    ratios.learn("m", 0, 10)
    assert ratios.bytes_per_token("m") == before
    assert ratios.bytes_per_token("n") == BYTES_PER_TOKEN_PRIOR


def test_rates_find_a_speed_far_from_the_prior() -> None:
    rates = Rates()
    assert rates.prefill_seconds_per_token(0) == pytest.approx(PREFILL_SECONDS_PER_TOKEN_PRIOR)
    for _ in range(SAMPLES_FIRST):
        rates.learn_prefill(0, 1000, 1000 / 400)
    assert rates.prefill_seconds_per_token(0) > 1 / 1000
    for _ in range(50):
        rates.learn_prefill(0, 1000, 1000 / 400)
    assert rates.prefill_seconds_per_token(0) == pytest.approx(1 / 400, rel=0.15)


def test_rates_are_robust_against_slow_clients_and_nonsense() -> None:
    rates = Rates()
    rng = random.Random(5)
    for n in range(400):
        slow = 50.0 if n % 10 == 0 else 1.0
        rates.learn_step(0, 8, 0.03 * rng.uniform(0.8, 1.25) * slow)
    rates.learn_step(0, 8, 0.0)
    rates.learn_step(0, 8, 1e9)
    rates.learn_prefill(0, 100, -1.0)
    assert rates.step_seconds(0) == pytest.approx(0.03, rel=0.4)


def test_a_slow_server_among_fast_ones_is_told_apart_and_a_new_one_is_as_its_group() -> None:
    rates = Rates()
    for _ in range(100):
        rates.learn_prefill(0, 1000, 0.1)
        rates.learn_prefill(1, 1000, 0.4)
    assert rates.prefill_seconds_per_token(1) > 2.5 * rates.prefill_seconds_per_token(0)
    new = rates.prefill_seconds_per_token(2)
    assert rates.prefill_seconds_per_token(0) < new < rates.prefill_seconds_per_token(1)
    rates.drop(1)
    assert rates.prefill_seconds_per_token(1) == new


def test_a_new_endpoint_follows_a_group_that_learns() -> None:
    rates = Rates()
    rates.learn_prefill(1, 1000, 1.0)
    assert rates.moved()
    assert not rates.moved()
    before = rates.prefill_seconds_per_token(1)
    for _ in range(30):
        rates.learn_prefill(0, 1000, 1.0)
    # Its one sample said nothing else than those of the others.
    assert rates.prefill_seconds_per_token(1) > 1.5 * before
    assert rates.moved()


def test_a_model_that_is_far_off_is_not_used() -> None:
    rates = Rates()
    for _ in range(100):
        rates.learn_error(1.0, 1.5)
    assert not rates.poor
    for _ in range(100):
        rates.learn_error(1.0, 20.0)
    assert rates.poor
    rates.learn_error(0.0, 1.0)
    rates.learn_error(1.0, -1.0)
    for _ in range(100):
        rates.learn_error(1.0, 0.7)
    assert not rates.poor


def test_growth_of_a_step_with_the_batch() -> None:
    rates = Rates()
    assert rates.step_growth_seconds() == pytest.approx(STEP_SECONDS_PRIOR * 0.01)
    rng = random.Random(7)
    for _ in range(600):
        batch = rng.randint(1, 64)
        rates.learn_step(0, batch, 0.01 + 0.0005 * batch)
    assert rates.step_growth_seconds() == pytest.approx(0.0005, rel=0.3)


def test_adapter_waits() -> None:
    lora = LoraState()
    service = 4.0
    assert lora.wait_seconds(0, "a", service) == LOAD_SECONDS_PRIOR
    lora.observe(0, 2, frozenset({"a"}), frozenset())
    assert lora.wait_seconds(0, "a", service) == 0.0
    assert lora.wait_seconds(0, "b", service) == LOAD_SECONDS_PRIOR
    lora.reserve(0, "b")
    assert lora.wait_seconds(0, "b", service) == 0.0
    # Both places are in use, by one request each: the first use to end makes room.
    held = service * (math.e - 1.0)
    assert lora.wait_seconds(0, "c", service) == pytest.approx(LOAD_SECONDS_PRIOR + held / 2)
    lora.observe(0, 2, frozenset(), frozenset())
    lora.release(0, "b")
    # Both are idle: one is evicted.
    assert lora.wait_seconds(0, "c", service) == LOAD_SECONDS_PRIOR
    assert lora.wait_seconds(0, "a", service) == 0.0


def test_adapters_stand_in_line() -> None:
    lora = LoraState()
    lora.observe(0, 1, frozenset(), frozenset())
    for adapter in ("a", "a", "b"):
        lora.reserve(0, adapter)
    # The place is held by two requests, and c comes after b.
    held = 4.0 * (math.e**2 - 1.0) / 2
    assert lora.wait_seconds(0, "a", 4.0) == 0.0
    assert lora.wait_seconds(0, "b", 4.0) == pytest.approx(LOAD_SECONDS_PRIOR + held)
    assert lora.wait_seconds(0, "c", 4.0) == pytest.approx(LOAD_SECONDS_PRIOR + 2 * held)
    assert lora.finds(0, "b") == WAITS
    assert lora.blocked(0) == 1
    lora.release(0, "a")
    lora.release(0, "a")
    assert lora.wait_seconds(0, "b", 4.0) == 0.0
    assert lora.blocked(0) == 0
    # The server says who really has the place.
    lora.reserve(0, "c")
    lora.observe(0, 1, frozenset({"c"}), frozenset({"b"}))
    assert lora.wait_seconds(0, "c", 4.0) == 0.0
    assert lora.finds(0, "b") == WAITS


def test_a_place_costs_others_more_the_fewer_are_left() -> None:
    lora = LoraState()
    lora.observe(0, 2, frozenset(), frozenset())
    harms = [lora.harm_seconds(0, "z", 4.0, requests=0.0)]
    for adapter in ("a", "b"):
        lora.reserve(0, adapter)
        harms.append(lora.harm_seconds(0, "z", 4.0, requests=0.0))
    assert harms == sorted(harms)
    # Erlang's loss formula: 1/5 with one of two places in use on average.
    assert harms[0] == pytest.approx(4.0 * (math.e - 1.0) / 5)
    # Who has its place takes none; a load stops everybody there.
    assert lora.harm_seconds(0, "a", 4.0, requests=3.0) == 0.0
    stopped = lora.harm_seconds(0, "z", 4.0, requests=3.0) - harms[2]
    assert stopped == pytest.approx(3.0 * LOAD_SECONDS_PRIOR)


def test_loads_and_loads_once_more_are_learned_apart() -> None:
    lora = LoraState()
    lora.observe(0, 1, frozenset(), frozenset())
    assert lora.finds(0, "a") == LOADS_FIRST
    for adapter in ("a", "b"):
        lora.reserve(0, adapter)
        lora.release(0, adapter)
    assert lora.finds(0, "a") == LOADS_AGAIN
    assert lora.finds(0, "b") == IN_PLACE
    for _ in range(100):
        lora.learn_load(1.0, LOADS_FIRST)
        lora.learn_load(-5.0, LOADS_AGAIN)
        # What waited for a place says nothing of loads.
        lora.learn_load(30.0, WAITS)
    assert lora.load_seconds == pytest.approx(1.0, abs=0.01)
    assert lora.reload_seconds == pytest.approx(LOAD_SECONDS_MIN, rel=0.01)
    assert lora.wait_seconds(0, "a", 4.0) == lora.reload_seconds
    assert lora.wait_seconds(0, "c", 4.0) == lora.load_seconds
