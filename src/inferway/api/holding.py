"""How long requests of a pool may wait in its picker, as annotations of the pool say.

The picker keeps the requests, and the gateway must wait for the picker a little longer: both read
it here.
"""

from __future__ import annotations

from collections.abc import Mapping

from inferway.base import durations

HOLD_TIMEOUT_ANNOTATION = "inferway.dev/hold-timeout"
PICK_TIMEOUT_ANNOTATION = "inferway.dev/pick-timeout"
# While its servers are full a request waits so long at most, as in the published pickers.
QUEUE_SECONDS = 60.0
# Loading a large model takes minutes; clients and proxies between give up sooner or later.
HOLD_SECONDS_MAX = 590.0
PICK_SECONDS_MAX = 600.0
# The picker answers itself in the end; this much later it is taken for hung.
MARGIN_SECONDS = 5.0
# Of a time that somebody has set for all of it the picker uses this share, for the same reason.
QUEUE_SHARE = 0.9


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


def pick_seconds(annotations: Mapping[str, str]) -> tuple[float, str]:
    """Seconds that a pick may take in all; 0 where the annotation is missing or wrong."""
    text = annotations.get(PICK_TIMEOUT_ANNOTATION, "")
    if not text:
        return 0.0, ""
    try:
        seconds = durations.parse_go(text)
    except ValueError as error:
        return 0.0, f"annotation {PICK_TIMEOUT_ANNOTATION}: {error}"
    if not 0 < seconds <= PICK_SECONDS_MAX:
        limit = f"{text} is not in 0 to {PICK_SECONDS_MAX:g}s"
        return 0.0, f"annotation {PICK_TIMEOUT_ANNOTATION}: {limit}"
    return seconds, ""


def wait_seconds(annotations: Mapping[str, str]) -> float:
    """The longest time that any request of the pool may wait in its picker."""
    picked = pick_seconds(annotations)[0]
    queued = picked * QUEUE_SHARE if picked else QUEUE_SECONDS
    return max(queued, hold_seconds(annotations)[0])


def deadline_seconds(annotations: Mapping[str, str]) -> float:
    """How long a proxy waits for the picker's answer."""
    picked, held = pick_seconds(annotations)[0], hold_seconds(annotations)[0]
    queued = picked or QUEUE_SECONDS + MARGIN_SECONDS
    return max(queued, held + MARGIN_SECONDS if held else 0.0)
