"""Each plugin against values computed by hand from its published formula: the first ones."""

from __future__ import annotations

import math

import pytest
from plugin_helpers import kept, made, order, placed, pool_of, scores

from inferway.scheduling.decision import Decision
from inferway.scheduling.events import Scrape
from inferway.scheduling.request import ApiKind, Request


@pytest.mark.parametrize(
    ("waiting", "expected"),
    [
        ([0, 5, 10], [1.0, 0.5, 0.0]),
        ([3, 3, 3], [1.0, 1.0, 1.0]),
        ([2, 0, 8], [0.75, 1.0, 0.0]),
        ([7], [1.0]),
    ],
)
def test_queue_and_running_scorers(waiting: list[float], expected: list[float]) -> None:
    pool = pool_of(len(waiting))
    for n, value in enumerate(waiting):
        pool.observe(f"10.0.0.{n}:8000", Scrape(waiting=value, running=value), 0.0)
    assert scores(made("queue-scorer"), pool) == expected
    assert scores(made("running-requests-size-scorer"), pool) == expected


def test_kv_cache_utilization_scorer() -> None:
    pool = pool_of(3)
    for n, value in enumerate([0.0, 0.25, 1.0]):
        pool.observe(f"10.0.0.{n}:8000", Scrape(kv_use=value), 0.0)
    assert scores(made("kv-cache-utilization-scorer"), pool) == [1.0, 0.75, 0.0]


@pytest.mark.parametrize(
    ("running", "waiting", "places", "expected"),
    [
        ({"a"}, set(), 2, 1.0),
        ({"b"}, set(), 2, 0.8),
        ({"b"}, {"c"}, 2, 0.0),
        ({"b", "c"}, {"a"}, 2, 0.6),
        ({"b"}, {"a"}, 4, 0.8),
        (set(), set(), 0, 0.0),
    ],
)
def test_lora_affinity_scorer(
    running: set[str], waiting: set[str], places: int, expected: float
) -> None:
    pool = pool_of(1)
    scrape = Scrape(
        max_loras=places,
        running_adapters=frozenset(running),
        waiting_adapters=frozenset(waiting),
    )
    pool.observe("10.0.0.0:8000", scrape, 0.0)
    assert scores(made("lora-affinity-scorer"), pool, Request("a")) == [expected]


def test_prefix_cache_scorer_counts_whole_blocks_of_64() -> None:
    pool = pool_of(2)
    plugin = made("prefix-cache-scorer", blockSize=64)
    first = Request("m", ApiKind.COMPLETIONS, b'"' + b"a" * 128 + b'"')
    assert scores(plugin, pool, first) == [0.0, 0.0]
    placed(plugin, pool, first, 1)
    # Four blocks of which two are known; the 30 bytes at the end are no block.
    longer = Request("m", ApiKind.COMPLETIONS, b'"' + b"a" * 128 + b"b" * 158 + b'"')
    assert scores(plugin, pool, longer) == [0.0, 0.5]
    assert scores(plugin, pool, Request("n", ApiKind.COMPLETIONS, longer.prompt)) == [0.0, 0.0]
    salted = Request("m", ApiKind.COMPLETIONS, longer.prompt, salt=b'"tenant"')
    assert scores(plugin, pool, salted) == [0.0, 0.0]
    assert scores(plugin, pool, Request("m", ApiKind.COMPLETIONS, b'"short"')) == [0.0, 0.0]
    plugin.drop(1)
    assert scores(plugin, pool, longer) == [0.0, 0.0]


def test_prefix_cache_scorer_with_length_weight_and_small_memory() -> None:
    pool = pool_of(1)
    plugin = made(
        "prefix-cache-scorer", blockSize=64, matchLengthWeight=0.5, matchLengthScaleTokens=64
    )
    request = Request("m", ApiKind.COMPLETIONS, b"a" * 128)
    placed(plugin, pool, request, 0)
    # 128 bytes are 32 tokens: 0.5 * (32 / 64)^2 + 0.5 * 2 / 2.
    assert scores(plugin, pool, request) == [0.625]
    small = made("prefix-cache-scorer", lruCapacityPerServer=1)
    placed(small, pool, request, 0)
    assert scores(small, pool, request) == [0.5]


