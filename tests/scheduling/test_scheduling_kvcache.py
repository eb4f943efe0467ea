"""Exact state of KV caches: blocks by token ids, adapters, evictions, and what is just placed."""

from __future__ import annotations

import json
import random

from hypothesis import given
from hypothesis import strategies as st

from inferway.scheduling.decision import Decision
from inferway.scheduling.events import (
    BlocksCleared,
    BlocksRemoved,
    BlocksStored,
    Finished,
    ModelCard,
)
from inferway.scheduling.kvcache import ENTRY_BYTES, PLACED_SECONDS, KvCaches, keys_of, tokens_of
from inferway.scheduling.policy import CostPolicy
from inferway.scheduling.pool import PoolScheduler
from inferway.scheduling.prefix import cut
from inferway.scheduling.request import ApiKind, Request
from inferway.scheduling.snapshot import Endpoint

SIZE = 4


def request(tokens: list[int], model: str = "m") -> Request:
    return Request(model, ApiKind.COMPLETIONS, json.dumps(tokens).encode())


def matched(
    caches: KvCaches, tokens: list[int], model: str = "m", now: float = 0.0
) -> dict[int, int]:
    """Tokens by slot."""
    one = request(tokens, model)
    found: dict[int, int] = {}
    caches.refine(one, found, {"a": "m"}, now)
    return {slot: round(size * len(tokens) / len(one.prompt)) for slot, size in found.items()}


def stored(
    names: list[int], parent: int | None, tokens: list[int], adapter: str = ""
) -> BlocksStored:
    return BlocksStored(names, parent, tokens, SIZE, adapter)


PROMPT = list(range(1, 15))


def test_blocks_are_found_by_their_tokens_whatever_the_server_calls_them() -> None:
    caches = KvCaches()
    caches.apply(0, stored([901, 902], None, PROMPT[:8]))
    caches.apply(0, stored([903], 902, PROMPT[8:12]))
    caches.apply(1, stored([5], None, PROMPT[:4]))
    assert matched(caches, PROMPT) == {0: 12, 1: 4}
    assert matched(caches, PROMPT[:6]) == {0: 4, 1: 4}
    assert matched(caches, [9, *PROMPT]) == {}
    assert matched(caches, PROMPT, "a") == {}
    caches.apply(1, stored([6], None, PROMPT[:4], "a"))
    assert matched(caches, PROMPT, "a") == {1: 4}
    assert caches.tokens(0) == 12


def test_evicted_blocks_hide_what_stands_behind_them() -> None:
    caches = KvCaches()
    caches.apply(0, stored([1, 2, 3], None, PROMPT[:12]))
    caches.apply(0, BlocksRemoved([2, 77]))
    assert matched(caches, PROMPT) == {0: 4}
    caches.apply(0, stored([2], 1, PROMPT[4:8]))
    assert matched(caches, PROMPT) == {0: 12}
    caches.apply(0, BlocksCleared())
    assert matched(caches, PROMPT) == {}
    assert caches.blocks == 0


def test_two_names_of_one_content_go_one_by_one() -> None:
    caches = KvCaches()
    for name in (1, 2, 3):
        caches.apply(0, stored([name], None, PROMPT[:4]))
    caches.apply(0, BlocksRemoved([1]))
    caches.apply(0, BlocksRemoved([3]))
    assert matched(caches, PROMPT) == {0: 4}
    caches.apply(0, BlocksRemoved([2]))
    assert matched(caches, PROMPT) == {}


def test_what_can_not_be_used_is_counted() -> None:
    caches = KvCaches(bytes_max=2 * ENTRY_BYTES)
    caches.apply(0, stored([1], 99, PROMPT[:4]))
    caches.apply(0, stored([1], None, PROMPT[:3]))
    caches.apply(0, stored([1], None, [-1, 0, 0, 2**40]))
    caches.apply(0, BlocksStored([1], None, [], 0))
    assert caches.skipped == 4
    caches.apply(0, stored([1, 2], None, PROMPT[:8]))
    caches.apply(0, stored([3], 2, PROMPT[8:12]))
    assert (caches.skipped, caches.blocks) == (5, 2)


def test_what_is_placed_counts_for_a_moment() -> None:
    caches = KvCaches()
    caches.apply(0, stored([1], None, [0] * 4))
    caches.place(request(PROMPT), 0, {}, 10.0)
    assert matched(caches, PROMPT, now=10.0 + PLACED_SECONDS / 2) == {0: 12}
    assert matched(caches, PROMPT, now=10.0 + PLACED_SECONDS) == {}
    caches.place(request(PROMPT), 0, {}, 20.0)
    caches.apply(0, stored([2], None, PROMPT[:4]))
    caches.place(request([0]), 0, {}, 30.0)
    assert matched(caches, PROMPT, now=30.0) == {0: 4}
    assert not caches._placed


def test_only_lists_of_token_ids_are_tokens() -> None:
    assert list(tokens_of(b" [ 1, 22]") or ()) == [1, 22]
    for text in (
        b'"text"',
        b'["a"]',
        b"[[1]]",
        b"[]",
        b"[1.5]",
        b"[-1]",
        b"[1",
        b"",
        b"[4294967296]",
    ):
        assert tokens_of(text) is None
    assert tokens_of(memoryview(b"[7]")) is not None


