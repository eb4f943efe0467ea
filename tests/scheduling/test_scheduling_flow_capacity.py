"""How full a pool is: tables for the detectors, and what own accounting is worth."""

from __future__ import annotations

import random

import pytest

from inferway.scheduling.events import Finished, Scrape
from inferway.scheduling.flow.capacity import (
    FIRST_WINDOW,
    ConcurrencyDetector,
    StartSoonDetector,
    UtilizationDetector,
    stale_endpoints,
)
from inferway.scheduling.policy import CostPolicy
from inferway.scheduling.pool import PoolScheduler
from inferway.scheduling.request import ApiKind, Request
from inferway.scheduling.snapshot import Endpoint


class Pool:
    def __init__(self, *addresses: str, **labels: str) -> None:
        self.scheduler = PoolScheduler(CostPolicy())
        self.scheduler.set_endpoints([Endpoint(a, a, labels) for a in addresses], 0.0)
        self.count = 0

    def send(self, requests: int, now: float = 0.0) -> None:
        for _ in range(requests):
            self.count += 1
            request = Request("", ApiKind.COMPLETIONS, b"%04d" % self.count * 100)
            self.scheduler.pick(request, str(self.count), "proxy", now, random.Random(1))

    def end(self, pick: int, now: float = 0.0) -> None:
        self.scheduler.settle(Finished(str(pick), code=200), now)

    def scrape(self, address: str, now: float, waiting: float, running: float) -> None:
        self.scheduler.observe(address, Scrape(waiting=waiting, running=running), now)


def test_a_server_without_a_queue_takes_what_comes() -> None:
    pool, detector = Pool("a:1"), StartSoonDetector()
    pool.send(500)
    found = detector.measure(pool.scheduler.columns, 0.0, pressed=False)
    assert found.saturation < 1
    assert found.limit - found.used >= 200


def test_places_are_learned_where_a_queue_shows() -> None:
    """Eight run and four wait: nobody fits. Four less, and one fits beyond the eight."""
    pool, detector = Pool("a:1"), StartSoonDetector()
    pool.send(12)
    columns = pool.scheduler.columns
    for look in range(10):
        pool.scrape("a:1", look * 0.2, 4, 8)
        found = detector.measure(columns, look * 0.2, pressed=True)
    assert (found.used, found.limit) == (9.0, 9.0)
    for pick in range(1, 5):
        pool.end(pick, 2.0)
    found = detector.measure(columns, 2.0, pressed=True)
    assert found.used == pytest.approx(8.0, abs=0.1)
    assert found.limit == 9.0


def test_places_grow_again_where_the_queue_is_gone() -> None:
    pool, detector = Pool("a:1"), StartSoonDetector()
    columns = pool.scheduler.columns
    pool.send(4)
    for look in range(10):
        pool.scrape("a:1", look * 0.2, 2, 2)
        detector.measure(columns, look * 0.2, pressed=True)
    assert detector.measure(columns, 2.0, pressed=True).limit == 3.0
    pool.scrape("a:1", 2.2, 0, 4)
    assert detector.measure(columns, 2.2, pressed=True).limit == 7.0


def test_who_is_pressed_begins_slowly_with_a_new_server() -> None:
    """Requests that waited for the first server do not all come to it at once."""
    pool, detector = Pool("a:1"), StartSoonDetector()
    columns = pool.scheduler.columns
    assert detector.measure(columns, 0.0, pressed=True).limit == FIRST_WINDOW
    pool.send(int(FIRST_WINDOW))
    assert detector.measure(columns, 0.0, pressed=True).saturation == 1.0
    pool.scrape("a:1", 0.2, 0, FIRST_WINDOW)
    assert detector.measure(columns, 0.2, pressed=True).limit == 2 * FIRST_WINDOW


