"""A prefix that many ask for is worth a second server while they wait for the first."""

from __future__ import annotations

import random

import pytest

from inferway.scheduling.cost import costs, parts
from inferway.scheduling.decision import Decision
from inferway.scheduling.events import Finished
from inferway.scheduling.policy import CostPolicy
from inferway.scheduling.pool import PoolScheduler
from inferway.scheduling.request import ApiKind, Request
from inferway.scheduling.snapshot import Endpoint

SERVERS = ("a:1", "b:1", "c:1")


def request(number: int) -> Request:
    own = b"%08d" % number * 1000
    return Request("m", ApiKind.COMPLETIONS, b"p" * 40_000 + own, stream=True)


def burst(count: int, elsewhere: int = 0) -> tuple[PoolScheduler, list[int]]:
    """So many with one prefix, where all but the first server have requests already."""
    pool = PoolScheduler(CostPolicy())
    pool.set_endpoints([Endpoint(address) for address in SERVERS], 0.0)
    pool.columns.in_flight[1:] = [elsewhere, elsewhere]
    chosen = []
    rng = random.Random(3)
    for number in range(count):
        decision = pool.pick(request(number), str(number), "proxy", 10.0, rng)
        assert isinstance(decision, Decision)
        chosen.append(decision.slots[0])
    return pool, chosen


def test_a_short_burst_stays_together_and_a_long_one_does_not() -> None:
    _, chosen = burst(40, elsewhere=8)
    assert len(set(chosen[:4])) == 1
    assert len(set(chosen)) > 1


def test_who_asks_is_counted_until_it_ends() -> None:
    pool, _ = burst(4)
    decision = pool.decide(request(9), 10.0, random.Random(3))
    assert isinstance(decision, Decision)
    assert decision.prefix
    # The first one found nothing.
    assert pool.prefixes.askers(decision.prefix) == 3
    for number in range(4):
        pool.settle(Finished(str(number), code=200), 11.0)
    assert pool.prefixes.askers(decision.prefix) == 0


def test_others_pay_their_part_of_a_second_copy_only_while_they_wait() -> None:
    pool, chosen = burst(3)
    snapshot, slots, home = pool.snapshot(), [0, 1, 2], chosen[0]
    matched = {home: 39_936}
    alone = costs(request(9), snapshot, slots, matched, 10.0)
    many = costs(request(9), snapshot, slots, matched, 10.0, 50)
    assert many[home] == alone[home]
    assert all(many[slot] <= alone[slot] for slot in slots)
    pool.columns.in_flight[(home + 1) % 3] = 8
    busy = (home + 1) % 3
    alone = costs(request(9), snapshot, slots, matched, 10.0)
    many = costs(request(9), snapshot, slots, matched, 10.0, 50)
    assert many[busy] < alone[busy]
    # Long after, nothing waits at home, and nobody needs another copy.
    assert costs(request(9), snapshot, slots, matched, 900.0, 50) == pytest.approx(
        costs(request(9), snapshot, slots, matched, 900.0)
    )
    one = parts(request(9), snapshot, slots, matched, 10.0, 50)[busy]
    assert one.cost == pytest.approx(many[busy])
    total = one.wait_seconds + one.prefill_seconds + one.harm_seconds + one.later_seconds
    assert one.cost == pytest.approx(total + pool.columns.step_seconds[busy])
