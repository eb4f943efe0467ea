"""The functions and methods of expressions, in one table each."""

from __future__ import annotations

import ipaddress
import itertools
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from inferway.api.schema.cel.tree import CelError
from inferway.api.schema.values import matches
from inferway.base.clock import parse_rfc3339
from inferway.base.durations import parse_go

Function = Callable[..., Any]


class Duration(float):
    """Seconds, kept apart from plain numbers."""


def size(value: Any) -> int:
    if not isinstance(value, str | list | dict):
        raise CelError("no such overload")
    return len(value)


def _text(function: Function) -> Function:
    """A method of texts only."""

    def checked(value: Any, *arguments: Any) -> Any:
        if not isinstance(value, str):
            raise CelError("no such overload")
        return function(value, *arguments)

    return checked


def _duration(text: str) -> Duration:
    try:
        return Duration(parse_go(text))
    except ValueError as error:
        raise CelError(str(error)) from None


def _timestamp(text: str) -> float:
    try:
        return parse_rfc3339(text)
    except ValueError as error:
        raise CelError(str(error)) from None


def _int(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError) as error:
        raise CelError(str(error)) from None


def _double(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise CelError(str(error)) from None


def _string(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _type(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    kinds = {int: "int", float: "double", str: "string", list: "list", dict: "map"}
    return kinds.get(type(value), "null_type")


def is_ip(value: Any) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


def is_cidr(value: Any) -> bool:
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        return False
    return "/" in value


def _is_sorted(values: list[Any]) -> bool:
    return all(a <= b for a, b in itertools.pairwise(values))


def _substring(text: str, start: int, end: int | None = None) -> str:
    if not 0 <= start <= len(text) or (end is not None and not start <= end <= len(text)):
        raise CelError("index out of range")
    return text[start:end]


FUNCTIONS: Mapping[str, Function] = MappingProxyType(
    {
        "bool": lambda value: value is True or value == "true",
        "double": _double,
        "duration": _duration,
        "dyn": lambda value: value,
        "int": _int,
        "isCIDR": is_cidr,
        "isIP": is_ip,
        "matches": lambda value, pattern: matches(pattern, value),
        "size": size,
        "string": _string,
        "timestamp": _timestamp,
        "type": _type,
        "uint": _int,
    }
)
METHODS: Mapping[str, Function] = MappingProxyType(
    {
        "contains": _text(lambda text, part: part in text),
        "endsWith": _text(str.endswith),
        "find": _text(
            lambda text, pattern: ((found := re.search(pattern, text)) and found[0]) or ""
        ),
        "indexOf": lambda value, item: (
            value.find(item)
            if isinstance(value, str)
            else (value.index(item) if item in value else -1)
        ),
        "isSorted": _is_sorted,
        "join": lambda values, separator="": separator.join(values),
        "lowerAscii": _text(str.lower),
        "matches": _text(lambda text, pattern: matches(pattern, text)),
        "max": max,
        "min": min,
        "replace": _text(str.replace),
        "size": size,
        "split": _text(lambda text, separator, *limit: text.split(separator, *limit)),
        "startsWith": _text(str.startswith),
        "substring": _text(_substring),
        "sum": sum,
        "trim": _text(str.strip),
        "upperAscii": _text(str.upper),
    }
)
