"""HTTP/1.1 of the pick callout as a machine: bytes in, callouts out. No I/O, no answers.

Parsing is llhttp's (httptools); here are the limits and the choice of what is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from types import MappingProxyType
from typing import TypeAlias

import httptools
import msgspec

from inferway.picker.wishes import READ

# What Envoy is configured to buffer for a callout, and a little more for chunk framing.
BODY_BYTES_MAX = 64 * 1024 * 1024
# Envoy's own limit for all request headers is 60 KiB.
HEAD_BYTES_MAX = 96 * 1024

# Spellings of header names that one connection remembers; a proxy uses some dozens.
SPELLINGS_MAX = 256

# Headers that are kept besides those that a policy reads.
KEPT_HEADERS = READ | {b"x-request-id", b"content-type"}
NO_HEADERS: Mapping[bytes, bytes] = MappingProxyType({})


class Callout(msgspec.Struct):
    """One question: which endpoint for this request? Header values are as sent.

    ``headers`` has lower-case names, at least those of ``KEPT_HEADERS`` and of the pools' policies.
    ``subset`` are the endpoints that another gateway leaves to choose from; None: all.
    """

    method: bytes = b""
    target: bytes = b""
    body: bytes = b""
    request_id: bytes = b""
    headers: Mapping[bytes, bytes] = NO_HEADERS
    subset: tuple[str, ...] | None = None
    # Whether the proxy cuts bodies in any pool, and not only in those with rewrites.
    cuts: bool = True


class Malformed(msgspec.Struct, frozen=True):
    """The connection can not go on: answer with this status and close."""

    status: int
    message: str


Command: TypeAlias = Callout | Malformed


class CalloutMachine:
    """One connection. After ``Malformed`` it takes no further bytes."""

    def __init__(
        self,
        also: Set[bytes] = frozenset(),
        *,
        body_bytes_max: int = BODY_BYTES_MAX,
        head_bytes_max: int = HEAD_BYTES_MAX,
    ) -> None:
        """``also`` are lower-case names of further headers to keep."""
        self._body_bytes_max = body_bytes_max
        self._head_bytes_max = head_bytes_max
        self._parser = httptools.HttpRequestParser(self)
        self._commands: list[Command] = []
        self._headers: dict[bytes, bytes] = {}
        self._wanted = KEPT_HEADERS | also
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._head_bytes = 0
        self._in_body = False
        self._broken = False
        self._url = b""
        # Header spelling -> lower-case name, or nothing for one that is not kept.
        self._kept = {name: name for name in self._wanted}

    def handle(self, data: bytes) -> list[Command]:
        """The callouts that these bytes complete, in order."""
        if self._broken:
            return []
        if not self._in_body:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail(400, "Protocol upgrades are not answered by the picker.")
        except httptools.HttpParserError as error:
            if not self._broken:
                self._fail(400, f"The callout is not valid HTTP: {error}")
        if not self._in_body and self._head_bytes > self._head_bytes_max and not self._broken:
            self._fail(431, "The request's headers are too large.")
        commands, self._commands = self._commands, []
        return commands

    # -- callbacks of the parser -----------------------------------------------------------

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        kept = self._kept.get(name)
        if kept is None:
            kept = self._spelled(name)
        if kept:
            self._headers[kept] = value

    def _spelled(self, name: bytes) -> bytes:
        """Remembers a spelling, so that each one costs a single look-up from then on."""
        lower = name.lower()
        kept = lower if lower in self._wanted else b""
        if len(self._kept) < SPELLINGS_MAX:
            self._kept[name] = kept
        return kept

    def on_body(self, data: bytes) -> None:
        self._in_body = True
        self._body_bytes += len(data)
        if self._body_bytes > self._body_bytes_max:
            if not self._broken:
                self._fail(413, "The request's body is too large to be routed.")
            return
        self._body.append(data)

    def on_message_complete(self) -> None:
        if self._broken:
            return
        headers = self._headers
        call = Callout(
            self._parser.get_method(),
            self._url,
            b"",
            headers.get(b"x-request-id", b""),
            headers,
            cuts=False,
        )
        body = self._body
        if body:
            call.body = body[0] if len(body) == 1 else b"".join(body)
            self._body = []
            self._body_bytes = 0
            self._in_body = False
        self._head_bytes = 0
        self._url = b""
        self._headers = {}
        self._commands.append(call)

    def _fail(self, status: int, message: str) -> None:
        self._broken = True
        self._body = []
        self._commands.append(Malformed(status, message))
