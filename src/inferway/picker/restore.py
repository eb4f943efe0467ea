"""Puts the model that a client named back into the answer to a request that was rewritten.

A machine: pieces of the answer in, the same pieces out with other names. Changed is the string of
a member ``model`` of a JSON document, and of the object ``message`` or ``response`` right in it,
where Anthropic's and the responses API's events have it; nothing else. No byte waits for the next
piece: the key passes, the new name stands where the value begins, and the old one is left out as it
comes. ``native/restore.c`` and the gateway's Lua do the same.
"""

from __future__ import annotations

import json
import re

# As of what a proxy is to splice in; names of models are far shorter.
NAME_BYTES_MAX = 1024

_DATA = b"data:"
_MODEL = b"model"
# Objects of an answer that have the model in them.
_HOLDERS = (b"message", b"response")
# A longer key is none of these.
_KEY_BYTES_MAX = 8

_BLANK = b" \t"
_ENDS_LINE = b"\r\n"
_OUTSIDE = re.compile(rb'["{}\[\]\r\n]')
_IN_STRING = re.compile(rb'["\\\r\n]')
_END = re.compile(rb"[\r\n]")

# Where the next byte is: at the beginning of a line of an event stream, in a line that is no data,
# outside of strings, in a string that may be the key, in another, behind a key, before its value,
# in the value that is left out.
_LINE, _SKIP, _VALUES, _KEY, _STRING, _COLON, _BEFORE, _CUT = range(8)


def name_text(model: str) -> str:
    """The name as JSON in ASCII, or nothing for a longer one than is put back."""
    text = json.dumps(model)
    return text if len(text) <= NAME_BYTES_MAX else ""


class ModelRestorer:
    """One answer; ``name`` is JSON text. ``events``: each line ``data:`` is a document."""

    def __init__(self, name: bytes, *, events: bool) -> None:
        self._name = name
        self._events = events
        self._state = _VALUES
        self._escaped = False
        self._key = b""
        self._depth = 0
        # Whether the object at depth 2 is one that has the model in it.
        self._held = False
        self._reset()

    def feed(self, piece: bytes) -> bytes:
        """What is to be sent in the place of the next bytes of the answer."""
        made: list[bytes] = []
        at = kept = 0
        end = len(piece)
        while at < end:
            byte = piece[at]
            if self._events and byte in _ENDS_LINE:
                # JSON has no line ends in strings: a document ends with its line.
                if self._state == _CUT:
                    kept = at
                self._reset()
                at += 1
            elif self._escaped:
                self._escaped = False
                at += 1
                kept = at if self._state == _CUT else kept
            elif self._state == _CUT:
                at = kept = self._in_string(piece, at)
            elif self._state == _BEFORE and byte == 0x22 and self._key == _MODEL:
                made += (piece[kept:at], self._name)
                self._state = _CUT
                at += 1
                kept = at
            else:
                at = self._pass(piece, at, byte)
        if not made and not kept:
            return piece
        made.append(piece[kept:])
        return b"".join(made)

    def _reset(self) -> None:
        self._state = _LINE if self._events else _VALUES
        self._escaped = self._held = False
        self._depth = 0
        self._key = b""

    def _pass(self, piece: bytes, at: int, byte: int) -> int:
        """Looks at bytes that stay; where to look further."""
        state = self._state
        if state in (_STRING, _KEY):
            return self._in_string(piece, at)
        if state == _LINE:
            self._key += piece[at : at + 1]
            if not _DATA.startswith(self._key):
                self._state = _SKIP
            elif self._key == _DATA:
                self._state = _VALUES
            return at + 1
        if state == _SKIP:
            return _found(_END, piece, at)
        if state == _COLON and byte == 0x3A:
            self._state = _BEFORE
            return at + 1
        if state in (_COLON, _BEFORE):
            if byte in _BLANK or byte in _ENDS_LINE:
                return at + 1
            if state == _BEFORE and byte == 0x7B and self._depth == 1:
                self._held = self._key in _HOLDERS
            self._state = _VALUES
        at = _found(_OUTSIDE, piece, at)
        if at < len(piece):
            at = self._outside(piece[at], at)
        return at

    def _outside(self, byte: int, at: int) -> int:
        if byte == 0x22:
            # Only here may a key stand that counts.
            looked = self._depth == 1 or (self._depth == 2 and self._held)
            self._state = _KEY if looked else _STRING
            self._key = b""
        elif byte in b"{[":
            self._depth += 1
        elif byte in b"}]":
            self._depth = max(0, self._depth - 1)
            self._held = self._held and self._depth > 1
        elif self._events:
            # The end of a line is the caller's.
            return at
        return at + 1

    def _in_string(self, piece: bytes, at: int) -> int:
        """Goes through a string up to its end, a backslash, or the end of the piece."""
        upto = _found(_IN_STRING, piece, at)
        if self._state == _KEY and len(self._key) <= _KEY_BYTES_MAX:
            self._key += piece[at:upto][: _KEY_BYTES_MAX + 1]
        if upto == len(piece):
            return upto
        byte = piece[upto]
        if byte == 0x22:
            counts = self._state == _KEY and (self._key == _MODEL or self._key in _HOLDERS)
            self._state = _COLON if counts else _VALUES
        elif byte == 0x5C:
            self._escaped = True
            if self._state == _KEY:
                self._state = _STRING
        elif self._events:
            return upto
        return upto + 1


def _found(what: re.Pattern[bytes], piece: bytes, at: int) -> int:
    match = what.search(piece, at)
    return len(piece) if match is None else match.start()
