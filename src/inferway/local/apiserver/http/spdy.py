"""SPDY/3.1 framing as port forwarding needs it: a machine, bytes in, events and bytes out.

kubectl carries this protocol inside a WebSocket. Knows frames and the compressed header blocks of
the protocol's public description (draft 3.1), not who uses the streams. Flow control windows are
not kept: the clients of Kubernetes do not keep them either. Raises SpdyError.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

# Clients send at most some dozens of kilobytes at once; the length field allows 16 MB.
FRAME_BYTES_MAX = 16 * 1024 * 1024
# Four short headers a stream; a block that inflates further is an attack or a mistake.
HEADER_BYTES_MAX = 64 * 1024
_VERSION_AND_CONTROL = 0x8003
_SYN_STREAM, _SYN_REPLY, _RST_STREAM, _PING, _GOAWAY = 1, 2, 3, 6, 7
_FLAG_FIN = 0x01

# The words of the protocol's compression dictionary, each preceded by its length.
_WORDS = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language "
    "accept-ranges age allow authorization cache-control connection content-base content-encoding "
    "content-language content-length content-location content-md5 content-range content-type date "
    "etag expect expires from host if-match if-modified-since if-none-match if-range "
    "if-unmodified-since last-modified location max-forwards pragma proxy-authenticate "
    "proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade "
    "user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url "
    "public set-cookie keep-alive origin"
)
_TAIL = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 "
    "Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 "
    "Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service "
    "UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, "
    "Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,"
    "application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdch"
    "charset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)


def dictionary() -> bytes:
    """The protocol's compression dictionary."""
    words = (word.replace("_", " ").encode() for word in _WORDS.split())
    return b"".join(struct.pack(">I", len(word)) + word for word in words) + _TAIL.encode()


class SpdyError(ValueError):
    """The peer does not speak SPDY/3.1."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The peer opened a stream."""

    stream: int
    headers: dict[str, str]
    finished: bool


@dataclass(frozen=True, slots=True)
class Received:
    """Data of a stream; ``finished`` is the peer's last word on it."""

    stream: int
    data: bytes
    finished: bool


@dataclass(frozen=True, slots=True)
class Reset:
    """The peer gave up a stream."""

    stream: int


@dataclass(frozen=True, slots=True)
class Pinged:
    """The peer wants these bytes sent back."""

    answer: bytes


@dataclass(frozen=True, slots=True)
class GoneAway:
    """The peer opens no more streams."""


Event = Opened | Received | Reset | Pinged | GoneAway


class Session:
    """The server's side of one connection."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        words = dictionary()
        self._inflate = zlib.decompressobj(zdict=words)
        self._deflate = zlib.compressobj(zdict=words)

    def receive(self, data: bytes) -> list[Event]:
        """The events of the frames that are complete with these bytes."""
        self._buffer += data
        events: list[Event] = []
        while len(self._buffer) >= 8:
            head, last = struct.unpack_from(">II", self._buffer)
            flags, length = last >> 24, last & 0xFFFFFF
            if len(self._buffer) < 8 + length:
                break
            payload = bytes(self._buffer[8 : 8 + length])
            del self._buffer[: 8 + length]
            event = self._event(head, flags, payload)
            if event is not None:
                events.append(event)
        return events

    def _event(self, head: int, flags: int, payload: bytes) -> Event | None:
        finished = bool(flags & _FLAG_FIN)
        if not head & 0x80000000:
            return Received(head, payload, finished)
        if head >> 16 != _VERSION_AND_CONTROL:
            raise SpdyError(f"unknown version of the protocol: {(head >> 16) & 0x7FFF}")
        kind = head & 0xFFFF
        try:
            if kind == _SYN_STREAM:
                (stream,) = struct.unpack_from(">I", payload)
                return Opened(stream & 0x7FFFFFFF, self._headers(payload[10:]), finished)
            if kind == _RST_STREAM:
                (stream,) = struct.unpack_from(">I", payload)
                return Reset(stream & 0x7FFFFFFF)
        except (struct.error, zlib.error, UnicodeDecodeError) as error:
            raise SpdyError(f"a frame can not be read: {error}") from None
        if kind == _PING:
            return Pinged(_control(_PING, 0, payload))
        # Settings and window updates change nothing here.
        return GoneAway() if kind == _GOAWAY else None

    def _headers(self, block: bytes) -> dict[str, str]:
        data = self._inflate.decompress(block, HEADER_BYTES_MAX)
        if self._inflate.unconsumed_tail:
            raise SpdyError("a header block is too large")
        (count,) = struct.unpack_from(">I", data)
        position, headers = 4, {}
        for _ in range(count):
            name, position = _text(data, position)
            value, position = _text(data, position)
            headers[name.lower()] = value
        return headers

    def reply(self, stream: int) -> bytes:
        """Accepts a stream."""
        block = self._deflate.compress(struct.pack(">I", 0))
        block += self._deflate.flush(zlib.Z_SYNC_FLUSH)
        return _control(_SYN_REPLY, 0, struct.pack(">I", stream) + block)

    def data(self, stream: int, data: bytes, *, finished: bool = False) -> bytes:
        """Data of a stream."""
        flags = _FLAG_FIN if finished else 0
        return struct.pack(">II", stream, flags << 24 | len(data)) + data

    def reset(self, stream: int) -> bytes:
        """Gives a stream up (status CANCEL)."""
        return _control(_RST_STREAM, 0, struct.pack(">II", stream, 5))


def _control(kind: int, flags: int, payload: bytes) -> bytes:
    return struct.pack(">HHI", _VERSION_AND_CONTROL, kind, flags << 24 | len(payload)) + payload


def _text(data: bytes, position: int) -> tuple[str, int]:
    (length,) = struct.unpack_from(">I", data, position)
    begin = position + 4
    if begin + length > len(data):
        raise SpdyError("a header block is cut off")
    return data[begin : begin + length].decode(), begin + length
