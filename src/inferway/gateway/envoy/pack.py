"""Packs messages so that equal input gives equal bytes.

``typed_struct`` carries messages whose types the installed descriptors lack; Envoy converts it.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import any_pb2, duration_pb2, struct_pb2, wrappers_pb2
from xds.type.v3 import typed_struct_pb2

_PREFIX = "type.googleapis.com/"
_NANOS = 1_000_000_000


def pack(message: Any) -> any_pb2.Any:
    """The message as Any, with map entries in order."""
    return any_pb2.Any(
        type_url=_PREFIX + message.DESCRIPTOR.full_name,
        value=message.SerializeToString(deterministic=True),
    )


def typed_struct(type_name: str, value: dict[str, Any]) -> any_pb2.Any:
    """An Any that names ``type_name`` and carries its fields as JSON would."""
    struct = struct_pb2.Struct()
    struct.update(value)
    return pack(typed_struct_pb2.TypedStruct(type_url=_PREFIX + type_name, value=struct))


def seconds(value: float) -> duration_pb2.Duration:
    """A duration to the nanosecond."""
    nanos = round(value * _NANOS)
    return duration_pb2.Duration(seconds=nanos // _NANOS, nanos=nanos % _NANOS)


def flag(value: bool) -> wrappers_pb2.BoolValue:
    """A boolean that differs from an absent one."""
    return wrappers_pb2.BoolValue(value=value)


def number(value: int) -> wrappers_pb2.UInt32Value:
    """A number that differs from an absent one."""
    return wrappers_pb2.UInt32Value(value=value)
