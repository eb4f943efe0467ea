"""How long requests of a pool may wait in its picker, as its annotation says.

The picker keeps the requests, and the gateway must wait for the picker that long: both read it
here.
"""

from __future__ import annotations

from collections.abc import Mapping

from inferway.base import durations

HOLD_TIMEOUT_ANNOTATION = "inferway.dev/hold-timeout"
# While its servers are full a request waits so long at most, as in the published pickers.
QUEUE_SECONDS = 60.0
# Loading a large model takes minutes; clients and proxies between give up sooner or later.
HOLD_SECONDS_MAX = 590.0


def hold_seconds(annotations: Mapping[str, str]) -> tuple[float, str]:
    """Seconds, and what is wrong with the annotation; 0 without it, and if it is wrong."""
    text = annotations.get(HOLD_TIMEOUT_ANNOTATION, "")
    if not text:
        return 0.0, ""
    try:
        seconds = durations.parse_go(text)
    except ValueError as error:
        return 0.0, f"annotation {HOLD_TIMEOUT_ANNOTATION}: {error}"
    if not 0 <= seconds <= HOLD_SECONDS_MAX:
        limit = f"{text} is not in 0 to {HOLD_SECONDS_MAX:g}s"
        return 0.0, f"annotation {HOLD_TIMEOUT_ANNOTATION}: {limit}"
    return seconds, ""


def wait_seconds(annotations: Mapping[str, str]) -> float:
    """The longest time that any request of the pool may wait in its picker."""
    return max(QUEUE_SECONDS, hold_seconds(annotations)[0])
