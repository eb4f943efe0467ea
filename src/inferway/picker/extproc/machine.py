"""One request of a proxy that speaks ext_proc, as a machine: messages in, commands out. No I/O.

Answers what the proxy's processing mode asks for. In full duplex and buffered the decision knows
the body; where the body streams past or is not sent at all, the request is routed by load.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from envoy.extensions.filters.http.ext_proc.v3.processing_mode_pb2 import ProcessingMode
from envoy.service.ext_proc.v3 import external_processor_pb2 as ext_proc

from inferway.picker.answers import DECIDED_UNAVAILABLE_STATUS, FinalAnswer, words
from inferway.picker.extproc import wire
from inferway.picker.extproc.commands import Ask, Close, Command, Echo, Leave, Send, Settle
from inferway.picker.extproc.room import Room
from inferway.picker.extproc.usage import UsageReader
from inferway.picker.machine import BODY_BYTES_MAX, Callout
from inferway.picker.replies import Chosen, Reply, Told
from inferway.picker.restore import ModelRestorer
from inferway.scheduling.events import Doubted, Finished

TEST_SELECTION = b"test-epp-endpoint-selection"
# A client that is told that the picker has no room for its body has lost nothing by waiting.
BUSY_RETRY_SECONDS = 1.0
# Of a content-length; 64 bits have no more.
LENGTH_DIGITS = 20

_BUFFERED = (ProcessingMode.BUFFERED, ProcessingMode.BUFFERED_PARTIAL)
_GOES_ON = wire.passed("request_headers")
_ANSWERED = wire.answered([wire.THROUGH_POOL])


@dataclass(frozen=True, slots=True)
class Settings:
    """What all conversations of a picker have in common.

    ``pool`` is ``namespace/name``; ``subset`` says whether the gateway may restrict the choice,
    ``tests`` whether conformance tests are told which endpoint answered.
    """

    pool: str
    body_bytes_max: int = BODY_BYTES_MAX
    subset: bool = True
    tests: bool = False


class _Phase(Enum):
    COLLECTING = "the request, up to where it is understood"
    ASKED = "the reply is not there"
    ROUTED = "the request has gone on"
    CLOSED = "a final answer was given"


class ExtProcMachine:
    """One stream. ``handle`` takes its messages in order, ``ended`` its end."""

    def __init__(self, settings: Settings, room: Room) -> None:
        self._settings = settings
        self._room = room
        self._phase = _Phase.COLLECTING
        # The proxy's body modes. An old proxy does not tell, and the protocol wants full duplex.
        self._request_mode: int = ProcessingMode.FULL_DUPLEX_STREAMED
        self._response_mode: int = ProcessingMode.FULL_DUPLEX_STREAMED
        self._told_modes = False
        self._headers: Mapping[bytes, bytes] = {}
        self._subset: tuple[str, ...] | None = None
        # What the decision is sent with: a message kind of ext_proc.
        self._answers = ""
        self._chunks: list[bytes] = []
        self._body = b""
        self._size = 0
        self._has_body = False
        self._trailers = False
        # Answers to parts of the request that came while the reply was awaited.
        self._later: list[Command] = []
        self._pick = ""
        self._extra: tuple[tuple[str, str], ...] = ()
        # What the answer is to name as its model, and who puts it there where that can be.
        self._model = ""
        self._restorer: ModelRestorer | None = None
        self._routed_at = 0.0
        self._status = 0
        # Bytes of the answer that are still to come, where it says how many it has.
        self._missing = -1
        self._served = ""
        self._first: float | None = None
        self._usage: UsageReader | None = None

    @property
    def collecting(self) -> bool:
        """Whether the proxy has to send more of the request."""
        return self._phase is _Phase.COLLECTING

    def handle(self, message: Any, now: float) -> list[Command]:
        """What to do about one ProcessingRequest; ``now`` is monotonic, in seconds."""
        if self._phase is _Phase.CLOSED or message.observability_mode:
            # An observing proxy takes no answers, and its request goes elsewhere.
            return []
        if not self._told_modes and message.HasField("protocol_config"):
            self._told_modes = True
            self._request_mode = message.protocol_config.request_body_mode
            self._response_mode = message.protocol_config.response_body_mode
        kind = message.WhichOneof("request")
        if kind == "request_headers":
            return self._request_headers(message)
        if kind == "request_body":
            return self._request_body(message, message.request_body)
        if kind == "request_trailers":
            return self._request_trailers()
        if kind is None:
            return self._fail("a message of a kind that this picker does not know")
        left = self._leave() if self._phase is not _Phase.ROUTED else []
        if kind == "response_headers":
            return [*left, *self._response_headers(message, now)]
        if kind == "response_body":
            return [*left, *self._response_body(message.response_body, now)]
        return [*left, *self._settled(now), Send(wire.passed("response_trailers"))]

    # -- the request -----------------------------------------------------------------------

    def _request_headers(self, message: Any) -> list[Command]:
        if self._answers:
            return self._fail("request headers twice")
        self._answers = "request_headers"
        headers = message.request_headers
        self._headers = wire.headers_of(headers)
        if not self._read_subset(message):
            return self._no_choice()
        if headers.end_of_stream:
            return self._ask()
        if self._request_mode == ProcessingMode.FULL_DUPLEX_STREAMED:
            return []
        if self._request_mode in _BUFFERED:
            self._answers = "request_body"
            return [Send(_GOES_ON)]
        return self._ask(bodiless=True)

    def _request_body(self, message: Any, body: Any) -> list[Command]:
        if self._phase is not _Phase.COLLECTING:
            refused = self._refused_room(len(body.body)) if self._phase is _Phase.ASKED else []
            return refused or self._passing(self._request_piece(body))
        if not self._answers:
            # The proxy keeps the headers to itself.
            if self._request_mode not in (ProcessingMode.FULL_DUPLEX_STREAMED, *_BUFFERED):
                return self._fail("the gateway shows the picker neither headers nor whole bodies")
            self._answers = "request_body"
            if not self._read_subset(message):
                return self._no_choice()
        chunk = body.body
        refused = self._refused_room(len(chunk))
        if refused:
            return refused
        self._has_body = True
        self._chunks.append(chunk)
        if self._request_mode == ProcessingMode.FULL_DUPLEX_STREAMED:
            return self._ask() if body.end_of_stream else []
        # One message holds all, or where it is a part only, what fitted.
        part = self._request_mode == ProcessingMode.BUFFERED_PARTIAL and not body.end_of_stream
        return self._ask(bodiless=part)

    def _read_subset(self, message: Any) -> bool:
        """Whether the gateway leaves anything to choose from."""
        if self._settings.subset:
            self._subset = wire.subset_of(message.metadata_context)
        return self._subset is None or bool(self._subset)

    def _no_choice(self) -> list[Command]:
        answer = FinalAnswer(
            DECIDED_UNAVAILABLE_STATUS,
            "The gateway leaves no endpoint of the pool to choose from.",
            code="no_endpoint",
            dropped="rejected-no-endpoints",
        )
        return self._refuse(answer, self._headers.get(b"x-request-id", b""))

    def _refused_room(self, size: int) -> list[Command]:
        """Takes room for so many more bytes of the body, or says why there is none."""
        limit = self._settings.body_bytes_max
        request_id = self._headers.get(b"x-request-id", b"")
        if self._size + size > limit:
            text = f"The request's body is larger than {limit} bytes."
            return self._refuse(FinalAnswer(413, text), request_id)
        if not self._room.take(size):
            answer = FinalAnswer(
                DECIDED_UNAVAILABLE_STATUS,
                "The picker holds as many request bodies as it can; ask again.",
                code="picker_busy",
                retry_after_seconds=BUSY_RETRY_SECONDS,
            )
            return self._refuse(answer, request_id)
        self._size += size
        return []

    def _request_piece(self, body: Any) -> list[Command]:
        if self._request_mode == ProcessingMode.FULL_DUPLEX_STREAMED:
            return [Echo("request_body", body.body, body.end_of_stream)]
        if self._request_mode == ProcessingMode.GRPC:
            return [Send(wire.grpc_piece("request_body", body))]
        return [Send(wire.passed("request_body"))]

    def _request_trailers(self) -> list[Command]:
        if self._phase is _Phase.COLLECTING:
            if not self._has_body and self._answers != "request_headers":
                # Neither headers nor a body can carry the answer any more.
                return self._fail("the gateway shows the picker nothing but trailers")
            self._trailers = True
            return self._ask()
        return self._passing([Send(wire.passed("request_trailers"))])

    def _passing(self, answers: list[Command]) -> list[Command]:
        """Answers to what needs no decision, after the decision's own."""
        if self._phase is _Phase.ROUTED:
            return answers
        self._later += answers
        return []

    def _ask(self, *, bodiless: bool = False) -> list[Command]:
        self._body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks = []
        get = self._headers.get
        self._phase = _Phase.ASKED
        # What has no method needs no body; of a body that is not seen nothing is asked.
        return [
            Ask(
                Callout(
                    b"" if bodiless else get(b":method", b""),
                    b"/pick/%b%b" % (self._settings.pool.encode(), get(b":path", b"/")),
                    b"" if bodiless else self._body,
                    get(b"x-request-id", b""),
                    self._headers,
                    self._subset,
                )
            )
        ]

    # -- the reply -------------------------------------------------------------------------

    def decided(self, reply: Reply, now: float) -> list[Command]:
        """What to do with the reply to the question; it may come after the stream's end."""
        if self._phase is not _Phase.ASKED:
            # Nobody waits for it: what was reserved is given back.
            return [Settle(Finished(reply.pick))] if isinstance(reply, Chosen) else []
        self._phase = _Phase.ROUTED
        if isinstance(reply, Told):
            headers = [(b"content-type", b"application/json"), (b"x-request-id", reply.request_id)]
            return self._final(200, headers, reply.body, "inferway_told")
        if not isinstance(reply, Chosen):
            return self._refuse(reply.answer, reply.request_id)
        self._pick = reply.pick
        self._routed_at = now
        self._extra = tuple(reply.response_headers)
        self._model = reply.restore
        later, self._later = self._later, []
        return [*self._routed(reply), *later]

    def _routed(self, reply: Chosen) -> list[Command]:
        """The decision, then the parts of the request that are still here."""
        body, self._body = self._body, b""
        headers = [(name, value.encode()) for name, value in reply.headers]
        if b"x-request-id" not in self._headers:
            headers.append(("x-request-id", reply.request_id))
        if reply.splice:
            begin, end, value = reply.splice.split(b",", 2)
            body = b"%b%b%b" % (body[: int(begin)], value, body[int(end) :])
        duplex = self._request_mode == ProcessingMode.FULL_DUPLEX_STREAMED
        known = b"content-length" in self._headers
        if self._has_body and known and (duplex or reply.splice):
            # In full duplex Envoy takes the length away, because it can not know it.
            headers.append(("content-length", b"%d" % len(body)))
        message = ext_proc.ProcessingResponse()
        common = getattr(message, self._answers).response
        wire.route(message, common, reply.addresses, headers, self._headers)
        last = not self._trailers
        commands: list[Command] = []
        if self._answers == "request_headers":
            commands.append(Send(message))
            if duplex and self._has_body:
                commands.append(Echo("request_body", body, last))
        elif duplex:
            commands.append(Echo("request_body", body, last, message))
        else:
            if reply.splice:
                message.request_body.response.body_mutation.body = body
            commands.append(Send(message))
        if self._trailers:
            commands.append(Send(wire.passed("request_trailers")))
        return commands

    def _refuse(self, answer: FinalAnswer, request_id: bytes) -> list[Command]:
        if answer.status == 503:
            # It could not be decided: an answer would keep the gateway from failing open.
            return self._fail(answer.message)
        status, headers, body = words(answer, request_id)
        if status == DECIDED_UNAVAILABLE_STATUS:
            status = 503
        return self._final(status, headers, body, f"inferway_{answer.code or status}")

    def _final(
        self, status: int, headers: list[tuple[bytes, bytes]], body: bytes, details: str
    ) -> list[Command]:
        self._close()
        return [Send(wire.immediate(status, headers, body, details)), Close()]

    def _fail(self, message: str) -> list[Command]:
        left: list[Command] = [Leave()] if self._phase is _Phase.ASKED else []
        settled = self._settled_as(0)
        self._close()
        return [*left, *settled, Close(message)]

    def _leave(self) -> list[Command]:
        """The proxy answers although the request has not gone on."""
        asked = self._phase is _Phase.ASKED
        self._phase = _Phase.ROUTED
        later, self._later = self._later, []
        self._chunks, self._body = [], b""
        return [Leave(), *later] if asked else later

    def _close(self) -> None:
        self._phase = _Phase.CLOSED
        self._chunks, self._body, self._later = [], b"", []

    # -- the answer of the server ----------------------------------------------------------

    def _response_headers(self, message: Any, now: float) -> list[Command]:
        answer = message.response_headers
        headers = wire.headers_of(answer)
        status = headers.get(b":status", b"")
        self._status = int(status) if len(status) == 3 and status.isdigit() else 0
        self._served = wire.served_of(message.metadata_context)
        self._first = now - self._routed_at
        length = headers.get(b"content-length", b"")
        self._missing = int(length) if len(length) < LENGTH_DIGITS and length.isdigit() else -1
        kind = headers.get(b"content-type", b"")
        plain = headers.get(b"content-encoding", b"identity") == b"identity"
        if self._pick and plain and (b"json" in kind or b"event-stream" in kind):
            self._usage = UsageReader()
            changes = self._response_mode not in (ProcessingMode.NONE, ProcessingMode.GRPC)
            if self._model and changes and not answer.end_of_stream:
                events = b"event-stream" in kind
                self._restorer = ModelRestorer(self._model.encode(), events=events)
        settled = self._settled(now) if answer.end_of_stream else []
        tests = self._settings.tests and TEST_SELECTION in self._headers
        if not tests and not self._extra and self._restorer is None:
            return [*settled, Send(_ANSWERED)]
        extra = [wire.THROUGH_POOL, *self._extra]
        if tests:
            served = self._served or f"fail: {wire.SERVED} is missing in {wire.METADATA}"
            extra.append((wire.SERVED_FOR_TESTS, served))
        # Another name has another length.
        removed = () if self._restorer is None else ("content-length",)
        return [*settled, Send(wire.answered(extra, removed))]

    def _response_body(self, body: Any, now: float) -> list[Command]:
        piece = shown = body.body
        if self._usage is not None:
            self._usage.feed(piece)
        if self._restorer is not None:
            piece = self._restorer.feed(piece)
        end = body.end_of_stream
        self._missing -= len(shown)
        # A client that has all bytes may leave before the proxy says that they were all.
        settled = self._settled(now) if end or self._missing == 0 else []
        mode = self._response_mode
        if mode == ProcessingMode.FULL_DUPLEX_STREAMED:
            # A piece that is empty and not the end says nothing.
            return [*settled, Echo("response_body", piece, end)] if piece or end else settled
        if mode == ProcessingMode.GRPC:
            return [*settled, Send(wire.grpc_piece("response_body", body))]
        if piece is not shown:
            return [*settled, Send(wire.replaced("response_body", piece))]
        return [*settled, Send(wire.passed("response_body"))]

    # -- ends ------------------------------------------------------------------------------

    def flushed(self) -> None:
        """What was sent is out of the picker's memory; nothing of the request's body is kept."""
        if self._phase in (_Phase.ROUTED, _Phase.CLOSED) and self._size:
            self._room.give(self._size)
            self._size = 0

    def overdue(self) -> list[Command]:
        """The proxy has sent nothing for too long."""
        if self._phase is not _Phase.COLLECTING:
            return self._fail("nothing was heard for too long")
        text = "The request's body did not come in time."
        return self._refuse(FinalAnswer(408, text), self._headers.get(b"x-request-id", b""))

    def ended(self, now: float) -> list[Command]:
        """The stream is over, however it ended. Whatever was reserved is given back."""
        left: list[Command] = [Leave()] if self._phase is _Phase.ASKED else []
        if self._pick and not self._status and self._response_mode == ProcessingMode.NONE:
            # A proxy that shows nothing of answers hangs up as the request goes on.
            left.append(Settle(Doubted(self._pick)))
            self._pick = ""
        seen = self._response_mode == ProcessingMode.NONE
        left += self._settled_as(self._status if seen else 0)
        self._close()
        self.flushed()
        return left

    def _settled(self, now: float) -> list[Command]:
        """The answer is complete."""
        return self._settled_as(self._status, now - self._routed_at)

    def _settled_as(self, code: int, last: float | None = None) -> list[Command]:
        pick, self._pick = self._pick, ""
        if not pick:
            return []
        usage = self._usage or UsageReader()
        return [
            Settle(
                Finished(
                    pick,
                    code,
                    self._served,
                    first_byte_seconds=self._first,
                    last_byte_seconds=last,
                    prompt_tokens=usage.prompt or 0,
                    completion_tokens=usage.completion or 0,
                    cached_tokens=usage.cached,
                )
            )
        ]
