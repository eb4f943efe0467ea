"""Conversations with the ext_proc machine: what a proxy says, and what is answered."""

from __future__ import annotations

import json
from typing import Any

import pytest
from envoy.extensions.filters.http.ext_proc.v3.processing_mode_pb2 import ProcessingMode
from envoy.service.ext_proc.v3 import external_processor_pb2 as ext_proc
from extproc_messages import (
    DUPLEX,
    POST,
    answer_body,
    answer_headers,
    answer_trailers,
    body,
    headers,
    kinds,
    sent,
    set_headers,
    streamed,
    trailers,
)
from hypothesis import given
from hypothesis import strategies as st

from inferway.picker.answers import DECIDED_UNAVAILABLE_STATUS, FinalAnswer
from inferway.picker.extproc.commands import Ask, Close, Command, Leave, Settle
from inferway.picker.extproc.machine import ExtProcMachine, Settings
from inferway.picker.extproc.room import Room
from inferway.picker.extproc.wire import CHUNK_BYTES_MAX
from inferway.picker.machine import Callout
from inferway.picker.replies import Chosen, Refused, Told
from inferway.scheduling.events import Doubted, Finished

PICK = Chosen("10.0.0.1:8000,10.0.0.2:8000", "p-1", b"r")
REQUEST = b'{"model": "m", "prompt": "x"}'
NONE, STREAMED, BUFFERED = ProcessingMode.NONE, ProcessingMode.STREAMED, ProcessingMode.BUFFERED
USAGE = b'{"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}'


def machine(room: int = 1 << 20, **settings: Any) -> ExtProcMachine:
    return ExtProcMachine(Settings("ns/p", **settings), Room(room))


def asked(commands: list[Command]) -> Callout:
    (found,) = [command.call for command in commands if isinstance(command, Ask)]
    return found


def settled(commands: list[Command]) -> list[Finished | Doubted]:
    events = [command.event for command in commands if isinstance(command, Settle)]
    assert all(isinstance(event, Finished | Doubted) for event in events)
    return events  # type: ignore[return-value]


def routed(one: ExtProcMachine, *messages: Any, reply: Chosen = PICK) -> list[Any]:
    """Has the request decided; what was sent after the decision."""
    commands: list[Command] = []
    for message in messages or (headers(), body(REQUEST)):
        commands = one.handle(message, 1.0)
    asked(commands)
    return sent(one.decided(reply, 2.0))


def test_full_duplex_is_answered_after_the_body() -> None:
    one = machine()
    assert one.handle(headers(), 1.0) == []
    assert one.handle(body(REQUEST[:7], end=False), 1.1) == []
    call = asked(one.handle(body(REQUEST[7:]), 1.2))
    assert (call.method, call.target) == (b"POST", b"/pick/ns/p/v1/completions")
    assert (call.body, call.request_id, call.subset) == (REQUEST, b"r", None)
    first, second = sent(one.decided(PICK, 2.0))
    assert first.request_headers.response.clear_route_cache
    changed = set_headers(first.request_headers.response.header_mutation)
    assert changed == {
        "x-gateway-destination-endpoint": "10.0.0.1:8000,10.0.0.2:8000",
        "content-length": str(len(REQUEST)),
    }
    metadata = first.dynamic_metadata["envoy.lb"]["x-gateway-destination-endpoint"]
    assert metadata == changed["x-gateway-destination-endpoint"]
    assert streamed([second], "request_body") == [(REQUEST, True)]
    assert kinds(sent(one.handle(answer_headers(served="10.0.0.1:8000"), 3.0))) == [
        "response_headers"
    ]
    (piece,) = sent(one.handle(answer_body(USAGE), 3.5))
    assert streamed([piece], "response_body") == [(USAGE, False)]
    commands = one.handle(answer_body(b"", end=True), 4.0)
    assert streamed(sent(commands), "response_body") == [(b"", True)]
    assert settled(commands) == [
        Finished(
            "p-1",
            200,
            "10.0.0.1:8000",
            first_byte_seconds=1.0,
            last_byte_seconds=2.0,
            prompt_tokens=5,
            completion_tokens=2,
        )
    ]
    assert settled(one.ended(5.0)) == []