def test_one_servers_overload_does_not_fill_another() -> None:
    pool, detector = Pool("a:1", "b:1"), StartSoonDetector()
    columns = pool.scheduler.columns
    for look in range(12):
        pool.scrape("a:1", look * 0.2, 100, 8)
        pool.scrape("b:1", look * 0.2, 1, 8)
        detector.measure(columns, look * 0.2, pressed=True)
    pool.scrape("b:1", 2.4, 0, 4)
    found = detector.measure(columns, 2.4, pressed=True)
    assert found.saturation < 1
    assert found.limit - found.used == pytest.approx(5.0, abs=0.1)


@pytest.mark.parametrize("detector", [StartSoonDetector(), UtilizationDetector()])
def test_late_metrics_do_not_stop_a_pool_of_one_server(detector: StartSoonDetector) -> None:
    """The published detector takes metrics of 200 ms for full; here own accounting leads."""
    pool = Pool("a:1")
    columns = pool.scheduler.columns
    assert stale_endpoints(columns, 0.0, 0.2) == 1
    assert detector.measure(columns, 0.0, pressed=True).saturation < 1
    pool.scrape("a:1", 1.0, 0, 1)
    assert stale_endpoints(columns, 1.1, 0.2) == 0
    assert stale_endpoints(columns, 60.0, 0.2) == 1
    assert detector.measure(columns, 60.0, pressed=True).saturation < 1


def test_a_leaked_reservation_does_not_fill_a_server() -> None:
    """The server says that nothing runs, whatever the books say."""
    pool, detector = Pool("a:1"), StartSoonDetector()
    columns = pool.scheduler.columns
    pool.send(20)
    for look in range(12):
        pool.scrape("a:1", look * 0.2, 12, 8)
        detector.measure(columns, look * 0.2, pressed=True)
    assert detector.measure(columns, 2.2, pressed=True).saturation == 1.0
    pool.scrape("a:1", 2.4, 0, 0)
    assert detector.measure(columns, 2.4, pressed=True).used == pytest.approx(0.0, abs=0.01)


def test_utilization_is_the_published_formula() -> None:
    """Mean of max(5 / 5, 0.4 / 0.8) and max(0, 0.4 / 0.8)."""
    pool, detector = Pool("a:1", "b:1"), UtilizationDetector()
    pool.scheduler.observe("a:1", Scrape(waiting=5, running=9, kv_use=0.4), 0.0)
    pool.scheduler.observe("b:1", Scrape(waiting=0, running=9, kv_use=0.4), 0.0)
    found = detector.measure(pool.scheduler.columns, 0.0, pressed=False)
    assert found.saturation == pytest.approx(0.75)
    assert found.step == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("mode", "saturation"),
    [("requests", 6 / 20), ("tokens", 600 / 4000), ("hybrid", 6 / 20)],
)
def test_concurrency_is_the_published_formula(mode: str, saturation: float) -> None:
    pool = Pool("a:1", "b:1")
    pool.send(6)
    detector = ConcurrencyDetector(mode, 10.0, 2000.0)
    found = detector.measure(pool.scheduler.columns, 0.0, pressed=False)
    assert found.saturation == pytest.approx(saturation)
    assert found.endpoints == 2


def test_the_fuller_stage_counts() -> None:
    """Prefill and decode servers are judged apart."""
    pool = PoolScheduler(CostPolicy())
    labels = {"llm-d.ai/role": "prefill"}
    pool.set_endpoints([Endpoint("p:1", "p", labels), Endpoint("d:1", "d")], 0.0)
    pool.observe("p:1", Scrape(waiting=10, running=1), 0.0)
    found = UtilizationDetector().measure(pool.columns, 0.0, pressed=False)
    assert (found.saturation, found.endpoints) == (2.0, 2)


@pytest.mark.parametrize("code", [429, 503])
def test_a_server_that_says_it_is_full_has_not_failed(code: int) -> None:
    """It is not avoided, as one that did not answer is."""
    pool = Pool("a:1", "b:1")
    pool.send(2)
    columns = pool.scheduler.columns
    pool.scheduler.settle(Finished("1", code=code, served="a:1"), 1.0)
    assert max(columns.suspect_until) == 0.0
    pool.scheduler.settle(Finished("2", code=503, failed=True), 1.0)
    assert max(columns.suspect_until) > 1.0
