"""Where a body names its model, and what is to stand there: byte offsets for the proxy.

Knows JSON's tokens and the form of the splice header; decodes no values and re-encodes no body.
"""

from __future__ import annotations

import json
import re

import msgspec

from inferway.picker.body import UNREADABLE, form_model

# A value in the header is JSON text in ASCII; names of models are far shorter.
VALUE_BYTES_MAX = 1024

_KEY = b'"model"'
_AFTER_KEY = re.compile(rb"[ \t\r\n]*:[ \t\r\n]*")
_BLANK = re.compile(rb"[ \t\r\n]*")
# A whole string, or a bracket. What lies between is numbers, words, commas and colons.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\]]', re.DOTALL)
# An ASCII letter as an escape, with which a key can be written in another way.
_LETTER_ESCAPE = b"\\u006"
# A value: a string, or a number or word up to what ends it.
_VALUE = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[^,}\]\s]+', re.DOTALL)


def splice(body: bytes, model: str, *, named: bool = False) -> bytes | None:
    """``begin,end,value`` that makes a valid JSON object name this model; None if that can't be.

    Bytes from begin up to end are to be replaced. A body without a model gets one. ``named`` says
    that the object has a model that is not empty, which makes it quick to find.
    """
    value = json.dumps(model).encode()
    if len(value) > VALUE_BYTES_MAX:
        return None
    place = locate(body, named=named)
    if place is None:
        begin = end = body.index(b"{") + 1
        comma = b"" if body[_end_of_blank(body, begin) :][:1] == b"}" else b","
        value = _KEY + b":" + value + comma
    else:
        begin, end = place
    return b"%d,%d,%b" % (begin, end, value)


def splice_form(body: bytes, model: str) -> bytes | None:
    """The same for a multipart form that has a field ``model``; None if that can't be."""
    place = form_model(body)
    if place is None or not model.isascii() or not model.isprintable():
        return None
    return b"%d,%d,%b" % (*place, model.encode()) if len(model) <= VALUE_BYTES_MAX else None


def locate(body: bytes, *, named: bool = False) -> tuple[int, int] | None:
    """Begin and end of the value of the last top-level ``model`` in a valid JSON object.

    The last one is what JSON readers take. None: there is none.
    """
    if _LETTER_ESCAPE not in body:
        at = body.find(_KEY)
        if at < 0:
            return None
        if named and body.find(_KEY, at + 1) < 0:
            # Inside of a string a quote has a backslash before it, so the only place with these
            # bytes is the key that the object is known to have.
            return _value(body, at + len(_KEY))
    return _scan(body)


def _scan(body: bytes) -> tuple[int, int] | None:
    depth = 0
    found = None
    for token in _TOKEN.finditer(body):
        first = body[token.start()]
        if first == 0x22:
            if depth == 1 and _names_model(token[0]):
                found = _value(body, token.end()) or found
        elif first in b"{[":
            depth += 1
        else:
            depth -= 1
    return found


def _names_model(token: bytes) -> bool:
    if token == _KEY:
        return True
    # Longest way to write it: each of the five letters as an escape of six.
    if b"\\" not in token or len(token) > 32:
        return False
    try:
        return bool(msgspec.json.decode(token) == "model")
    except UNREADABLE:
        # Servers do not take it for the key either.
        return False


def _value(body: bytes, after_key: int) -> tuple[int, int] | None:
    """The value's place if a colon follows, which tells a key from a string."""
    colon = _AFTER_KEY.match(body, after_key)
    if colon is None:
        return None
    match = _VALUE.match(body, colon.end())
    return (match.start(), match.end()) if match is not None else None


def _end_of_blank(body: bytes, at: int) -> int:
    match = _BLANK.match(body, at)
    assert match is not None
    return match.end()