def test_a_get_is_answered_at_the_headers() -> None:
    get = {":method": "GET", ":path": "/health"}
    one = machine()
    (message,) = routed(one, headers(get, end=True))
    changed = set_headers(message.request_headers.response.header_mutation)
    assert changed["x-gateway-destination-endpoint"] == PICK.addresses
    # An id that the client did not give is the picker's.
    assert changed["x-request-id"] == "r"


def test_trailers_of_request_and_answer_are_answered() -> None:
    one = machine()
    one.handle(headers(), 1.0)
    assert one.handle(body(REQUEST, end=False), 1.0) == []
    asked(one.handle(trailers(), 1.0))
    messages = sent(one.decided(PICK, 2.0))
    assert kinds(messages) == ["request_headers", "request_body", "request_trailers"]
    # What trailers follow does not end with the body.
    assert streamed(messages, "request_body") == [(REQUEST, False)]
    one.handle(answer_headers(), 3.0)
    assert settled(one.handle(answer_body(USAGE), 3.0)) == []
    commands = one.handle(answer_trailers(), 4.0)
    assert kinds(sent(commands)) == ["response_trailers"]
    assert len(settled(commands)) == 1


def test_bodies_go_back_in_pieces_that_envoy_takes() -> None:
    large = b'{"model": "m", "prompt": "%b"}' % (b"x" * 200_000)
    messages = routed(machine(), headers(), body(large))
    pieces = streamed(messages, "request_body")
    assert b"".join(data for data, _ in pieces) == large
    assert all(len(data) <= CHUNK_BYTES_MAX for data, _ in pieces)
    assert [end for _, end in pieces] == [False] * (len(pieces) - 1) + [True]
    one = machine()
    routed(one)
    one.handle(answer_headers(), 3.0)
    pieces = streamed(sent(one.handle(answer_body(large, end=True), 3.0)), "response_body")
    assert b"".join(data for data, _ in pieces) == large
    assert max(len(data) for data, _ in pieces) == CHUNK_BYTES_MAX


def test_a_rewritten_model_is_spliced_in() -> None:
    begin = REQUEST.index(b'"m"')
    reply = Chosen("a:1", "p", b"r", b'%d,%d,"new"' % (begin, begin + 3))
    first, second = routed(machine(), reply=reply)
    changed = b'{"model": "new", "prompt": "x"}'
    assert streamed([second], "request_body") == [(changed, True)]
    mutation = first.request_headers.response.header_mutation
    assert set_headers(mutation)["content-length"] == str(len(changed))


NAMED = [b'data: {"model": "ta', b'rget", "usage": {"prompt_tokens": 5}}\n\n', b"data: [DONE]\n\n"]
RENAMED = [b'data: {"model": "alias"', b', "usage": {"prompt_tokens": 5}}\n\n', NAMED[2]]
EVENTS = {"kind": "text/event-stream", "more": {"content-length": "9"}}


def restoring(**answer: Any) -> tuple[ExtProcMachine, list[str]]:
    """A request whose client wants its name back; which headers of the answer were removed."""
    mode = answer.pop("mode", DUPLEX)
    one = machine()
    reply = Chosen("a:1", "p", b"r", restore='"alias"')
    routed(one, headers(modes=(DUPLEX, mode)), body(REQUEST), reply=reply)
    (message,) = sent(one.handle(answer_headers(**answer), 3.0))
    return one, list(message.response_headers.response.header_mutation.remove_headers)


def test_a_name_is_put_back_in_full_duplex() -> None:
    one, removed = restoring(**EVENTS)
    assert removed == ["content-length"]
    messages = [sent(one.handle(answer_body(piece), 3.0)) for piece in NAMED]
    pieces = [streamed(found, "response_body") for found in messages]
    assert pieces == [[(piece, False)] for piece in RENAMED]
    # What servers used is read as they said it.
    (finished,) = settled(one.handle(answer_body(b"", end=True), 4.0))
    assert isinstance(finished, Finished)
    assert finished.prompt_tokens == 5


