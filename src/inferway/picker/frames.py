"""The pick channel's frames as a machine: bytes in, questions and reports out. No I/O.

The native pick filter of a proxy speaks this instead of HTTP; docs/design/pick-channel.md has the
fields. One connection carries the questions of all requests of a proxy, and what became of them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import TypeAlias

import msgspec

from inferway.picker.answers import DECIDED_UNAVAILABLE_STATUS, FinalAnswer, words
from inferway.picker.machine import BODY_BYTES_MAX, Callout

GREETING = b"IWPICK1\n"
# Header block and body of the largest request, and what stands around them.
FRAME_BYTES_MAX = BODY_BYTES_MAX + 1024 * 1024

# Stands among the headers for the client and is none, so that a filter that does not know it passes
# over it.
RESTORE = ":model"

_PICK, _DONE, _CANCEL, _ANSWER = 1, 2, 3, 4
_ROUTE, _FINAL, _FAILED = 1, 2, 3
_HEAD = struct.Struct("<IB3xQ")
_TEXT = struct.Struct("<I")
_OUTCOME = struct.Struct("<HHIIII")  # status, attempts, flags, first, last, duration
_ANSWER_HEAD = struct.Struct("<IB3xQHHI")
_ANSWER_FIXED = 8
_HEAD_BYTES = _HEAD.size


class Question(msgspec.Struct, frozen=True, gc=False):
    """Which endpoint for this request? ``id`` is the proxy's name for it on this connection."""

    id: int
    call: Callout


class Report(msgspec.Struct, frozen=True, gc=False):
    """How a request went. Times are microseconds since it came, 0 where there is none.

    ``flags`` are Envoy's response flags, ``usage`` is the answer's own JSON or empty.
    """

    id: int
    status: int
    attempts: int
    flags: int
    first: int
    last: int
    duration: int
    served: bytes
    usage: bytes


class Cancelled(msgspec.Struct, frozen=True, gc=False):
    """Nobody wants the answer any more; the request did not go on."""

    id: int


class Broken(msgspec.Struct, frozen=True):
    """The other end is no pick filter: close."""

    message: str


Message: TypeAlias = Question | Report | Cancelled | Broken


class FrameMachine:
    """One connection. After ``Broken`` it takes no further bytes."""

    def __init__(self, *, frame_bytes_max: int = FRAME_BYTES_MAX) -> None:
        self._frame_bytes_max = frame_bytes_max
        self._rest = bytearray()
        # Nothing can be read before this many bytes are there; a large body is not looked at often.
        self._needed = len(GREETING)
        self._greeted = False
        self._broken = False

    def handle(self, data: bytes) -> list[Message]:
        """The messages that these bytes complete, in order."""
        if self._broken:
            return []
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed:
                return []
            data = bytes(self._rest)
            self._rest = bytearray()
        found: list[Message] = []
        at = 0
        try:
            if not self._greeted:
                if len(data) < len(GREETING) and GREETING.startswith(data):
                    self._rest += data
                    return []
                if not data.startswith(GREETING):
                    raise ValueError("it does not greet as a pick filter")
                self._greeted = True
                at = len(GREETING)
            at = self._frames(data, at, found)
        except (ValueError, struct.error) as error:
            self._broken = True
            found.append(Broken(f"The pick channel can not be understood: {error}"))
            return found
        if at < len(data):
            self._rest += data[at:]
        return found

    def _frames(self, data: bytes, at: int, found: list[Message]) -> int:
        """Reads whole frames from ``at`` on; where the first incomplete one begins."""
        end = len(data)
        while end - at >= _HEAD_BYTES:
            length, kind, number = _HEAD.unpack_from(data, at)
            if length > self._frame_bytes_max:
                raise ValueError(f"a frame of {length} bytes")
            start = at + _HEAD_BYTES
            if end - start < length:
                self._needed = _HEAD_BYTES + length
                return at
            at = start + length
            if kind == _PICK:
                found.append(Question(number, _call(data, start, at)))
            elif kind == _DONE:
                found.append(_report(number, data, start, at))
            elif kind == _CANCEL:
                found.append(Cancelled(number))
            else:
                raise ValueError(f"a frame of kind {kind}")
        self._needed = _HEAD_BYTES
        return at


