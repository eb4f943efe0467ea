"""Plugins of latency objectives, against values computed by hand from their published formulas."""

from __future__ import annotations

import pytest
from plugin_helpers import context_of, kept, made, pool_of, refusal, scores

from inferway.scheduling.decision import RefusalReason
from inferway.scheduling.events import Scrape
from inferway.scheduling.plugins.base import Context, Latency, LatencyProducer, Plugin
from inferway.scheduling.request import ApiKind, Request


class Told(LatencyProducer):
    """Predictions by slot, as the test wants them; None: there are none."""

    def __init__(self, *pairs: tuple[float, float]) -> None:
        self._pairs = pairs

    def predict(self, context: Context, slots: list[int]) -> list[Latency] | None:
        if not self._pairs:
            return None
        request = context.request
        return [
            Latency(ttft, tpot, request.slo_ttft_ms - ttft, request.slo_tpot_ms - tpot)
            for ttft, tpot in (self._pairs[slot] for slot in slots)
        ]


def request(ttft: float = 0.0, tpot: float = 0.0, **fields: object) -> Request:
    return Request("m", slo_ttft_ms=ttft, slo_tpot_ms=tpot, **fields)  # type: ignore[arg-type]


def scorer(*pairs: tuple[float, float], **parameters: object) -> Plugin:
    return made("latency-scorer", sources=[Told(*pairs)], **parameters)


def test_latency_scorer_fills_servers_that_keep_the_objectives() -> None:
    # Headrooms 900, 500, 100 of ttft, and 40, 20, 10 of tpot.
    plugin = scorer((100, 10), (500, 30), (900, 40))
    # n = 1, 0.5, 0 and 1, 1/3, 0; blends 1, 0.8 * 0.5 + 0.2 / 3 = 0.46667, 0.
    # (int(100 * (1 - blend)) + 1) / 100: 0.01, 0.54, 1.
    assert scores(plugin, pool_of(3), request(1000, 50)) == [0.01, 0.54, 1.0]
    plugin = scorer((100, 10), (500, 30), (900, 40), headroomSelectionStrategy="most")
    # (int(100 * blend) + 1) / 100.
    assert scores(plugin, pool_of(3), request(1000, 50)) == [1.0, 0.47, 0.01]


def test_latency_scorer_prefers_those_that_keep_both() -> None:
    # The second misses the first token, the third the time between tokens: 0 for both.
    plugin = scorer((100, 10), (2000, 10), (100, 60), (600, 10))
    # Headrooms of ttft 900 and 400; tpot is equal and has no weight: 1 - 1, 1 - 0.
    assert scores(plugin, pool_of(4), request(1000, 50)) == [0.01, 0.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("pairs", "busy", "expected"),
    [
        # Nobody keeps anything; 1 is idle and alone: 0.5 and 0.5, (int(50) + 1) / 100.
        ([(2000, 60), (3000, 70), (4000, 80)], [0, 2], [0.0, 0.51, 0.0]),
        # All are busy. The last misses the time between tokens only, which is the least evil.
        ([(2000, 60), (2000, 40), (900, 70)], [0, 1, 2], [0.0, 0.0, 0.51]),
        # Those that miss the first token only, the nearer one first, whatever the strategy.
        ([(2000, 60), (3000, 40), (1500, 40)], [0, 1, 2], [0.0, 0.01, 1.0]),
        # All miss both: deficits 1000, 500 and 10, 50: n 1, 0 and 0, 1; blends 0.8 and 0.2.
        ([(2000, 60), (1500, 100)], [0, 1], [0.2, 0.81]),
    ],
)
def test_latency_scorer_where_nobody_keeps_the_objectives(
    pairs: list[tuple[float, float]], busy: list[int], expected: list[float]
) -> None:
    pool = pool_of(len(pairs))
    for slot in busy:
        pool.columns.in_flight[slot] = 1
    for strategy in ("least", "most"):
        plugin = scorer(*pairs, headroomSelectionStrategy=strategy)
        assert scores(plugin, pool, request(1000, 50)) == expected


def test_latency_scorer_without_objectives_takes_the_fastest() -> None:
    pool = pool_of(3)
    for slot in range(3):
        pool.columns.in_flight[slot] = 1
    # Headroom is 0 - prediction: deficits 100, 300, 200 -> 1, 0, 0.5.
    plugin = scorer((100, 10), (300, 10), (200, 10))
    assert scores(plugin, pool, request()) == [1.0, 0.01, 0.51]