@pytest.mark.parametrize("mode", [STREAMED, BUFFERED])
def test_a_name_is_put_back_where_bodies_are_only_shown(mode: int) -> None:
    one, removed = restoring(mode=mode)
    assert removed == ["content-length"]
    for shown, wanted in [
        (b'{"model": "tar', b'{"model": "alias"'),
        (b"get", b""),
        (b'", "x": 1', b', "x": 1'),
    ]:
        (message,) = sent(one.handle(answer_body(shown), 3.0))
        mutation = message.response_body.response.body_mutation
        assert (mutation.body, mutation.clear_body) == (wanted, not wanted)
    (message,) = sent(one.handle(answer_body(b"}", end=True), 3.0))
    assert not message.response_body.response.HasField("body_mutation")


@pytest.mark.parametrize(
    "answer",
    [
        {"more": {"content-encoding": "gzip"}},
        {"kind": "text/plain"},
        {"end": True},
        {"mode": NONE},
        {"mode": ProcessingMode.GRPC},
    ],
)
def test_other_answers_keep_their_length(answer: dict[str, Any]) -> None:
    one, removed = restoring(**answer)
    assert removed == []
    if not answer.get("end") and "mode" not in answer:
        messages = sent(one.handle(answer_body(NAMED[0]), 3.0))
        assert streamed(messages, "response_body") == [(NAMED[0], False)]


@pytest.mark.parametrize(
    ("hint", "subset"),
    [
        (["10.0.0.1:8000", " 10.0.0.2:8000 "], ("10.0.0.1:8000", "10.0.0.2:8000")),
        ("10.0.0.1:8000, 10.0.0.2:8000", ("10.0.0.1:8000", "10.0.0.2:8000")),
    ],
)
def test_the_gateway_may_restrict_the_choice(hint: object, subset: tuple[str, ...]) -> None:
    one = machine()
    one.handle(headers(subset=hint), 1.0)
    assert asked(one.handle(body(REQUEST), 1.0)).subset == subset
    one = machine(subset=False)
    one.handle(headers(subset=hint), 1.0)
    assert asked(one.handle(body(REQUEST), 1.0)).subset is None


@pytest.mark.parametrize("hint", [[], "", " , ", 7.0, True, {"a": "b"}])
def test_a_hint_that_leaves_nothing_is_refused(hint: object) -> None:
    one = machine()
    commands = one.handle(headers(subset=hint), 1.0)
    (message,) = sent(commands)
    reply = message.immediate_response
    assert reply.status.code == 503
    assert json.loads(reply.body)["error"]["code"] == "no_endpoint"
    named = set_headers(reply.headers)
    assert named["x-llm-d-request-dropped-reason"] == "rejected-no-endpoints"
    assert named["x-request-id"] == "r"
    assert Close() in commands
    assert one.ended(2.0) == []


def test_refusals_are_final_answers_and_failures_are_none() -> None:
    one = machine()
    one.handle(headers(), 1.0)
    one.handle(body(REQUEST), 1.0)
    answer = FinalAnswer(DECIDED_UNAVAILABLE_STATUS, "nobody", code="no_endpoint")
    message, close = one.decided(Refused(answer, b"r"), 2.0)
    assert sent([message])[0].immediate_response.status.code == 503
    assert close == Close()
    assert one.handle(answer_headers(), 3.0) == []
    one = machine()
    one.handle(headers(), 1.0)
    one.handle(body(REQUEST), 1.0)
    # Nothing was decided: the gateway's failure mode is to act.
    undecided = FinalAnswer(503, "The picker has not seen the pool yet.")
    assert one.decided(Refused(undecided, b"r"), 2.0) == [Close(undecided.message)]


def test_what_the_picker_answers_itself_is_a_final_answer() -> None:
    one = machine()
    one.handle(headers({":method": "GET", ":path": "/v1/models"}, end=True), 1.0)
    message, _ = one.decided(Told(b"{}", b"r"), 2.0)
    reply = sent([message])[0].immediate_response
    assert (reply.status.code, reply.body) == (200, b"{}")
    assert set_headers(reply.headers)["content-type"] == "application/json"