def _call(data: bytes, start: int, end: int) -> Callout:
    (length,) = _TEXT.unpack_from(data, start)
    body = start + 4 + length
    if body > end:
        raise ValueError("a question is shorter than its headers")
    texts = iter(data[start + 4 : body].split(b"\0"))
    pool = next(texts)
    # Names and values in turns; what is left behind the last zero byte has no partner.
    headers = dict(zip(texts, texts, strict=False))
    get = headers.get
    return Callout(
        get(b":method", b""),
        b"/pick/%b%b" % (pool, get(b":path", b"")),
        data[body:end],
        get(b"x-request-id", b""),
        headers,
    )


def _report(number: int, data: bytes, start: int, end: int) -> Report:
    status, attempts, flags, first, last, duration = _OUTCOME.unpack_from(data, start)
    served, _, usage = data[start + _OUTCOME.size : end].partition(b"\0")
    return Report(number, status, attempts, flags, first, last, duration, served, usage)


def chosen(number: int, addresses: str, splice: bytes = b"") -> bytes:
    """The answer that names the best endpoints in order, and how to cut the body if so."""
    fields = addresses.encode()
    if splice:
        fields = b"\0".join([fields, *splice.split(b",", 2)])
    size = len(fields)
    return _ANSWER_HEAD.pack(size + _ANSWER_FIXED, _ANSWER, number, _ROUTE, 0, size) + fields


def chosen_with(
    number: int,
    addresses: str,
    splice: bytes,
    headers: Iterable[tuple[str, str]],
    response_headers: Iterable[tuple[str, str]],
    restore: str = "",
) -> bytes:
    """The same with headers that the server gets, and others that the client gets.

    ``restore`` is what the answer is to name as its model, as JSON text, or empty.
    """
    to_server = [text.encode() for header in headers for text in header]
    told = [text for header in response_headers for text in header]
    if restore:
        told += (RESTORE, restore)
    to_client = "\0".join(told).encode()
    cut = splice.split(b",", 2) if splice else [b"", b"", b""]
    fields = b"\0".join([addresses.encode(), *cut, *to_server])
    size = len(fields)
    length = size + len(to_client) + _ANSWER_FIXED
    return _ANSWER_HEAD.pack(length, _ANSWER, number, _ROUTE, 0, size) + fields + to_client


def told(number: int, body: bytes, request_id: bytes) -> bytes:
    """An answer with what the client asked for."""
    fields = b"content-type\0application/json\0x-request-id\0" + request_id
    size = len(fields) + len(body)
    head = _ANSWER_HEAD.pack(size + _ANSWER_FIXED, _ANSWER, number, _FINAL, 200, len(fields))
    return head + fields + body


def alive() -> bytes:
    """An answer to question 0, which nobody asks: the picker is there and holds questions."""
    return _ANSWER_HEAD.pack(_ANSWER_FIXED, _ANSWER, 0, _FAILED, 0, 0)


def final(number: int, answer: FinalAnswer, request_id: bytes) -> bytes:
    """What the client is told; a 503 that is not decided leaves it to the pool's failure mode."""
    status, headers, body = words(answer, request_id)
    kind = _FAILED if status == 503 else _FINAL
    if status == DECIDED_UNAVAILABLE_STATUS:
        status = 503
    fields = b"\0".join([piece for header in headers for piece in header])
    size = len(fields) + len(body)
    return (
        _ANSWER_HEAD.pack(size + _ANSWER_FIXED, _ANSWER, number, kind, status, len(fields))
        + fields
        + body
    )
