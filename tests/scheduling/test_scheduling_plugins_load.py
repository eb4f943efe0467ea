"""Plugins that look at load, against values computed by hand from their published formulas."""

from __future__ import annotations

import math

import pytest
from plugin_helpers import PLAIN, Dice, context_of, kept, made, pool_of, refusal, scores

from inferway.scheduling.config import load
from inferway.scheduling.decision import Decision, RefusalReason
from inferway.scheduling.events import Finished, Scrape
from inferway.scheduling.plugins.base import LoadProducer
from inferway.scheduling.plugins.probabilistic_admitter import ProbabilisticAdmitter
from inferway.scheduling.plugins.registry import plugin_types
from inferway.scheduling.pool import PoolScheduler
from inferway.scheduling.request import ApiKind, Request
from inferway.scheduling.snapshot import Endpoint

# 400 bytes are 100 tokens at the ratio of 4 bytes that holds until something is learned.
HUNDRED_TOKENS = Request("m", ApiKind.COMPLETIONS, b"x" * 400)


def book(pool: PoolScheduler, slot: int, count: int, tokens: float = 0.0) -> None:
    """So many requests in flight on a slot, each with so many uncached prompt tokens."""
    for number in range(count):
        decision = Decision([slot], prompt_tokens=tokens)
        pool.reserve(HUNDRED_TOKENS, decision, f"{slot}-{number}", "proxy", 0.0)


def waiting(*values: float) -> list[Scrape]:
    return [Scrape(waiting=value) for value in values]


@pytest.mark.parametrize(
    ("threshold", "queue", "expected"),
    [
        # 0.5 * (1 - 0 / 128), 0.5 * (1 - 32 / 128), 0.5 * (1 - 128 / 128), and no less.
        (128, [0, 32, 128, 999], [0.5, 0.375, 0.0, 0.0]),
        # 0.5 * (1 - 1 / 4), 0.5 * (1 - 3 / 4).
        (4, [1, 3], [0.375, 0.125]),
        # A threshold that is not positive is the default.
        (0, [32], [0.375]),
    ],
)
def test_load_aware_scorer(threshold: int, queue: list[float], expected: list[float]) -> None:
    pool = pool_of(len(queue), scrapes=waiting(*queue))
    assert scores(made("load-aware-scorer", threshold=threshold), pool) == expected


def test_active_request_scorer() -> None:
    pool = pool_of(4)
    for slot, count in enumerate([0, 1, 2, 4]):
        book(pool, slot, count)
    # Idle: 1; else (4 - n) / 4.
    assert scores(made("active-request-scorer"), pool) == [1.0, 0.75, 0.5, 0.0]
    # Up to 1 is idle; else (4 - n) / 4 * 0.5.
    plugin = made("active-request-scorer", idleThreshold=1, maxBusyScore=0.5)
    assert scores(plugin, pool) == [1.0, 1.0, 0.25, 0.0]


def test_active_request_scorer_of_an_idle_pool() -> None:
    assert scores(made("active-request-scorer"), pool_of(2)) == [1.0, 1.0]


def test_token_load_scorer() -> None:
    pool = pool_of(3)
    book(pool, 1, 2, tokens=100.0)
    book(pool, 2, 1, tokens=5000.0)
    # 1 - 0 / 1000, 1 - 200 / 1000, and not below 0.
    plugin = made("token-load-scorer", queueThresholdTokens=1000)
    assert scores(plugin, pool) == pytest.approx([1.0, 0.8, 0.0])
    # 1 - 5000 / 4194304.
    assert scores(made("token-load-scorer"), pool)[2] == pytest.approx(0.99880791)