def test_control_headers_do_not_reach_servers() -> None:
    given = {
        "x-llm-d-inference-objective": "high",
        "x-gateway-inference-fairness-id": "me",
        "x-prefiller-host-port": "10.9.9.9:1",
        "x-gateway-destination-endpoint": "10.9.9.9:1",
        "test-epp-endpoint-selection": "10.0.0.1",
        "x-mine": "stays",
    }
    first, _ = routed(machine(), headers(POST | given), body(REQUEST))
    mutation = first.request_headers.response.header_mutation
    assert set(mutation.remove_headers) == given.keys() - {
        "x-mine",
        "x-gateway-destination-endpoint",
    }
    assert set_headers(mutation)["x-gateway-destination-endpoint"] == PICK.addresses
    assert "x-mine" not in set_headers(mutation)
    # 2: the client's own value is replaced, not added to.
    assert {one.append_action for one in mutation.set_headers} == {2}


def test_headers_of_the_decision_are_set() -> None:
    reply = Chosen("a:1", "p", b"r", b"", (("x-prefiller-host-port", "b:2"),), (("x-s", "t"),))
    given = POST | {"x-prefiller-host-port": "evil:1"}
    one = machine()
    first, _ = routed(one, headers(given), body(REQUEST), reply=reply)
    mutation = first.request_headers.response.header_mutation
    assert set_headers(mutation)["x-prefiller-host-port"] == "b:2"
    assert "x-prefiller-host-port" not in mutation.remove_headers
    (answer,) = sent(one.handle(answer_headers(), 3.0))
    assert set_headers(answer.response_headers.response.header_mutation) == {
        "x-went-into-resp-headers": "true",
        "x-s": "t",
    }


@pytest.mark.parametrize("served", ["10.0.0.1:8000", ""])
def test_conformance_tests_are_told_who_answered(served: str) -> None:
    selecting = POST | {"test-epp-endpoint-selection": "10.0.0.1"}
    name = "x-conformance-test-served-endpoint"
    for tests, client, told in (
        (True, selecting, True),
        (True, POST, False),
        (False, selecting, False),
    ):
        one = machine(tests=tests)
        routed(one, headers(client), body(REQUEST))
        (answer,) = sent(one.handle(answer_headers(served=served), 3.0))
        values = set_headers(answer.response_headers.response.header_mutation)
        assert (name in values) is told
        if told:
            assert values[name] == served or values[name].startswith("fail:")


def test_a_buffered_body_is_decided_about_in_one_message() -> None:
    one = machine()
    assert kinds(sent(one.handle(headers(modes=(BUFFERED, NONE)), 1.0))) == ["request_headers"]
    call = asked(one.handle(body(REQUEST), 1.0))
    assert call.body == REQUEST
    begin = REQUEST.index(b'"m"')
    reply = Chosen("a:1", "p", b"r", b'%d,%d,"new"' % (begin, begin + 3))
    (message,) = sent(one.decided(reply, 2.0))
    common = message.request_body.response
    assert common.body_mutation.body == b'{"model": "new", "prompt": "x"}'
    assert set_headers(common.header_mutation)["x-gateway-destination-endpoint"] == "a:1"
    assert set_headers(common.header_mutation)["content-length"] == "31"
    assert kinds(sent(one.handle(answer_headers(), 3.0))) == ["response_headers"]
    # The proxy shows no body of the answer; the stream's end is the request's.
    assert [event.code for event in settled(one.ended(4.0)) if isinstance(event, Finished)] == [200]


@pytest.mark.parametrize("mode", [STREAMED, NONE])
def test_bodies_that_pass_by_are_routed_by_load(mode: int) -> None:
    one = machine()
    call = asked(one.handle(headers(modes=(mode, STREAMED)), 1.0))
    # No method, because the service may not ask for the body that it can not see.
    assert (call.method, call.body, call.target) == (b"", b"", b"/pick/ns/p/v1/completions")
    if mode == STREAMED:
        # A proxy that does not wait for the answer to the headers.
        assert one.handle(body(b"early", end=False), 1.0) == []
    messages = sent(one.decided(PICK, 2.0))
    assert kinds(messages) == ["request_headers"] + ["request_body"] * (mode == STREAMED)
    assert "content-length" not in set_headers(messages[0].request_headers.response.header_mutation)
    if mode == STREAMED:
        (message,) = sent(one.handle(body(b"late"), 1.0))
        assert not message.request_body.response.HasField("body_mutation")
    one.handle(answer_headers(), 3.0)
    (message,) = sent(one.handle(answer_body(USAGE, end=True), 3.0))
    assert not message.response_body.response.HasField("body_mutation")


