"""Each request is given back exactly once, whatever happens to it in whatever order.

Method: a machine of rules drives the real picker as proxies, servers and time do, and compares what
it counts with what the proxies have open after each step. Besides, the access log is fed anything.
"""

from __future__ import annotations

from typing import Any

import pytest
from envoy.data.accesslog.v3 import accesslog_pb2
from feedback_world import ADDRESSES, World
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from inferway.picker import entries
from inferway.picker.feedback import FeedbackService, parsed
from inferway.scheduling.events import Finished

KINDS = st.sampled_from(["channel", "callout", "stream"])
PROXIES = st.sampled_from(["10.1.0.1", "10.1.0.2"])
PLACES = st.integers(0, 30)
STATUSES = st.sampled_from([0, 200, 404, 500, 503])
MODELS = st.sampled_from(["m", "m", "b", "late"])
# Stories that begin with a new picker say nothing.
RESTART_AFTER_STEPS = 12
# Short ones come more often, because the longest end every story.
SECONDS = st.sampled_from(
    [0.05, 0.05, 0.5, 1.0, 2.0, 4.0, 6.0, 6.0, 29.0, 31.0, 31.0, 700.0, 3600.0]
)


class Interleavings(RuleBasedStateMachine):
    """Places choose of what there is, so that a shorter story is one with smaller numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        for kind in ("channel", "channel", "callout", "stream"):
            self.world.connect(kind, "10.1.0.1")
        self.steps = 0

    def connection(self, place: int, kind: str = "") -> Any:
        found = [c for c in self.world.connections if kind in ("", c.kind)]
        return found[place % len(found)] if found else None

    @rule(kind=KINDS, proxy=PROXIES)
    def connect(self, kind: str, proxy: str) -> None:
        self.world.connect(kind, proxy)

    @rule(place=PLACES, model=MODELS, stream=st.booleans(), times=st.integers(1, 3))
    def ask(self, place: int, model: str, stream: bool, times: int) -> None:
        connection = self.connection(place)
        for _ in range(times if connection is not None else 0):
            self.world.ask(connection, model, stream=stream)

    @rule(model=MODELS, stream=st.booleans())
    def ask_everywhere(self, model: str, stream: bool) -> None:
        for connection in list(self.world.connections):
            self.world.ask(connection, model, stream=stream)

    @rule(late=st.booleans())
    def servers_tell(self, late: bool) -> None:
        self.world.list_models(late=late)

    @rule(place=PLACES, number=PLACES, status=STATUSES, served=st.sampled_from(ADDRESSES))
    def report(self, place: int, number: int, status: int, served: str) -> None:
        connection = self.connection(place, "channel")
        if connection is not None:
            # A proxy reports what it has open, or once more what it had.
            numbers = [n for n in range(connection.count + 1) if n not in connection.waiting]
            self.world.report(connection, numbers[number % len(numbers)], status, served)

    @rule(place=PLACES, number=PLACES)
    def cancel(self, place: int, number: int) -> None:
        connection = self.connection(place, "channel")
        if connection is not None:
            self.world.cancel(connection, number % (connection.count + 1))

    @rule(places=st.lists(PLACES, max_size=4), status=STATUSES, odd=st.booleans())
    def log(self, places: list[int], status: int, odd: bool) -> None:
        picks = [*self.world.logged, *self.world.told[-5:], "never-was"]
        self.world.log([picks[place % len(picks)] for place in places], status, odd=odd)

    @rule(place=PLACES, status=STATUSES)
    def answer(self, place: int, status: int) -> None:
        connection = self.connection(place, "stream")
        if connection is not None and connection.count and not connection.waiting:
            self.world.answer(connection, status)

    @rule(place=PLACES)
    def lose(self, place: int) -> None:
        connection = self.connection(place)
        if connection is not None:
            self.world.lose(connection)

    @rule(proxy=PROXIES)
    def proxy_comes_back(self, proxy: str) -> None:
        for connection in [c for c in self.world.connections if c.proxy == proxy]:
            self.world.lose(connection)
        self.world.connect("channel", proxy)

    @rule(seconds=SECONDS)
    def advance(self, seconds: float) -> None:
        self.world.advance(seconds)

    @rule(without=st.sampled_from((*ADDRESSES, "", "", "all")))
    def endpoints(self, without: str) -> None:
        self.world.set_endpoints([a for a in ADDRESSES if without not in (a, "all")])

    @precondition(lambda self: self.steps > RESTART_AFTER_STEPS and self.world.lives == 1)
    @rule()
    def restart(self) -> None:
        self.world.restart()

    @invariant()
    def counts_agree(self) -> None:
        self.steps += 1
        self.world.check()

    def teardown(self) -> None:
        self.world.close()


Interleavings.TestCase.settings = settings(max_examples=200, stateful_step_count=40)


@pytest.mark.slow
class TestInterleavings(Interleavings.TestCase):  # type: ignore[misc, name-defined]
    """Run by pytest."""


@pytest.mark.parametrize("kind", ["callout", "channel", "stream"])
@pytest.mark.parametrize("leaves", [True, False])
def test_a_question_that_nobody_waits_for_reserves_nothing(kind: str, leaves: bool) -> None:
    world = World()
    world.connect(kind, "10.1.0.1")
    (connection,) = world.connections
    world.ask(connection, "late", stream=False)
    assert world.asking
    if leaves:
        world.lose(connection)
    world.list_models(late=True)
    assert len(world.picker.pool.scheduler.ledger) == (not leaves)
    world.check()
    world.close()


MESSAGES = st.binary(max_size=120)


@pytest.mark.fuzz
@given(st.lists(MESSAGES, max_size=5))
def test_any_bytes_as_messages_are_skipped_or_read(pieces: list[bytes]) -> None:
    told: list[Finished] = []
    service = FeedbackService(told.append)
    read = unread = 0
    for piece in pieces:
        # Fields 2 and 1 of the message and its list: what is in them is anything.
        inner = b"\x0a" + bytes([len(piece) & 127]) + piece[: len(piece) & 127]
        message = parsed(b"\x12" + bytes([len(inner) & 127]) + inner[: len(inner) & 127])
        if message is None:
            unread += 1
        else:
            read += len(message.http_logs.log_entry)
            for entry in message.http_logs.log_entry:
                entry.request.request_headers["x-inferway-pick"] = "p"
        service.take(message)
    assert (len(told), service.skipped) == (read, unread)


VALUES = st.one_of(
    st.floats(), st.text(max_size=12), st.booleans(), st.none(), st.lists(st.floats(), max_size=2)
)


@pytest.mark.fuzz
@given(
    usage=st.dictionaries(
        st.sampled_from(["prompt_tokens", "completion_tokens", "cached_tokens", "other"]), VALUES
    ),
    seconds=st.integers(-(2**63), 2**63 - 1),
    nanos=st.integers(-(2**31), 2**31 - 1),
    code=st.integers(0, 2**32 - 1),
    attempts=st.integers(0, 2**32 - 1),
    address=st.text(max_size=20),
    port=st.integers(0, 2**32 - 1),
)
def test_odd_values_of_entries_stay_within_their_meaning(
    usage: dict[str, object],
    seconds: int,
    nanos: int,
    code: int,
    attempts: int,
    address: str,
    port: int,
) -> None:
    entry = accesslog_pb2.HTTPAccessLogEntry()
    entry.request.request_headers["x-inferway-pick"] = "p"
    common = entry.common_properties
    common.metadata.filter_metadata["inferway.usage"].update(usage)
    for name in ("first_upstream_rx_byte", "last_upstream_rx_byte", "last_downstream_tx_byte"):
        getattr(common, f"time_to_{name}").seconds = seconds
        getattr(common, f"time_to_{name}").nanos = nanos
    entry.response.response_code.value = code
    common.upstream_request_attempt_count = attempts
    common.upstream_remote_address.socket_address.address = address
    common.upstream_remote_address.socket_address.port_value = port
    event = entries.finished(entry)
    assert event is not None
    assert 0 <= event.prompt_tokens < entries.TOKENS_MAX
    assert 0 <= event.completion_tokens < entries.TOKENS_MAX
    assert event.cached_tokens is None or 0 <= event.cached_tokens < entries.TOKENS_MAX
    assert event.attempts >= 1
    for time in (event.first_byte_seconds, event.last_byte_seconds, event.duration_seconds):
        assert time is None or 0 <= time < entries.SECONDS_MAX
