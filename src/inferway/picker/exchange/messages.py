"""The bytes between pickers: a greeting, then frames from the one that was greeted.

Who wants to hear connects and sends ``GREETING``; from then on only the other one speaks. A frame
is its length in 4 bytes, little-endian, and a message in MessagePack. Another layout is another
greeting, so that pickers of two releases do not talk past each other.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TypeAlias

import msgspec

from inferway.scheduling.announced import Announced
from inferway.scheduling.events import Finished

GREETING = b"IWEXCH1\n"
# Fifty thousand open reservations with their hashes; more are not told to a picker that joins.
FRAME_BYTES_MAX = 64 * 1024 * 1024
SNAPSHOT_MAX = 50_000
_LENGTH = struct.Struct("<I")


class End(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """How a request went. All pickers learn from it; one of another picker has only come here."""

    pick: str
    code: int
    served: str
    attempts: int
    failed: bool
    first: float | None
    last: float | None
    duration: float | None
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int | None

    @classmethod
    def of(cls, event: Finished) -> End:
        """The event as it is told."""
        return cls(
            event.pick,
            event.code,
            event.served,
            event.attempts,
            event.failed,
            event.first_byte_seconds,
            event.last_byte_seconds,
            event.duration_seconds,
            event.prompt_tokens,
            event.completion_tokens,
            event.cached_tokens,
        )

    def event(self) -> Finished:
        """What it was made of."""
        return Finished(*msgspec.structs.astuple(self))


class Hello(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """The first message: who speaks, everything open by pool, and the number of the last batch."""

    picker: str
    number: int
    open: dict[str, list[Announced]]


class Batch(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """What has happened since the batch before; an empty one says that the speaker is alive.

    A request leaves ``open`` by ``closed`` or by ``ended``.
    """

    number: int
    opened: Sequence[tuple[str, Announced]] = ()
    closed: Sequence[str] = ()
    ended: Sequence[End] = ()


Message: TypeAlias = Hello | Batch

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Hello | Batch).decode


def frame(message: Message) -> bytes:
    """One message as it is sent."""
    body = _encode(message)
    return _LENGTH.pack(len(body)) + body


def length(head: bytes) -> int:
    """Bytes of the message behind these 4. Raises ValueError if nobody would send so many."""
    (size,) = _LENGTH.unpack(head)
    if size > FRAME_BYTES_MAX:
        raise ValueError(f"a frame of {size} bytes; {FRAME_BYTES_MAX} are the most")
    return int(size)


def decode(body: bytes) -> Message:
    """Raises msgspec.MsgspecError."""
    message: Message = _decode(body)
    return message