def test_an_observing_proxy_is_not_answered_and_nothing_is_reserved() -> None:
    one = machine()
    message = headers()
    message.observability_mode = True
    assert one.handle(message, 1.0) == []
    assert one.ended(2.0) == []


def test_a_proxy_that_does_not_tell_its_modes_means_full_duplex() -> None:
    one = machine()
    assert one.handle(headers(modes=None), 1.0) == []
    assert kinds(routed(one, body(REQUEST))) == ["request_headers", "request_body"]


def test_messages_that_make_no_sense_end_the_stream() -> None:
    one = machine()
    one.handle(headers(), 1.0)
    (close,) = one.handle(headers(), 1.0)
    assert isinstance(close, Close)
    assert close.failure
    (close,) = machine().handle(ext_proc.ProcessingRequest(), 1.0)
    assert isinstance(close, Close)
    assert close.failure
    streaming = body(b"x")
    streaming.protocol_config.request_body_mode = STREAMED
    (close,) = machine().handle(streaming, 1.0)
    assert isinstance(close, Close)
    assert close.failure


def test_limits() -> None:
    one = machine(body_bytes_max=10)
    one.handle(headers(), 1.0)
    message, close = one.handle(body(b"x" * 11, end=False), 1.0)
    assert sent([message])[0].immediate_response.status.code == 413
    assert close == Close()
    room = Room(100)
    two = [ExtProcMachine(Settings("ns/p"), room) for _ in range(2)]
    for one in two:
        one.handle(headers(), 1.0)
    assert two[0].handle(body(b"x" * 60, end=False), 1.0) == []
    message, _ = two[1].handle(body(b"x" * 60, end=False), 1.0)
    busy = sent([message])[0].immediate_response
    assert busy.status.code == 503
    assert json.loads(busy.body)["error"]["code"] == "picker_busy"
    assert set_headers(busy.headers)["x-should-retry"] == "true"
    for one in two:
        one.ended(2.0)
    assert room.taken == 0


def test_a_body_that_does_not_come_is_waited_for_no_longer() -> None:
    one = machine()
    one.handle(headers(), 1.0)
    assert one.collecting
    message, _ = one.overdue()
    assert sent([message])[0].immediate_response.status.code == 408
    one = machine()
    routed(one)
    (settle, close) = one.overdue()
    assert isinstance(settle, Settle)
    assert isinstance(close, Close)
    assert close.failure


def test_who_leaves_while_the_reply_is_awaited_reserves_nothing() -> None:
    one = machine()
    one.handle(headers(), 1.0)
    one.handle(body(REQUEST), 1.0)
    assert one.ended(2.0) == [Leave()]
    assert settled(one.decided(PICK, 3.0)) == [Finished("p-1")]
    # The proxy answers the client itself, as after its own time limit.
    one = machine()
    one.handle(headers(), 1.0)
    one.handle(body(REQUEST), 1.0)
    commands = one.handle(answer_headers(504, end=True), 2.0)
    assert commands[0] == Leave()
    assert kinds(sent(commands)) == ["response_headers"]
    assert settled(one.decided(PICK, 3.0)) == [Finished("p-1")]


def test_what_is_cut_is_no_answer() -> None:
    one = machine()
    routed(one)
    one.handle(answer_headers(), 3.0)
    one.handle(answer_body(USAGE[:20]), 3.0)
    assert [event.code for event in settled(one.ended(4.0)) if isinstance(event, Finished)] == [0]


def test_an_answer_that_has_all_its_bytes_is_complete() -> None:
    one = machine()
    routed(one)
    one.handle(answer_headers(more={"content-length": str(len(USAGE))}), 3.0)
    assert settled(one.handle(answer_body(USAGE[:20], end=False), 3.0)) == []
    (event,) = settled(one.handle(answer_body(USAGE[20:], end=False), 4.0))
    assert isinstance(event, Finished)
    assert event.code == 200
    # The client leaves before the proxy says that this was all.
    assert settled(one.ended(5.0)) == []


def test_a_proxy_that_shows_no_answers_leaves_the_request_in_doubt() -> None:
    one = machine()
    routed(one, headers(modes=(BUFFERED, NONE)), body(REQUEST))
    assert settled(one.ended(2.0)) == [Doubted("p-1")]


