"""The pick channel's frames: any bytes in any pieces give messages or one refusal."""

from __future__ import annotations

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferway.picker.answers import DECIDED_UNAVAILABLE_STATUS, FinalAnswer
from inferway.picker.frames import (
    GREETING,
    Broken,
    Cancelled,
    FrameMachine,
    Message,
    Question,
    Report,
    chosen,
    chosen_with,
    final,
    told,
)

PICK, DONE, CANCEL, ANSWER = 1, 2, 3, 4
HEADERS = {
    ":method": "POST",
    ":path": "/v1/completions?a=b",
    ":authority": "h",
    "x-request-id": "r",
}


def frame(kind: int, number: int, payload: bytes = b"") -> bytes:
    return struct.pack("<IB3xQ", len(payload), kind, number) + payload


def question(number: int, body: bytes = b"{}", **more: str) -> bytes:
    fields = ["ns/p", *(text for pair in {**HEADERS, **more}.items() for text in pair)]
    text = "".join(f"{field}\0" for field in fields).encode()
    return frame(PICK, number, struct.pack("<I", len(text)) + text + body)


def report(number: int, served: bytes = b"10.0.0.1:80", usage: bytes = b"{}") -> bytes:
    numbers = struct.pack("<HHIIII", 200, 2, 0x20, 3, 4, 5)
    return frame(DONE, number, numbers + served + b"\0" + usage)


def read(*pieces: bytes) -> list[Message]:
    machine = FrameMachine()
    return [message for piece in pieces for message in machine.handle(piece)]


def test_question_has_what_a_callout_has() -> None:
    more = {
        "x-gateway-inference-objective": "o",
        "x-llm-d-inference-fairness-id": "f",
        "x-session-token": "s",
        "test-epp-endpoint-selection": "10.0.0.1",
        "x-inferway-explain": "1",
    }
    (asked,) = read(GREETING + question(7, b'{"a": 1}', **more))
    assert isinstance(asked, Question)
    assert asked.id == 7
    call = asked.call
    assert (call.method, call.target) == (b"POST", b"/pick/ns/p/v1/completions?a=b")
    assert (call.body, call.request_id) == (b'{"a": 1}', b"r")
    assert {name.encode(): value.encode() for name, value in more.items()}.items() <= (
        call.headers.items()
    )


def test_report_and_cancellation() -> None:
    messages = read(GREETING + report(8) + frame(CANCEL, 2**64 - 1))
    assert messages == [
        Report(8, 200, 2, 0x20, 3, 4, 5, b"10.0.0.1:80", b"{}"),
        Cancelled(2**64 - 1),
    ]


def test_request_without_pseudo_headers_hurts_nobody_else() -> None:
    """The connection is shared by all requests of a proxy."""
    bare = frame(PICK, 1, struct.pack("<I", 5) + b"ns/p\0")
    messages = read(GREETING + bare + question(2))
    assert [getattr(message, "id", None) for message in messages] == [1, 2]


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"IWPICK2\n" + question(1),
        GREETING + frame(9, 1),
        GREETING + frame(ANSWER, 1),
        GREETING + struct.pack("<IB3xQ", 2**31, PICK, 1),
        GREETING + frame(PICK, 1, b"\x01"),
        GREETING + frame(PICK, 1, struct.pack("<I", 100) + b"ns/p\0"),
        GREETING + frame(DONE, 1, b"short"),
    ],
)
def test_nonsense_is_refused_once(data: bytes) -> None:
    machine = FrameMachine()
    (broken,) = machine.handle(data)
    assert isinstance(broken, Broken)
    assert "can not be understood" in broken.message
    assert machine.handle(question(1)) == []


def test_what_came_before_nonsense_counts() -> None:
    messages = read(GREETING + question(1) + frame(9, 1) + question(2))
    assert [type(message) for message in messages] == [Question, Broken]


_FRAMES = st.lists(
    st.one_of(
        st.builds(question, st.integers(0, 2**64 - 1), st.binary()),
        st.builds(
            report, st.integers(0, 2**64 - 1), st.binary().map(lambda b: b.replace(b"\0", b""))
        ),
        st.builds(frame, st.just(CANCEL), st.integers(0, 2**64 - 1)),
    )
)


