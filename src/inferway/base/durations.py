"""Durations as Kubernetes writes them: Go's ``1h2m3.5s`` and Gateway API's subset of it."""

from __future__ import annotations

import re

_SECONDS_PER_UNIT = {
    "h": 3600.0,
    "m": 60.0,
    "s": 1.0,
    "ms": 1e-3,
    "us": 1e-6,
    "µs": 1e-6,
    "ns": 1e-9,
}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(h|ms|m|s|us|µs|ns)")
_GATEWAY = re.compile(r"^([0-9]{1,5}(h|m|s|ms)){1,4}$")


def parse_go(text: str) -> float:
    """Seconds of a Go duration such as ``300s``, ``1h30m`` or ``0``. Raises ValueError."""
    rest = text[1:] if text[:1] in "+-" else text
    sign = -1.0 if text.startswith("-") else 1.0
    if rest == "0":
        return 0.0
    position = 0
    total = 0.0
    for match in _PART.finditer(rest):
        if match.start() != position:
            break
        total += float(match[1]) * _SECONDS_PER_UNIT[match[2]]
        position = match.end()
    if not rest or position != len(rest):
        raise ValueError(f"invalid duration {text!r}: write for example 300s or 1h30m")
    return sign * total


def parse_gateway(text: str) -> float:
    """Seconds of a Gateway API duration (GEP-2257). Raises ValueError."""
    if not _GATEWAY.match(text):
        raise ValueError(f"invalid duration {text!r}: write for example 300s or 1h30m")
    return parse_go(text)