def test_inflight_load_producer_estimates_output_as_published() -> None:
    pool = pool_of(1)
    pool.columns.output_tokens[0] = 70.0
    book(pool, 0, 1, tokens=100.0)
    plain = made("inflight-load-producer")
    assert isinstance(plain, LoadProducer)
    context = context_of(pool, HUNDRED_TOKENS)
    assert (plain.requests(context, 0), plain.tokens(context, 0)) == (1, 100.0)
    for parameters, max_tokens, expected in [
        # round(100 * 1.5)
        ({}, 0, 150.0),
        # min(150, 64 of the client)
        ({}, 64, 64.0),
        # min(round(100 * 0.5), 40)
        ({"outputRatio": 0.5, "maxEstimatedOutputTokens": 40}, 0, 40.0),
    ]:
        plugin = made("inflight-load-producer", addEstimatedOutputTokens=True, **parameters)
        assert isinstance(plugin, LoadProducer)
        request = Request("m", ApiKind.COMPLETIONS, b"x" * 400, max_tokens=max_tokens)
        assert plugin.output_tokens(context_of(pool, request)) == expected
        assert plugin.tokens(context, 0) == 170.0
    assert plain.output_tokens(context) == 0.0


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ([("running-requests", 40)], [0, 1]),
        ([("running-requests", 40), ("waiting-queue", 0)], [0]),
        ([("kv-cache-utilization", 0.5)], [0, 2]),
        ([("active-requests", 1)], [0, 2]),
        ([("waiting-queue", 0), ("kv-cache-utilization", 0.05)], []),
    ],
)
def test_utilization_filter(conditions: list[tuple[str, float]], expected: list[int]) -> None:
    scrapes = [
        Scrape(running=40, kv_use=0.1),
        Scrape(running=3, waiting=2, kv_use=0.9),
        Scrape(running=41, kv_use=0.5),
    ]
    pool = pool_of(3, scrapes=scrapes)
    book(pool, 1, 2)
    rules = [{"metric": metric, "maxValue": value} for metric, value in conditions]
    assert kept(made("utilization-filter", conditions=rules), pool) == expected
    soft = made("utilization-filter", conditions=rules, fallbackOnEmpty=True)
    assert kept(soft, pool) == (expected or [0, 1, 2])


def test_utilization_filter_refuses_a_share_above_one() -> None:
    rule = [{"metric": "kv-cache-utilization", "maxValue": 80}]
    with pytest.raises(ValueError, match=r"conditions\[0\]\.maxValue: a share is at most 1"):
        made("utilization-filter", conditions=rule)


@pytest.mark.parametrize(
    ("parameters", "now", "expected"),
    [
        # waiting < 5 and KV use < 0.8, fresh for 0.2 s.
        ({}, 0.1, [0]),
        # * (1 + 0.2): waiting < 6, KV use < 0.96.
        ({"headroom": 0.2}, 0.1, [0, 1, 2]),
        ({"queueDepthThreshold": 6, "kvCacheUtilThreshold": 0.7}, 0.1, [0, 1]),
        # Stale metrics are of a full server; if all are, none is left out.
        ({"metricsStalenessThreshold": "50ms"}, 0.1, [0, 1, 2, 3]),
    ],
)
def test_utilization_detector_as_a_filter(
    parameters: dict[str, object], now: float, expected: list[int]
) -> None:
    scrapes = [
        Scrape(waiting=4, kv_use=0.1),
        Scrape(waiting=5, kv_use=0.1),
        Scrape(waiting=0, kv_use=0.8),
        Scrape(waiting=9, kv_use=1.0),
    ]
    pool = pool_of(4, scrapes=scrapes)
    assert kept(made("utilization-detector", **parameters), pool, now=now) == expected


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"maxConcurrency": 2}, [0, 1]),
        # int(2 * 1.5) = 3
        ({"maxConcurrency": 2, "headroom": 0.5}, [0, 1, 2]),
        ({"concurrencyMode": "tokens", "maxTokenConcurrency": 200}, [0, 1]),
        ({"concurrencyMode": "hybrid", "maxConcurrency": 9, "maxTokenConcurrency": 101}, [0, 1]),
        ({"concurrencyMode": "hybrid", "maxConcurrency": 1, "maxTokenConcurrency": 999}, [0]),
        # Nobody has room: all are kept.
        ({"maxConcurrency": 1, "concurrencyMode": "tokens", "maxTokenConcurrency": 1}, [0]),
    ],
)
def test_concurrency_detector_as_a_filter(
    parameters: dict[str, object], expected: list[int]
) -> None:
    pool = pool_of(3)
    book(pool, 1, 1, tokens=100.0)
    book(pool, 2, 2, tokens=100.0)
    assert kept(made("concurrency-detector", **parameters), pool) == expected


