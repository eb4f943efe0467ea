"""The callout's HTTP machine: any cutting of the bytes gives the same callouts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferway.picker.machine import Callout, CalloutMachine, Command, Malformed

BODY = b'{"model":"m","prompt":"hello"}'
PLAIN = (
    b"POST /pick/ns/p/v1/completions HTTP/1.1\r\nhost: x\r\nX-Request-ID: r-1\r\n"
    b"x-llm-d-inference-objective: gold\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY)
)
CHUNKED = (
    b"POST /pick/ns/p/v1/chat/completions?x=1 HTTP/1.1\r\nhost: x\r\n"
    b"x-gateway-inference-fairness-id: f\r\ntransfer-encoding: chunked\r\n\r\n"
    b'5\r\n{"mod\r\n19\r\nel":"m","prompt":"hello"}\r\n0\r\n\r\n'
)
GET = b"GET /pick/ns/p/v1/models HTTP/1.1\r\nhost: x\r\n\r\n"


def run(data: bytes, cuts: list[int]) -> list[Command]:
    machine = CalloutMachine()
    commands: list[Command] = []
    start = 0
    for end in [*sorted(cut % (len(data) + 1) for cut in cuts), len(data)]:
        commands += machine.handle(data[start:end])
        start = end
    return commands


@given(
    st.lists(st.sampled_from([PLAIN, CHUNKED, GET]), min_size=1, max_size=4),
    st.lists(st.integers(0, 2000), max_size=12),
)
def test_cuts_do_not_matter(messages: list[bytes], cuts: list[int]) -> None:
    data = b"".join(messages)
    whole = run(data, [])
    assert run(data, cuts) == whole
    assert len(whole) == len(messages)


def test_what_is_kept() -> None:
    plain, chunked, get = run(PLAIN + CHUNKED + GET, [])
    assert plain == Callout(
        b"POST",
        b"/pick/ns/p/v1/completions",
        BODY,
        b"r-1",
        {b"x-request-id": b"r-1", b"x-llm-d-inference-objective": b"gold"},
        cuts=False,
    )
    assert isinstance(chunked, Callout)
    assert chunked.body == BODY
    assert chunked.headers == {b"x-gateway-inference-fairness-id": b"f"}
    assert chunked.target == b"/pick/ns/p/v1/chat/completions?x=1"
    assert get == Callout(b"GET", b"/pick/ns/p/v1/models", headers={}, cuts=False)


def test_headers_that_a_policy_reads_are_kept_too() -> None:
    machine = CalloutMachine({b"x-tier"})
    data = b"GET /pick/ns/p/x HTTP/1.1\r\nhost: x\r\nX-Tier: gold\r\nx-other: 1\r\n\r\n"
    (first, second) = machine.handle(data * 2)
    assert isinstance(first, Callout)
    assert isinstance(second, Callout)
    assert first.headers == second.headers == {b"x-tier": b"gold"}


@pytest.mark.fuzz
@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5))
def test_garbage_ends_in_one_answer_and_never_raises(data: bytes, cuts: list[int]) -> None:
    commands = run(data, cuts)
    assert sum(isinstance(command, Malformed) for command in commands) <= 1


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", 400),
        (b"GET /pick HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nx: " + b"y" * 2000, 431),
        (b"POST / HTTP/1.1\r\ncontent-length: 200\r\n\r\n" + b"y" * 200, 413),
    ],
)
def test_limits_and_nonsense(data: bytes, status: int) -> None:
    machine = CalloutMachine(body_bytes_max=100, head_bytes_max=1000)
    answers = [c.status for c in machine.handle(data) if isinstance(c, Malformed)]
    assert answers == [status]
    assert machine.handle(PLAIN) == []