def test_cost_scorer_prefers_the_cached_and_idle_server() -> None:
    pool = pool_of(3)
    request = Request("m", ApiKind.COMPLETIONS, b"a" * 40_000)
    pool.reserve(request, Decision([1]), "p", "proxy", 0.0)
    values = scores(made("inferway-cost-scorer"), pool, request)
    assert values[0] == values[2] == 1.0
    assert 0 < values[1] < 1


def test_max_score_picker() -> None:
    assert order(made("max-score-picker"), [0.1, 0.9, 0.5]) == [1]
    assert order(made("max-score-picker", maxNumOfEndpoints=2), [0.1, 0.9, 0.5]) == [1, 2]
    assert {order(made("max-score-picker"), [1.0, 1.0], seed)[0] for seed in range(20)} == {0, 1}
    # Equal ones at the edge of what is named are drawn from too.
    plugin = made("max-score-picker", maxNumOfEndpoints=2)
    found = {tuple(order(plugin, [0.5, 0.9, 0.5, 0.1], seed)) for seed in range(20)}
    assert found == {(1, 0), (1, 2)}


def test_random_picker_is_uniform_whatever_the_scores() -> None:
    plugin = made("random-picker")
    counts = [0, 0, 0]
    for seed in range(3000):
        counts[order(plugin, [1.0, 0.0, 0.0], seed)[0]] += 1
    assert all(800 < count < 1200 for count in counts)


def test_weighted_random_picker_follows_the_scores() -> None:
    plugin = made("weighted-random-picker")
    counts = [0, 0, 0]
    for seed in range(3000):
        counts[order(plugin, [3.0, 1.0, 0.0], seed)[0]] += 1
    assert counts[2] == 0
    assert math.isclose(counts[0] / 3000, 0.75, abs_tol=0.05)
    zeros = {order(plugin, [0.0, 0.0], seed)[0] for seed in range(20)}
    assert zeros == {0, 1}
    assert sorted(order(made("weighted-random-picker", maxNumOfEndpoints=5), [1.0, 2.0])) == [0, 1]


def test_role_filters() -> None:
    roles = ["decode", "prefill", "both", "encode", "prefill-decode", "encode-prefill-decode"]
    pool = pool_of(7, [{"llm-d.ai/role": role} for role in roles] + [{}])
    assert kept(made("decode-filter"), pool) == [0, 2, 4, 5, 6]
    assert kept(made("prefill-filter"), pool) == [1, 2, 4, 5]
    assert kept(made("encode-filter"), pool) == [3, 5]


def test_label_filters() -> None:
    pool = pool_of(3, [{"gpu": "a", "zone": "1"}, {"gpu": "b"}, {}])
    assert kept(made("label-selector-filter", matchLabels={"gpu": "a"}), pool) == [0]
    expression = {"key": "gpu", "operator": "In", "values": ["a", "b"]}
    assert kept(made("by-label-selector", matchExpressions=[expression]), pool) == [0, 1]
    expression = {"key": "gpu", "operator": "NotIn", "values": ["a"]}
    assert kept(made("label-selector-filter", matchExpressions=[expression]), pool) == [1, 2]
    expression = {"key": "zone", "operator": "DoesNotExist"}
    assert kept(made("label-selector-filter", matchExpressions=[expression]), pool) == [1, 2]
    assert kept(made("by-label", label="gpu", validValues=["b"]), pool) == [1]
    assert kept(made("by-label", label="gpu", validValues=["b"], allowsNoLabel=True), pool) == [
        1,
        2,
    ]


def test_header_based_testing_filter() -> None:
    pool = pool_of(3)
    plugin = made("header-based-testing-filter")
    assert kept(plugin, pool) == [0, 1, 2]
    assert kept(plugin, pool, Request("m", only=("10.0.0.1", "10.0.0.2:8000"))) == [1, 2]
    assert kept(plugin, pool, Request("m", only=("10.0.0.1:9999",))) == []
