"""Kubernetes' protobuf bodies, read as the JSON values that they stand for.

Typed clients of client-go (``kubectl create``, Helm's release storage) write protobuf without a
second try in JSON. Field numbers come from ``_gen/wire.json``; answers are always JSON, which those
clients accept. Zero values that Go would leave out of JSON are left out here too.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from typing import Any

import msgspec

from inferway.base.clock import rfc3339, rfc3339_micro

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\x00"
# Schemas of custom resources nest deepest, and they are not written in protobuf.
DEPTH_MAX = 64
_NANOSECONDS = 1_000_000_000
_SIGN_BIT = 1 << 63


class WireError(ValueError):
    """The bytes are not what they claim to be."""


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    repeated: bool
    kept: bool
    """A zero value is meant: the Go field is a pointer, or its JSON is never left out."""
    shape: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WireTable:
    """Messages by number, and which of them is the body of a kind."""

    kinds: dict[str, str]
    messages: dict[str, dict[int, _Field]]


def load_table() -> WireTable:
    """Reads the generated table; a few milliseconds, so a server does it once."""
    file = resources.files("inferway.local.apiserver.http") / "_gen" / "wire.json"
    raw = msgspec.json.decode(file.read_bytes())
    return WireTable(
        raw["kinds"],
        {
            message: {
                int(number): _Field(entry[0], bool(entry[1]), entry[2], tuple(entry[3:]))
                for number, entry in fields.items()
            }
            for message, fields in raw["messages"].items()
        },
    )


def decode(table: WireTable, body: bytes) -> dict[str, Any]:
    """The object in a body. Raises WireError."""
    if not body.startswith(_MAGIC):
        raise WireError("the body does not begin with the protobuf mark of Kubernetes")
    envelope = dict(_fields(body[len(_MAGIC) :]))
    type_meta = dict(_fields(_bytes(envelope.get(1, b""))))
    api_version, kind = (_text(type_meta.get(number, b"")) for number in (1, 2))
    if envelope.get(3):
        raise WireError("a content encoding is not supported")
    # Options are sent with the group of whatever they are about.
    key = "v1 DeleteOptions" if kind == "DeleteOptions" else f"{api_version} {kind}"
    message = table.kinds.get(key)
    if message is None:
        raise WireError(f"{api_version} {kind} is not known in protobuf; send JSON")
    content = _Reader(table.messages).message(message, _bytes(envelope.get(2, b"")), 0)
    return {"apiVersion": api_version, "kind": kind, **content}


@dataclass(frozen=True, slots=True)
class _Reader:
    messages: dict[str, dict[int, _Field]]

    def message(self, name: str, data: bytes, depth: int) -> dict[str, Any]:
        if depth > DEPTH_MAX:
            raise WireError("messages are nested too deep")
        known = self.messages[name]
        result: dict[str, Any] = {}
        for number, raw in _fields(data):
            field = known.get(number)
            if field is None:
                continue
            if field.shape[0] == "map":
                key, value = self.entry(field.shape[1:], _bytes(raw), depth)
                result.setdefault(field.name, {})[key] = value
                continue
            value = self.value(field.shape, raw, depth)
            if not field.name:
                result |= value
            elif field.repeated:
                result.setdefault(field.name, []).append(value)
            elif value is not None and (field.kept or value not in ("", 0, False, {}, [])):
                result[field.name] = value
        return result

    def entry(self, shape: tuple[str, ...], data: bytes, depth: int) -> tuple[str, Any]:
        pair = dict(_fields(data))
        empty: int | bytes = 0 if shape[0] in ("int", "bool") else b""
        return _text(pair.get(1, b"")), self.value(shape, pair.get(2, empty), depth)

    def value(self, shape: tuple[str, ...], raw: int | bytes, depth: int) -> Any:
        if shape[0] == "message":
            return self.message(shape[1], _bytes(raw), depth + 1)
        if shape[0] == "items":
            items = (value for number, value in _fields(_bytes(raw)) if number == 1)
            return [self.value(shape[1:], item, depth + 1) for item in items]
        return _scalar(shape[0], raw)


def _scalar(shape: str, raw: int | bytes) -> Any:
    if shape == "string":
        return _text(raw)
    if shape in ("int", "bool"):
        if not isinstance(raw, int):
            raise WireError("a number was expected")
        return bool(raw) if shape == "bool" else _signed(raw)
    data = _bytes(raw)
    if shape == "bytes":
        return base64.b64encode(data).decode()
    if shape == "double":
        (number,) = struct.unpack("<d", data)
        return number
    return _special(shape, dict(_fields(data)))


def _special(shape: str, fields: dict[int, int | bytes]) -> Any:
    """Types that have a JSON form of their own."""
    if shape == "quantity":
        return _text(fields.get(1, b"")) or "0"
    if shape == "intorstring":
        if fields.get(1):
            return _text(fields.get(3, b""))
        return _signed(_int(fields.get(2, 0)))
    if shape == "raw":
        try:
            return msgspec.json.decode(_bytes(fields.get(1, b"null")))
        except msgspec.DecodeError as error:
            raise WireError(str(error)) from None
    if shape == "duration":
        return f"{_signed(_int(fields.get(1, 0))) / _NANOSECONDS:g}s"
    if not fields:
        return None
    seconds, nanos = (_signed(_int(fields.get(number, 0))) for number in (1, 2))
    try:
        if shape == "time":
            return rfc3339(seconds)
        return rfc3339_micro(seconds + nanos / _NANOSECONDS)
    except (ValueError, OverflowError, OSError) as error:
        raise WireError(f"a time is out of range: {error}") from None


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and raw value of each field of a message."""
    position, end = 0, len(data)
    while position < end:
        tag, position = _varint(data, position)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, position = _varint(data, position)
            yield number, value
            continue
        if wire == 2:
            length, position = _varint(data, position)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise WireError(f"unknown wire type {wire}")
        if position + length > end:
            raise WireError("the message is cut off")
        yield number, data[position : position + length]
        position += length


def _varint(data: bytes, position: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        if position >= len(data) or shift > 63:
            raise WireError("the message is cut off")
        byte = data[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, position
        shift += 7


def _signed(value: int) -> int:
    value &= 2 * _SIGN_BIT - 1
    return value - 2 * _SIGN_BIT if value & _SIGN_BIT else value


def _int(raw: int | bytes) -> int:
    if isinstance(raw, int):
        return raw
    raise WireError("a number was expected")


def _bytes(raw: int | bytes) -> bytes:
    if isinstance(raw, bytes):
        return raw
    raise WireError("bytes were expected")


def _text(raw: int | bytes) -> str:
    try:
        return _bytes(raw).decode()
    except UnicodeDecodeError as error:
        raise WireError(f"text is not UTF-8: {error}") from None
