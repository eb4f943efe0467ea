"""Reservations are released exactly once, whatever happens in whatever order."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferway.scheduling import accounting
from inferway.scheduling.accounting import DOUBT_SECONDS, LEAK_SECONDS, UNHEARD_SECONDS
from inferway.scheduling.decision import Decision
from inferway.scheduling.events import (
    Doubted,
    Event,
    Finished,
    ModelCard,
    ProxyGone,
    PushedOut,
    Tick,
)
from inferway.scheduling.policy import CostPolicy
from inferway.scheduling.pool import PoolScheduler
from inferway.scheduling.request import ApiKind, Request
from inferway.scheduling.snapshot import Endpoint

ADDRESSES = ["a:1", "b:1", "c:1"]
CARDS = [ModelCard("m"), ModelCard("x", "m"), ModelCard("y", "m")]


def pool_of(addresses: list[str]) -> PoolScheduler:
    pool = PoolScheduler(CostPolicy())
    pool.set_endpoints([Endpoint(a) for a in addresses], 0.0)
    for address in addresses:
        pool.observe_models(address, CARDS)
    return pool


picks = st.integers(0, 30).map(str)
events = st.one_of(
    st.tuples(
        st.just("pick"), st.sampled_from(["m", "x", "y"]), st.integers(0, 3000), st.booleans()
    ),
    st.tuples(
        st.just("finish"),
        picks,
        st.sampled_from([200, 499, 503, 0]),
        st.sampled_from([*ADDRESSES, ""]),
        st.booleans(),
    ),
    st.tuples(st.just("doubt"), picks),
    st.tuples(st.just("proxy"), st.sampled_from(["p0", "p1"])),
    st.tuples(st.just("time"), st.sampled_from([0.1, DOUBT_SECONDS, LEAK_SECONDS])),
    st.tuples(st.just("endpoints"), st.sets(st.sampled_from(ADDRESSES))),
)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(st.lists(events, max_size=60))
def test_books_balance(script: list[tuple[object, ...]]) -> None:
    pool = pool_of(ADDRESSES)
    rng = random.Random(1)
    now = 0.0
    count = 0
    opened: set[str] = set()
    released: list[str] = []

    def settle(event: Event) -> None:
        released.extend(one.reservation.pick for one in pool.settle(event, now))

    for step in script:
        now += 0.01
        match step:
            case ("pick", str(model), int(size), bool(stream)):
                pick = str(count)
                count += 1
                request = Request(model, ApiKind.CHAT, b"z" * size, stream=stream)
                proxy = f"p{count % 2}"
                if isinstance(pool.pick(request, pick, proxy, now, rng), Decision):
                    opened.add(pick)
            case ("finish", str(pick), int(code), str(served), bool(failed)):
                settle(
                    Finished(
                        pick,
                        code=code,
                        served=served,
                        failed=failed,
                        first_byte_seconds=0.1,
                        last_byte_seconds=1.0,
                        prompt_tokens=100,
                        completion_tokens=20,
                    )
                )
            case ("doubt", str(pick)):
                settle(Doubted(pick))
            case ("proxy", str(proxy)):
                settle(ProxyGone(proxy))
            case ("time", float(seconds)):
                now += seconds
                settle(Tick())
            case ("endpoints", set() as addresses):
                pool.set_endpoints([Endpoint(a) for a in sorted(addresses)], now)
                for address in addresses:
                    pool.observe_models(address, CARDS)
        check_columns(pool)
    assert len(released) == len(set(released))
    assert set(released) <= opened
    now += LEAK_SECONDS
    settle(Tick())
    assert set(released) == opened
    assert all(count == 0 for count in pool.in_flight().values())
    check_columns(pool)


def check_columns(pool: PoolScheduler) -> None:
    """The columns are what the open reservations of living endpoints add up to."""
    columns = pool.columns
    for slot in columns.live:
        mine = [r for r in pool.ledger if r.slot == slot and r.life == pool.life(slot)]
        assert columns.in_flight[slot] == len(mine)
        assert columns.in_flight_tokens[slot] == sum(r.tokens for r in mine)
        adapters = [r.adapter for r in mine if r.adapter]
        assert pool.lora.in_flight(slot) == {a: adapters.count(a) for a in set(adapters)}
        assert columns.backlog_tokens[slot] >= 0


def test_doubt_releases_soon_and_a_later_entry_changes_nothing() -> None:
    pool = pool_of(["a:1"])
    rng = random.Random(1)
    pool.pick(Request("m", ApiKind.CHAT, b"x" * 100), "1", "p", 0.0, rng)
    pool.pick(Request("m", ApiKind.CHAT, b"x" * 100), "2", "p", 0.0, rng)
    pool.settle(Doubted("2"), 1.0)
    assert pool.settle(Tick(), DOUBT_SECONDS) == []
    ended = pool.settle(Tick(), DOUBT_SECONDS + 1.0)
    assert [one.reservation.pick for one in ended] == ["2"]
    assert pool.settle(Finished("2", code=200), 40.0) == []
    assert pool.in_flight() == {"a:1": 1}


def test_another_server_under_the_same_address_starts_anew() -> None:
    pool = PoolScheduler(CostPolicy())
    rng = random.Random(1)
    pool.set_endpoints([Endpoint("a:1", "pod-1")], 0.0)
    request = Request("m", ApiKind.CHAT, b"x" * 1000)
    pool.pick(request, "1", "p", 0.0, rng)
    assert pool.set_endpoints([Endpoint("a:1", "pod-2")], 1.0) == (["a:1"], ["a:1"])
    assert pool.in_flight() == {"a:1": 0}
    assert pool.prefixes.entries == 0
    assert len(pool.settle(Finished("1", code=200, served="a:1"), 2.0)) == 1
    assert pool.in_flight() == {"a:1": 0}


def test_without_any_report_reservations_end_soon() -> None:
    pool = pool_of(["a:1"])
    rng = random.Random(1)
    pool.pick(Request("m"), "1", "p", 0.0, rng)
    assert len(pool.settle(Tick(), UNHEARD_SECONDS)) == 1
    pool.pick(Request("m"), "2", "p", 0.0, rng)
    pool.settle(Finished("2"), 1.0)
    pool.pick(Request("m"), "3", "p", 200.0, rng)
    assert pool.settle(Tick(), 200.0 + UNHEARD_SECONDS) == []
    assert len(pool.settle(Tick(), 200.0 + LEAK_SECONDS)) == 1


def test_failed_server_is_passed_over_for_a_while() -> None:
    pool = pool_of(["a:1", "b:1"])
    rng = random.Random(1)
    decision = pool.pick(Request("m"), "1", "p", 0.0, rng)
    assert isinstance(decision, Decision)
    first, second = (pool.columns.address[slot] for slot in decision.slots)
    pool.settle(Finished("1", code=200, served=second, attempts=2), 0.1)
    for n in range(5):
        decision = pool.pick(Request("m"), f"n{n}", "p", 0.2, rng)
        assert isinstance(decision, Decision)
        assert pool.columns.address[decision.slots[0]] == second
    decision = pool.pick(Request("m"), "late", "p", 5.0, rng)
    assert isinstance(decision, Decision)
    assert pool.columns.address[decision.slots[0]] == first


def test_whom_there_is_no_room_for_is_told_at_the_next_tick(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(accounting, "RESERVATIONS_MAX", 3)
    pool = pool_of(ADDRESSES)
    rng = random.Random(1)
    for number in range(5):
        pool.pick(Request("m", ApiKind.CHAT, b"z"), str(number), "p", 0.0, rng)
    assert (len(pool.ledger), sum(pool.in_flight().values())) == (3, 3)
    # News of the first comes too late; that it has left is told once.
    assert pool.settle(Finished("0", code=200), 1.0) == []
    told = [(one.reservation.pick, one.event) for one in pool.settle(Tick(), 1.0)]
    assert told == [("0", PushedOut()), ("1", PushedOut())]
    assert pool.settle(Tick(), 1.0) == []
    check_columns(pool)