@given(_FRAMES, st.lists(st.integers(0)))
def test_pieces_do_not_matter(frames: list[bytes], cuts: list[int]) -> None:
    stream = GREETING + b"".join(frames)
    places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    pieces = [stream[start:end] for start, end in itertools.pairwise(places)]
    whole = read(stream)
    assert len(whole) == len(frames)
    assert read(*pieces) == whole
    assert read(*(stream[at : at + 1] for at in range(len(stream)))) == whole


@given(st.booleans(), st.lists(st.binary(min_size=1)))
def test_any_bytes_give_messages_or_one_refusal(greeted: bool, pieces: list[bytes]) -> None:
    messages = read(*([GREETING] if greeted else []), *pieces)
    assert sum(isinstance(message, Broken) for message in messages) <= 1
    assert not any(isinstance(message, Broken) for message in messages[:-1])


def _answer(data: bytes) -> tuple[int, int, int, list[bytes], bytes]:
    """Id, verdict, status, fields and body."""
    length, kind, number, verdict, status, size = struct.unpack_from("<IB3xQHHI", data)
    assert (kind, length) == (ANSWER, len(data) - 16)
    return number, verdict, status, data[24 : 24 + size].split(b"\0"), data[24 + size :]


def test_choice_in_bytes() -> None:
    assert _answer(chosen(5, "a:1,b:2")) == (5, 1, 0, [b"a:1,b:2"], b"")
    cut = chosen(5, "a:1", b"10,15,tuned,v2")
    assert _answer(cut) == (5, 1, 0, [b"a:1", b"10", b"15", b"tuned,v2"], b"")


@pytest.mark.parametrize(
    ("splice", "cut"), [(b"", [b"", b"", b""]), (b"10,15,t,v", [b"10", b"15", b"t,v"])]
)
def test_headers_of_a_choice_in_bytes(splice: bytes, cut: list[bytes]) -> None:
    """Those for the server stand behind the splice or its place, the client's behind all."""
    server = [("x-prefiller-host-port", "b:2"), ("x-e", "c:3,d:4")]
    client = [("x-session-token", "dA==")]
    words = [text.encode() for header in server for text in header]
    said = chosen_with(5, "a:1", splice, server, client)
    assert _answer(said) == (5, 1, 0, [b"a:1", *cut, *words], b"x-session-token\0dA==")
    assert _answer(chosen_with(5, "a:1", splice, (), client))[3] == [b"a:1", *cut]
    assert _answer(chosen_with(5, "a:1", splice, server, ()))[4] == b""
    named = chosen_with(5, "a:1", splice, (), client, '"m"')
    assert _answer(named)[4] == b'x-session-token\0dA==\0:model\0"m"'
    assert _answer(chosen_with(5, "a:1", splice, (), (), '"m"'))[4] == b':model\0"m"'


@pytest.mark.parametrize(
    ("said", "verdict", "status"),
    [(404, 2, 404), (429, 2, 429), (DECIDED_UNAVAILABLE_STATUS, 2, 503), (503, 3, 503)],
)
def test_final_answer_in_bytes(said: int, verdict: int, status: int) -> None:
    answer = FinalAnswer(said, "busy", retry_after_seconds=1.5)
    number, kind, code, fields, body = _answer(final(6, answer, b"r-1"))
    assert (number, kind, code) == (6, verdict, status)
    headers = dict(zip(fields[::2], fields[1::2], strict=True))
    assert headers[b"content-type"] == b"application/json"
    assert (headers[b"x-request-id"], headers[b"retry-after"]) == (b"r-1", b"2")
    assert b'"busy"' in body


def test_listing_in_bytes() -> None:
    number, verdict, status, fields, body = _answer(told(7, b"[]", b""))
    assert (number, verdict, status, body) == (7, 2, 200, b"[]")
    assert fields == [b"content-type", b"application/json", b"x-request-id", b""]