def test_the_scheduler_goes_where_the_tokens_are() -> None:
    pool = PoolScheduler(CostPolicy())
    pool.set_endpoints([Endpoint("a:1"), Endpoint("b:1")], 0.0)
    for address in ("a:1", "b:1"):
        pool.observe_models(address, [ModelCard("m")])
    rng = random.Random(1)
    tokens = [n * 7919 % 50_000 for n in range(4000)]
    pool.observe_blocks("a:1", [BlocksStored([9], None, [1] * 16, 16)], 0.0)
    pool.observe_blocks("b:1", [BlocksStored(list(range(250)), None, tokens, 16)], 0.0)
    pool.observe_blocks("gone:1", [BlocksCleared()], 0.0)
    for n in range(3):
        decision = pool.pick(request([*tokens, n]), str(n), "p", 0.0, rng)
        assert isinstance(decision, Decision)
        assert pool.columns.address[decision.slots[0]] == "b:1"
        assert decision.matched_bytes > 0.9 * len(request(tokens).prompt)
    pool.set_endpoints([Endpoint("a:1"), Endpoint("b:1", "another")], 0.0)
    assert pool.caches.blocks == 1


def test_text_is_forgotten_as_far_as_a_server_has_nothing_left() -> None:
    pool = PoolScheduler(CostPolicy())
    pool.set_endpoints([Endpoint("a:1")], 0.0)
    slot = pool.slot("a:1")
    assert slot is not None
    pool.prefixes.insert(cut(b"x" * 4096, 1), slot)
    assert pool.prefixes.held_bytes(slot) == 4096
    pool.observe_blocks("a:1", [BlocksStored(list(range(40)), None, list(range(640)), 16)], 0.0)
    assert pool.prefixes.held_bytes(slot) == 4096
    pool.observe_blocks("a:1", [BlocksRemoved(list(range(8, 40)))], 0.0)
    assert 0 < pool.prefixes.held_bytes(slot) <= 8 * 16 * 4
    pool.observe_blocks("a:1", [BlocksCleared()], 0.0)
    assert pool.prefixes.held_bytes(slot) == 0


chains = st.lists(
    st.tuples(st.integers(0, 2), st.lists(st.integers(0, 1), min_size=4, max_size=16)), max_size=12
)


@given(chains, st.lists(st.integers(0, 400), max_size=20))
def test_the_index_says_what_a_dict_of_sets_says(
    chains: list[tuple[int, list[int]]], gone: list[int]
) -> None:
    caches = KvCaches()
    names: dict[tuple[int, tuple[int, ...]], int] = {}
    alive: dict[int, set[tuple[int, ...]]] = {0: set(), 1: set(), 2: set()}
    for slot, tokens in chains:
        parent = None
        for end in range(SIZE, len(tokens) + 1, SIZE):
            prefix = tuple(tokens[:end])
            name = names.setdefault((slot, prefix), len(names))
            caches.apply(slot, stored([name], parent, tokens[end - SIZE : end]))
            alive[slot].add(prefix)
            parent = name
    for name in gone:
        for slot, prefix in [key for key, value in names.items() if value == name]:
            caches.apply(slot, BlocksRemoved([name]))
            alive[slot].discard(prefix)
    for slot in alive:
        for _, tokens in chains:
            length = 0
            for end in range(SIZE, len(tokens) + 1, SIZE):
                if tuple(tokens[:end]) not in alive[slot]:
                    break
                length = end
            assert matched(caches, tokens).get(slot, 0) == length
    for slot in (0, 1, 2):
        caches.drop(slot)
    assert caches.blocks == 0
    assert not caches._slots_of


def test_keys_depend_on_everything_before_them() -> None:
    one, two = tokens_of(b"[1,2,3,4]"), tokens_of(b"[9,2,3,4]")
    assert one is not None
    assert two is not None
    assert len(keys_of(one, "", 2)) == 2
    assert not set(keys_of(one, "", 2)) & set(keys_of(two, "", 2))


def test_the_guess_is_measured_by_what_servers_report() -> None:
    pool = PoolScheduler(CostPolicy())
    pool.set_endpoints([Endpoint("a:1")], 0.0)
    one = Request("m", ApiKind.COMPLETIONS, b"y" * 4096, stream=True)
    rng = random.Random(1)
    for pick, cached in (("1", 0), ("2", 1000), ("3", None), ("4", 512)):
        pool.pick(one, pick, "p", 0.0, rng)
        event = Finished(
            pick, 200, "a:1", prompt_tokens=1024, completion_tokens=1, cached_tokens=cached
        )
        pool.settle(event, 1.0)
    seen = pool.precision
    # The first was new; the others are expected to be cached whole.
    assert (seen.predicted, seen.cached, seen.both) == (2048, 1512, 1512)
    assert seen.counts == [1, 0, 1, 0, 1, 0, 0, 0]
    assert seen.difference == 24 + 512
