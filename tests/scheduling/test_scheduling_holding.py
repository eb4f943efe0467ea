"""The hold queue as scripts, and a property: nobody is forgotten, and nobody is told twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from inferway.scheduling.holding import (
    OPENING_SECONDS,
    Arrived,
    Command,
    Endpoints,
    Event,
    Hold,
    HoldQueue,
    Left,
    Limited,
    Limits,
    Refuse,
    Release,
    Stopping,
    TimePassed,
    Why,
)


def shut(limits: Limits) -> HoldQueue:
    queue = HoldQueue(limits)
    assert queue.handle(Endpoints(0), 0.0) == []
    assert not queue.passing
    return queue


def test_requests_wait_and_go_in_order_when_proxies_know_the_endpoint() -> None:
    queue = shut(Limits(seconds=30))
    assert queue.handle(Arrived(1, 10), 1.0) == [Hold(1)]
    assert queue.handle(Arrived(2, 10), 2.0) == [Hold(2)]
    assert (len(queue), queue.bytes, queue.oldest_seconds(4.0)) == (2, 20, 3.0)
    assert queue.wake_at == 31.0
    assert queue.handle(Endpoints(1), 5.0) == []
    # Who comes meanwhile stands behind them.
    assert not queue.passing
    assert queue.handle(Arrived(3, 0), 5.1) == [Hold(3)]
    assert queue.wake_at == 5.0 + OPENING_SECONDS
    released = queue.handle(TimePassed(), 5.5)
    assert [c.key for c in released if isinstance(c, Release)] == [1, 2, 3]
    assert released[0] == Release(1, 4.5)
    assert queue.passing
    assert (len(queue), queue.bytes, queue.wake_at) == (0, 0, None)


def test_the_time_is_bounded() -> None:
    queue = shut(Limits(seconds=10))
    queue.handle(Arrived(1, 1), 0.0)
    queue.handle(Arrived(2, 1), 4.0)
    assert queue.handle(TimePassed(), 9.0) == []
    assert queue.handle(TimePassed(), 10.0) == [Refuse(1, Why.TIMEOUT, 10.0)]
    assert queue.wake_at == 14.0


def test_the_number_and_the_bytes_are_bounded() -> None:
    queue = shut(Limits(seconds=10, requests=2, bytes=100))
    assert queue.handle(Arrived(1, 90), 0.0) == [Hold(1)]
    assert queue.handle(Arrived(2, 11), 0.0) == [Refuse(2, Why.BYTES)]
    assert queue.handle(Arrived(3, 10), 0.0) == [Hold(3)]
    assert queue.handle(Arrived(4, 0), 0.0) == [Refuse(4, Why.REQUESTS)]


def test_who_leaves_makes_room_and_hears_nothing() -> None:
    queue = shut(Limits(seconds=10, requests=1))
    queue.handle(Arrived(1, 5), 0.0)
    assert queue.handle(Left(1), 1.0) == []
    assert queue.handle(Left(1), 1.0) == []
    assert (len(queue), queue.bytes, queue.wake_at) == (0, 0, None)
    assert queue.handle(Arrived(2, 5), 1.0) == [Hold(2)]


def test_endpoints_that_were_there_first_are_known_to_the_proxies() -> None:
    queue = HoldQueue(Limits(seconds=10))
    queue.handle(Endpoints(2), 0.0)
    assert queue.passing


def test_an_endpoint_that_goes_again_at_once_releases_nobody() -> None:
    queue = shut(Limits(seconds=10))
    queue.handle(Arrived(1, 0), 0.0)
    queue.handle(Endpoints(1), 1.0)
    queue.handle(Endpoints(0), 1.2)
    assert queue.handle(TimePassed(), 1.6) == []
    assert queue.wake_at == 10.0


def test_without_the_wish_nobody_waits() -> None:
    queue = HoldQueue()
    queue.handle(Endpoints(0), 0.0)
    assert queue.passing
    assert queue.handle(Arrived(1, 0), 0.0) == [Refuse(1, Why.OFF)]


def test_a_shorter_time_holds_for_those_that_wait() -> None:
    queue = shut(Limits(seconds=100))
    queue.handle(Arrived(1, 0), 0.0)
    assert queue.handle(Limited(Limits(seconds=0)), 3.0) == [Refuse(1, Why.TIMEOUT, 3.0)]
    assert queue.passing


def test_a_picker_that_stops_tells_everybody() -> None:
    queue = shut(Limits(seconds=100))
    queue.handle(Arrived(1, 0), 0.0)
    queue.handle(Arrived(2, 0), 0.0)
    assert queue.handle(Stopping(), 1.0) == [
        Refuse(1, Why.STOPPING, 1.0),
        Refuse(2, Why.STOPPING, 1.0),
    ]
    assert len(queue) == 0


steps = st.lists(
    st.tuples(
        st.one_of(
            st.builds(Endpoints, st.integers(0, 2)),
            st.builds(Left, st.integers(1, 20)),
            st.builds(lambda s, n: Limited(Limits(s, n, 50)), st.integers(0, 5), st.integers(1, 5)),
            st.just(TimePassed()),
            st.just(Stopping()),
            st.just("arrive"),
        ),
        st.floats(0, 2),
        st.integers(0, 30),
    ),
    max_size=60,
)


@given(steps)
def test_everybody_is_told_once_and_the_bounds_hold(
    script: list[tuple[Event | str, float, int]],
) -> None:
    queue = HoldQueue(Limits(3, 4, 50))
    queue.handle(Endpoints(0), 0.0)
    now = 0.0
    waiting: dict[int, int] = {}
    count = 0
    for step, pause, size in script:
        now += pause
        commands: list[Command]
        if isinstance(step, str):
            count += 1
            commands = queue.handle(Arrived(count, size), now)
            assert len(commands) == 1
            if isinstance(commands[0], Hold):
                waiting[count] = size
                assert len(queue) <= queue.limits.requests
                assert queue.bytes <= 50
                commands = []
            else:
                assert commands[0].key == count
                continue
        else:
            commands = queue.handle(step, now)
            if isinstance(step, Left):
                waiting.pop(step.key, None)
        for command in commands:
            assert not isinstance(command, Hold)
            del waiting[command.key]
        assert len(queue) == len(waiting)
        assert queue.bytes == sum(waiting.values())
        assert (queue.wake_at is None) <= (not waiting)
