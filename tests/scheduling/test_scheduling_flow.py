"""A pool's queue as conversations (``flow/*.script``), read aloud line by line.

``at T`` moves the time and ticks; ``endpoints N``; ``options NAME=VALUE ...``; ``room N`` says that
N more requests fit; ``full``; ``come KEY [prio=..] [flow=..] [tokens=..] [bytes=..] [ttl=..]
[slo=..]``; ``leave KEY``; ``drain``; ``credit N`` expects that N may pass. What a line brings about
stands behind ``->``: ``go KEY`` and ``no KEY REASON [again in S]``, comma separated; a line without
an arrow brings about nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferway.scheduling.flow import ordering
from inferway.scheduling.flow.capacity import Capacity
from inferway.scheduling.flow.events import (
    Arrived,
    Command,
    Configured,
    Dispatch,
    Drain,
    Endpoints,
    Event,
    Left,
    Measured,
    Refuse,
    Tick,
)
from inferway.scheduling.flow.fairness import (
    COST_TOKENS_PRIOR,
    RUN_REQUESTS,
    Fairness,
    GlobalStrict,
    ProgramAware,
    RoundRobin,
    TokenFairness,
)
from inferway.scheduling.flow.machine import LOWER_SHARE, FlowMachine
from inferway.scheduling.flow.options import BandOptions, FlowOptions
from inferway.scheduling.flow.usage import (
    Holdback,
    OnlySheddable,
    SoftReflective,
    Static,
    UsageLimit,
)

SCRIPTS = sorted((Path(__file__).parent / "testdata" / "flow").glob("*.script"))
FAIRNESS: dict[str, Callable[[], Fairness]] = {
    "tokens": TokenFairness,
    "strict": GlobalStrict,
    "turns": RoundRobin,
    "programs": ProgramAware,
}
ORDER = {
    "fcfs": ordering.first_come,
    "edf": ordering.earliest_deadline,
    "slo": ordering.slo_deadline,
}
FULL = Capacity(10.0, 10.0, 1.0, 1)


def room(requests: int) -> Capacity:
    return Capacity(10.0 - requests, 10.0, 1.0, 1)


class Conversation:
    def __init__(self) -> None:
        self.queue = FlowMachine()
        self.now = 0.0

    def line(self, text: str) -> None:
        said, _, expected = text.partition(" -> ")
        command, _, rest = said.partition(" ")
        found = getattr(self, "do_" + command)(rest) or []
        assert ", ".join(map(words, found)) == expected

    def tell(self, event: Event) -> list[Command]:
        return self.queue.handle(event, self.now)

    def do_at(self, rest: str) -> list[Command]:
        self.now = float(rest)
        return self.tell(Tick())

    def do_endpoints(self, rest: str) -> list[Command]:
        return self.tell(Endpoints(int(rest)))

    def do_options(self, rest: str) -> list[Command]:
        given = dict(word.split("=") for word in rest.split())
        band = BandOptions(
            fairness=FAIRNESS[given.get("fairness", "tokens")],
            ordering=ORDER[given.get("order", "fcfs")],
            max_requests=int(given.get("band", 5000)),
        )
        limits: dict[str, UsageLimit] = {
            "static": Static(),
            "holdback": Holdback(0.5),
            "soft": SoftReflective(),
            "off": OnlySheddable(),
        }
        return self.tell(
            Configured(
                FlowOptions(
                    default_band=band,
                    negative_band=BandOptions(max_requests=int(given.get("negative", 0))),
                    ttl_seconds=float(given.get("ttl", 60)),
                    empty_ttl_seconds=float(given.get("hold", 0)),
                    patience_seconds=float(given.get("patience", 590)),
                    max_requests=int(given.get("requests", 20_000)),
                    max_bytes=int(given.get("bytes", 1_000_000)),
                    empty_max_requests=int(given.get("empty", 1000)),
                    usage_limit=limits[given.get("limit", "static")],
                )
            )
        )

    def do_room(self, rest: str) -> list[Command]:
        return self.tell(Measured(room(int(rest))))

    def do_full(self, rest: str) -> list[Command]:
        return self.tell(Measured(FULL))

    def do_come(self, rest: str) -> list[Command]:
        key, *more = rest.split()
        given = dict(word.split("=") for word in more)
        return self.tell(
            Arrived(
                int(key),
                int(given.get("prio", 0)),
                given.get("flow", ""),
                int(given.get("bytes", 1)),
                float(given.get("tokens", 100)),
                float(given.get("ttl", 0)),
                float(given.get("slo", 0)),
            )
        )

    def do_leave(self, rest: str) -> list[Command]:
        return self.tell(Left(int(rest)))

    def do_drain(self, rest: str) -> list[Command]:
        return self.tell(Drain())

    def do_credit(self, rest: str) -> None:
        assert self.queue.take_credit() == int(rest)

    def do_waiting(self, rest: str) -> None:
        count, size = rest.split(" requests ")
        assert (len(self.queue), self.queue.bytes) == (int(count), int(size.split()[0]))

    def do_wake(self, rest: str) -> None:
        due = self.queue.wake_at
        assert (rest == "never") if due is None else float(rest) == pytest.approx(due)


def words(command: Command) -> str:
    if isinstance(command, Dispatch):
        return f"go {command.key}"
    again = f" again in {command.retry_seconds:.3g}" if command.retry_seconds != 1.0 else ""
    return f"no {command.key} {command.why.value}{again}"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_conversation(path: Path) -> None:
    talk = Conversation()
    for number, line in enumerate(path.read_text().splitlines(), 1):
        text = line.partition("#")[0].strip()
        if text:
            try:
                talk.line(text)
            except AssertionError as error:
                raise AssertionError(f"{path.name}:{number}: {line}\n{error}") from error


# -- properties ----------------------------------------------------------------------------

EVENTS = st.lists(
    st.one_of(
        st.tuples(
            st.just("come"),
            st.integers(-2, 2),
            st.sampled_from("abc"),
            st.integers(0, 40),
            st.sampled_from([0.0, 3.0]),
        ),
        st.tuples(st.just("leave"), st.integers(1, 60)),
        st.tuples(st.just("room"), st.integers(0, 4)),
        st.tuples(st.just("endpoints"), st.integers(0, 2)),
        st.tuples(st.just("wait"), st.floats(0, 20)),
        st.tuples(st.just("configure"), st.sampled_from(sorted(FAIRNESS)), st.integers(0, 3)),
    ),
    max_size=120,
)


@settings(deadline=None)
@given(EVENTS)
def test_each_leaves_once_and_caps_hold(events: list[tuple]) -> None:  # type: ignore[type-arg]
    """Whatever happens: nobody is told twice, nobody is forgotten, and no limit is passed."""
    queue, now, count = FlowMachine(), 0.0, 0
    queue.handle(Endpoints(1), now)
    open_keys: dict[int, int] = {}

    def told(commands: list[Command]) -> None:
        for command in commands:
            assert command.key in open_keys, "told twice, or never came"
            del open_keys[command.key]

    for event in events:
        what, *rest = event
        if what == "come":
            count += 1
            priority, flow, size, ttl = rest
            open_keys[count] = size
            told(queue.handle(Arrived(count, priority, flow, size, size + 1.0, ttl), now))
        elif what == "leave":
            told(queue.handle(Left(rest[0]), now))
            open_keys.pop(rest[0], None)
        elif what == "room":
            told(queue.handle(Measured(room(rest[0])), now))
        elif what == "endpoints":
            told(queue.handle(Endpoints(rest[0]), now))
        elif what == "wait":
            now += rest[0]
            told(queue.handle(Tick(), now))
        else:
            options = FlowOptions(
                default_band=BandOptions(fairness=FAIRNESS[rest[0]], max_requests=5),
                negative_band=BandOptions(max_requests=rest[1]),
                max_requests=8,
                max_bytes=100,
                empty_ttl_seconds=10.0,
                empty_max_requests=4,
            )
            told(queue.handle(Configured(options), now))
        assert len(queue) == len(open_keys)
        assert queue.bytes == sum(open_keys.values())
        if queue.wake_at is not None:
            assert queue.wake_at > now or what != "wait"
    told(queue.handle(Drain(), now))
    assert not open_keys


@settings(deadline=None)
@given(st.lists(st.integers(-1, 3), min_size=1, max_size=60), st.integers(1, 3))
def test_nobody_starves(priorities: list[int], patient: int) -> None:
    """However many important requests keep coming, each one that waits goes in bounded turns."""
    queue = FlowMachine(
        FlowOptions(negative_band=BandOptions(), patience_seconds=1e9, ttl_seconds=0)
    )
    queue.handle(Endpoints(1), 0.0)
    queue.handle(Measured(FULL), 0.0)
    for key, priority in enumerate(priorities):
        queue.handle(Arrived(key, priority, f"t{key % patient}"), 0.0)
    left = set(range(len(priorities)))
    lower = len(set(priorities))
    # Each band gets a turn in so many, and each of its requests needs one.
    bound = int((len(priorities) + lower) * (lower / LOWER_SHARE + 1)) + lower
    key = len(priorities)
    for turn in range(bound):
        queue.handle(Arrived(key, 9, "important"), float(turn))
        key += 1
        for command in queue.handle(Measured(room(1)), float(turn)):
            assert isinstance(command, Dispatch)
            left.discard(command.key)
        if not left:
            return
    raise AssertionError(f"still waiting after {bound} turns: {left}")


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 20_000), min_size=40, max_size=40),
    st.lists(st.integers(1, 20_000), min_size=40, max_size=40),
    st.integers(1, 5),
)
def test_tokens_are_shared_within_a_bound(a: list[int], b: list[int], flood: int) -> None:
    """Two tenants who both always wait differ by a quantum and a request of each at most."""
    queue = FlowMachine()
    queue.handle(Endpoints(1), 0.0)
    queue.handle(Measured(FULL), 0.0)
    costs: dict[int, tuple[str, int]] = {}
    for number in range(40):
        # One of them sends many times as often.
        for _ in range(flood):
            costs[len(costs)] = "a", a[number]
        costs[len(costs)] = "b", b[number]
    for key, (flow, tokens) in costs.items():
        queue.handle(Arrived(key, 0, flow, 1, float(tokens)), 0.0)
    had: Counter[str] = Counter()
    waiting = Counter(flow for flow, _ in costs.values())
    largest = max(*a, *b)
    quantum = RUN_REQUESTS * max(largest, COST_TOKENS_PRIOR)
    last: dict[str, int] = {"a": -1, "b": -1}
    while min(waiting.values()) > 0:
        (command,) = queue.handle(Measured(room(1)), 0.0)
        flow, tokens = costs[command.key]
        had[flow] += tokens
        waiting[flow] -= 1
        # First come, first served inside a flow.
        assert command.key > last[flow]
        last[flow] = command.key
        if min(waiting.values()) > 0:
            assert abs(had["a"] - had["b"]) <= 2 * (quantum + largest)


def test_a_flow_that_comes_and_goes_gains_nothing() -> None:
    """A tenant with one request at a time pays its debt before it goes again."""
    queue = FlowMachine()
    queue.handle(Endpoints(1), 0.0)
    queue.handle(Measured(FULL), 0.0)
    had: Counter[str] = Counter()
    key = 0
    flow_of: dict[int, str] = {}
    for _ in range(400):
        for flow, tokens, many in (("small", 1000.0, 20), ("large", 50_000.0, 1)):
            while sum(f == flow for f in flow_of.values()) < many:
                key += 1
                flow_of[key] = flow
                queue.handle(Arrived(key, 0, flow, 1, tokens), 0.0)
        (command,) = queue.handle(Measured(room(1)), 0.0)
        flow = flow_of.pop(command.key)
        had[flow] += 1000 if flow == "small" else 50_000
    assert 0.5 < had["small"] / had["large"] < 2.0


def test_priorities_beyond_the_bound_share_a_band() -> None:
    queue = FlowMachine()
    queue.handle(Endpoints(1), 0.0)
    queue.handle(Measured(FULL), 0.0)
    for key in range(300):
        queue.handle(Arrived(key, key), 0.0)
    assert len(queue.bands) == 256
    gone = queue.handle(Measured(Capacity(0.0, 1000.0, 1.0, 1)), 0.0)
    assert sorted(c.key for c in gone) == list(range(300))


def test_what_left_is_forgotten() -> None:
    """Clients that come and go while nothing moves leave no memory behind."""
    queue = FlowMachine()
    queue.handle(Endpoints(1), 0.0)
    queue.handle(Measured(FULL), 0.0)
    queue.handle(Arrived(0), 0.0)
    for key in range(1, 1000):
        queue.handle(Arrived(key, 0, "t"), 0.0)
        queue.handle(Left(key), 0.0)
    assert len(queue._deadlines._heap) < 50
    assert len(queue) == 1


def test_refusals_say_when_to_come_back() -> None:
    """The pool took ten a second, and five are ahead."""
    queue = FlowMachine(FlowOptions(default_band=BandOptions(max_requests=50)))
    queue.handle(Endpoints(1), 0.0)
    for second in range(20):
        queue.handle(Measured(FULL, passed=10), float(second))
    for key in range(50):
        queue.handle(Arrived(key), 19.0)
    (command,) = queue.handle(Arrived(99), 19.0)
    assert isinstance(command, Refuse)
    assert command.retry_seconds == pytest.approx(51 / 10, rel=0.15)