def test_latency_scorer_without_predictions() -> None:
    scrapes = [Scrape(waiting=0, kv_use=0.2), Scrape(waiting=10, kv_use=0.5)]
    pool = pool_of(2, scrapes=scrapes)
    # (0.8 + 1 + 0) / 3 and (0.5 + 0 + 0) / 3, in hundredths.
    assert scores(scorer(), pool) == [0.6, 0.17]
    # (3 * 0.8 + 1 * 1) / 4 and 3 * 0.5 / 4.
    weighted = scorer(compositeKVWeight=3, compositeQueueWeight=1, compositePrefixWeight=0)
    assert scores(weighted, pool) == [0.85, 0.38]
    # No weights: KV cache alone.
    none = scorer(compositeKVWeight=0, compositeQueueWeight=0, compositePrefixWeight=0)
    assert scores(none, pool) == [0.8, 0.5]


def test_slo_headroom_tier_filter() -> None:
    pool = pool_of(3)
    plugin = made("slo-headroom-tier-filter", sources=[Told((100, 10), (2000, 10), (100, 60))])
    good = request(1000, 50)
    assert kept(plugin, pool, good, dice=0.02) == [0]
    # One of a hundred requests explores.
    assert kept(plugin, pool, good, dice=0.009) == [1, 2]
    # One kind only, or no prediction: all.
    assert kept(plugin, pool, request(5000, 90)) == [0, 1, 2]
    assert kept(plugin, pool, request()) == [0, 1, 2]
    assert kept(made("slo-headroom-tier-filter", sources=[Told()]), pool, good) == [0, 1, 2]


@pytest.mark.parametrize(
    ("wanted", "scrape", "refused"),
    [
        (request(1000, 50, priority=-1), Scrape(running=2, kv_use=0.5), True),
        # A priority that is not to be shed, no objective, or one that is kept.
        (request(1000, 50), Scrape(running=2, kv_use=0.5), False),
        (request(priority=-1), Scrape(running=2, kv_use=0.5), False),
        (request(3000, 70, priority=-1), Scrape(running=2, kv_use=0.5), False),
        (request(3000, priority=-1), Scrape(running=2, kv_use=0.5), False),
        # Idle, or cold: under 2 % of the KV cache.
        (request(1000, 50, priority=-1), Scrape(running=0, kv_use=0.5), False),
        (request(1000, 50, priority=-1), Scrape(running=2, kv_use=0.019), False),
    ],
)
def test_latency_slo_admitter(wanted: Request, scrape: Scrape, refused: bool) -> None:
    pool = pool_of(1, scrapes=[scrape])
    found = refusal(made("latency-slo-admitter", sources=[Told((2000, 60))]), pool, wanted)
    assert (found is not None) is refused
    assert found is None or found.reason is RefusalReason.SHED
    assert refusal(made("latency-slo-admitter", sources=[Told()]), pool, wanted) is None


def test_predicted_latency_producer() -> None:
    pool = pool_of(3, [{}, {}, {"role": "prefill"}], [Scrape(), Scrape(waiting=1, running=4)])
    c = pool.columns
    c.prefill_seconds_per_token[:] = [0.001, 0.001, 0.002]
    c.step_seconds[:] = [0.02, 0.03, 0.04]
    c.backlog_tokens[0] = 500.0
    pool.usual.service_seconds = 2.0
    # 400 bytes are 100 tokens.
    wanted = Request(
        "m", ApiKind.COMPLETIONS, b"x" * 400, max_tokens=10, slo_ttft_ms=1000, slo_tpot_ms=30
    )
    plugin = made(
        "predicted-latency-producer",
        streamingMode=True,
        sloBufferFactor=0.9,
        endpointRoleLabel="role",
    )
    assert isinstance(plugin, LatencyProducer)
    found = plugin.predict(context_of(pool, wanted), [0, 1, 2])
    assert found is not None
    # (500 + 100) * 1 ms + 20; 100 * 1 ms + 30 + (1 + 1) * 2000 / 4; 100 * 2 ms + 40.
    assert [one.ttft for one in found] == pytest.approx([620.0, 1130.0, 240.0])
    assert [one.ttft_headroom for one in found] == pytest.approx([380.0, -130.0, 760.0])
    # 30 * 0.9 - step; a server that prefills has no time between tokens.
    assert [one.tpot_headroom for one in found] == pytest.approx([7.0, -3.0, 0.0])
    assert [one.valid for one in found] == [True, False, True]
    # Whole answers: 10 tokens of a step more, and nothing said of the time between them.
    whole = made("predicted-latency-producer")
    assert isinstance(whole, LatencyProducer)
    (one,) = whole.predict(context_of(pool, wanted), [0]) or []
    assert one.ttft == pytest.approx(820.0)
    assert one.tpot_headroom == 0.0
    silent = made("predicted-latency-producer", predictInProduce=False)
    assert isinstance(silent, LatencyProducer)
    assert silent.predict(context_of(pool, wanted), [0]) is None