def test_detectors_leave_all_rather_than_none() -> None:
    pool = pool_of(2)
    book(pool, 0, 1)
    book(pool, 1, 1)
    assert kept(made("concurrency-detector", maxConcurrency=1), pool) == [0, 1]


@pytest.mark.parametrize(
    ("queue", "kv_use", "expected"),
    [
        # Saturation 0.15: 0.15^5 * 300 = 0.0228.
        ([0.75], [0.0], 0.0228),
        # 0.34: 0.34^5 * 300 = 1.363, at most 1.
        ([1.7], [0.0], 1.0),
        # mean(max(0 / 5, 0.08 / 0.8), max(1 / 5, 0)) = (0.1 + 0.2) / 2 = 0.15.
        ([0, 1], [0.08, 0.0], 0.0228),
    ],
)
def test_probabilistic_admitter_chance(
    queue: list[float], kv_use: list[float], expected: float
) -> None:
    pairs = zip(queue, kv_use, strict=True)
    pool = pool_of(len(queue), scrapes=[Scrape(waiting=q, kv_use=k) for q, k in pairs])
    plugin = made("probabilistic-admitter")
    assert isinstance(plugin, ProbabilisticAdmitter)
    chance = plugin.chance(context_of(pool), list(pool.columns.live))
    assert math.isclose(chance, expected, abs_tol=0.0001)


def test_probabilistic_admitter_sheds_negative_priorities_only() -> None:
    pool = pool_of(1, scrapes=waiting(0.75))
    plugin = made("probabilistic-admitter")
    sheddable = Request("m", priority=-1)
    refused = refusal(plugin, pool, sheddable, dice=0.0227)
    assert refused is not None
    assert refused.reason is RefusalReason.SHED
    assert refusal(plugin, pool, sheddable, dice=0.0229) is None
    assert refusal(plugin, pool, Request("m"), dice=0.0) is None


def test_endpoint_attribute_scorer() -> None:
    scrapes = [
        Scrape(attributes={"depth": 10.0}),
        Scrape(attributes={"depth": 30.0}),
        Scrape(attributes={"depth": 50.0}),
        Scrape(),
    ]
    pool = pool_of(4, scrapes=scrapes)

    def values(type_: str, normalization: dict[str, object] | None = None) -> list[float]:
        algorithm = {"type": type_, "normalization": normalization or {}}
        plugin = made("endpoint-attribute-scorer", attributeKey="depth", algorithm=algorithm)
        return scores(plugin, pool)

    # (v - 10) / (50 - 10); missing: 0.
    assert values("linear_higher_is_better") == [0.0, 0.5, 1.0, 0.0]
    assert values("linear_lower_is_better") == [1.0, 0.5, 0.0, 0.0]
    # (v - 0) / (40 - 0), cut to 1.
    fixed = {"fixedRange": {"min": 0, "max": 40}}
    assert values("linear_higher_is_better", fixed) == [0.25, 0.75, 1.0, 0.0]
    assert values("linear_lower_is_better", fixed) == [0.75, 0.25, 0.0, 0.0]
    with pytest.raises(ValueError, match="min must be less than max"):
        values("linear_lower_is_better", {"fixedRange": {"min": 2, "max": 2}})