@st.composite
def conversations(draw: st.DrawFn) -> list[Any]:
    """Any messages in any order, most of them as a proxy would send them."""
    modes = draw(st.tuples(st.integers(0, 5), st.integers(0, 5)))
    data = draw(st.binary(max_size=200))
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=4)))
    pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    subset = draw(st.sampled_from([None, "", "10.0.0.1:8000", ["10.0.0.1"], 3.0]))
    first = headers(end=draw(st.booleans()), modes=draw(st.sampled_from([None, modes])))
    if subset is not None:
        first = headers(modes=modes, subset=subset)
    messages = [first, *(body(piece, end=False) for piece in pieces[:-1]), body(pieces[-1])]
    messages += [trailers()] * draw(st.integers(0, 1))
    kind = draw(st.sampled_from(["application/json", "text/event-stream", "x"]))
    messages.append(answer_headers(draw(st.integers(100, 599)), kind, end=draw(st.booleans())))
    messages += [answer_body(piece) for piece in pieces] + [answer_body(b"", end=True)]
    messages += [answer_trailers()] * draw(st.integers(0, 1))
    if draw(st.booleans()):
        order = draw(st.permutations(range(len(messages))))
        messages = [messages[index] for index in order[: draw(st.integers(0, len(order)))]]
    return messages[: draw(st.integers(0, len(messages)))]


REPLIES = st.sampled_from(
    [
        PICK,
        Chosen("a:1", "p-1", b"r", b"0,0,x"),
        Told(b"{}", b"r"),
        Refused(FinalAnswer(429, "shed", code="shed"), b"r"),
        Refused(FinalAnswer(503, "not ready"), b"r"),
    ]
)


@pytest.mark.fuzz
@given(conversations(), REPLIES, st.integers(0, 12), st.booleans())
def test_any_conversation_gives_back_what_it_took(
    messages: list[Any], reply: Chosen | Refused | Told, delay: int, overdue: bool
) -> None:
    room = Room(150)
    one = ExtProcMachine(Settings("ns/p", body_bytes_max=180), room)
    picks = 0
    events: list[Finished | Doubted] = []
    finals = 0
    due: int | None = None
    asks = 0

    def take(commands: list[Command]) -> None:
        nonlocal finals, due, asks
        for command in commands:
            if isinstance(command, Ask):
                asks += 1
                due = delay
        events.extend(settled(commands))
        for message in sent(commands):
            message.SerializeToString()
            assert finals == 0, "something was sent after the final answer"
            finals += message.WhichOneof("response") == "immediate_response"
        one.flushed()

    for message in messages:
        if due == 0:
            due = None
            picks += isinstance(reply, Chosen)
            take(one.decided(reply, 2.0))
        due = due - 1 if due else due
        take(one.handle(message, 1.0))
    if overdue:
        take(one.overdue())
    take(one.ended(3.0))
    if due is not None:
        picks += isinstance(reply, Chosen)
        take(one.decided(reply, 4.0))
    take(one.ended(5.0))
    assert asks <= 1
    assert len(events) == picks, "a reservation is released exactly once"
    assert room.taken == 0


@pytest.mark.fuzz
@given(st.binary(max_size=2000), st.binary(max_size=2000))
def test_any_chunking_says_the_same(data: bytes, answer: bytes) -> None:
    whole = machine()
    messages = routed(whole, headers(), body(data))
    pieces = machine()
    pieces.handle(headers(), 1.0)
    for at in range(0, len(data), 7):
        assert pieces.handle(body(data[at : at + 7], end=False), 1.0) == []
    commands = pieces.handle(body(b""), 1.0)
    assert asked(commands).body == data
    assert sent(pieces.decided(PICK, 2.0)) == messages
    whole.handle(answer_headers(), 3.0)
    back = b""
    for at in range(0, len(answer), 5):
        out = sent(whole.handle(answer_body(answer[at : at + 5]), 3.0))
        back += b"".join(piece for piece, _ in streamed(out, "response_body"))
    assert back == answer


def test_modes_are_those_of_the_protocol() -> None:
    assert DUPLEX == 4
