"""Objects on the wire and the typed values that rooms reason about.

Knows JSON values and msgspec structs. Does not know any kind. ``decode`` is lenient (unknown fields
are dropped, null means absent) and raises DecodeError; ``encode`` leaves defaults out.
"""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec

Object = dict[str, Any]
"""An object as it is on the wire: a JSON object."""

T = TypeVar("T")

# Words that Kubernetes writes in capitals anywhere but at the beginning of a field name.
_CAPITALS = {
    "api": "API",
    "cidr": "CIDR",
    "cidrs": "CIDRs",
    "id": "ID",
    "ip": "IP",
    "ipc": "IPC",
    "ips": "IPs",
    "pid": "PID",
    "uid": "UID",
    "url": "URL",
}


def camel(name: str) -> str:
    """``pod_ip`` to ``podIP``; a trailing underscore keeps clear of a keyword: ``from_``."""
    first, *rest = name.rstrip("_").split("_")
    return first + "".join(_CAPITALS.get(word, word.capitalize()) for word in rest)


class ApiStruct(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename=camel):
    """A part of an object. Collections are tuples, so that values can be shared."""


class DecodeError(ValueError):
    """An object does not have the shape of its kind. ``path`` is such as ``spec.ports[0].port``."""

    def __init__(self, path: str, message: str) -> None:
        self.path = path
        self.message = message
        super().__init__(f"{path}: {message}" if path else message)


_AT = re.compile(r"^(?P<message>.*?)(?: - at `(?:key in )?\$\.?(?P<path>.*)`)?$", re.DOTALL)


def decode(type_: type[T], raw: Any) -> T:
    """The typed value of a JSON value. Raises DecodeError."""
    try:
        return msgspec.convert(raw, type_)
    except msgspec.ValidationError:
        # Null means absent in Kubernetes; objects with nulls are rare, so only they are copied.
        try:
            return msgspec.convert(without_nulls(raw), type_)
        except msgspec.ValidationError as error:
            raise _decode_error(error) from None


def encode(value: Any) -> Object:
    """The JSON object of a typed value, without fields that have their default."""
    # Through JSON, because to_builtins leaves tuples as they are.
    result: Object = msgspec.json.decode(msgspec.json.encode(value))
    return result


def without_nulls(value: Any) -> Any:
    """A copy without fields that are null. Nulls in lists stay, as their position counts."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value


def _decode_error(error: msgspec.ValidationError) -> DecodeError:
    match = _AT.match(str(error))
    assert match is not None
    return DecodeError(match["path"] or "", match["message"].replace("`", ""))