def test_endpoint_attribute_scorer_of_equal_values() -> None:
    pool = pool_of(2, scrapes=waiting(7, 7))
    algorithm = {"type": "linear_lower_is_better"}
    plugin = made("endpoint-attribute-scorer", attributeKey="WaitingQueueSize", algorithm=algorithm)
    assert scores(plugin, pool) == [1.0, 1.0]


@pytest.mark.parametrize(
    ("operator", "expected"),
    [
        ("LessThan", [0, 3]),
        ("LessThanOrEqual", [0, 1, 3]),
        ("GreaterThan", [2, 3]),
        ("GreaterThanOrEqual", [1, 2, 3]),
        ("Equal", [1, 3]),
        ("NotEqual", [0, 2, 3]),
    ],
)
def test_endpoint_attribute_filter(operator: str, expected: list[int]) -> None:
    scrapes = [Scrape(attributes={"n": value}) for value in (9.0, 10.0, 11.0)]
    pool = pool_of(4, scrapes=[*scrapes, Scrape()])
    algorithm = {"type": "threshold", "threshold": {"operator": operator, "value": 10}}
    plugin = made("endpoint-attribute-filter", attribute="n", algorithm=algorithm)
    assert kept(plugin, pool) == expected
    strict = made("endpoint-attribute-filter", attribute="n", algorithm=algorithm, onMissing="Fail")
    assert kept(strict, pool) == expected[:-1]


def test_endpoint_attribute_filter_that_leaves_none() -> None:
    pool = pool_of(2, scrapes=waiting(5, 6))
    algorithm = {"type": "threshold", "threshold": {"operator": "LessThan", "value": 1}}
    hard = made("endpoint-attribute-filter", attribute="WaitingQueueSize", algorithm=algorithm)
    soft = made(
        "endpoint-attribute-filter",
        attribute="WaitingQueueSize",
        algorithm=algorithm,
        fallbackOnEmpty=True,
    )
    assert (kept(hard, pool), kept(soft, pool)) == ([], [0, 1])
    with pytest.raises(ValueError, match="only core-metrics-extractor makes attributes"):
        made("endpoint-attribute-filter", attribute="x", producer="dcgm", algorithm=algorithm)


def test_nothing_is_hashed_for_plugins_of_load() -> None:
    pool = pool_of(2)
    context = context_of(pool, HUNDRED_TOKENS)
    for name in ("load-aware-scorer", "active-request-scorer", "queue-scorer"):
        plugin = made(name)
        plugin.score(context, [0, 1])  # type: ignore[attr-defined]
    assert context.memo == {}
    assert context._blocks is None
    assert PLAIN.prompt


def test_estimated_output_is_load_until_the_request_has_ended() -> None:
    document = {
        "apiVersion": "llm-d.ai/v1alpha1",
        "kind": "EndpointPickerConfig",
        "plugins": [
            {"type": "inflight-load-producer", "parameters": {"addEstimatedOutputTokens": True}},
            {"type": "token-load-scorer", "parameters": {"queueThresholdTokens": 1000}},
        ],
    }
    pool = PoolScheduler(load(document, plugin_types()).policy)
    pool.set_endpoints([Endpoint("a:1"), Endpoint("b:1")], 0.0)
    decision = pool.pick(HUNDRED_TOKENS, "1", "proxy", 0.0, Dice(0.0))
    assert isinstance(decision, Decision)
    (slot, other) = decision.slots
    # round(100 * 1.5), beside 100 tokens of the prompt: 1 - 250 / 1000.
    assert pool.columns.output_tokens[slot] == 150.0
    rows = pool.explain(HUNDRED_TOKENS, decision, 0.0).candidates
    assert [rows[n]["token-load-scorer"] for n in (slot, other)] == pytest.approx([0.75, 1.0])
    pool.settle(Finished("1", code=200, served="a:1"), 1.0)
    assert pool.columns.output_tokens == [0.0, 0.0]
