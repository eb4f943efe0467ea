"""What the annotations of an InferencePool ask of its picker. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from inferway.api.holding import HOLD_TIMEOUT_ANNOTATION as HOLD_TIMEOUT
from inferway.api.holding import hold_seconds
from inferway.scheduling.holding import BYTES_MAX, REQUESTS_MAX, Limits

HOLD_REQUESTS = "inferway.dev/hold-requests"
__all__ = ["HOLD_REQUESTS", "HOLD_TIMEOUT", "hold_limits"]


def hold_limits(annotations: Mapping[str, str]) -> tuple[Limits, list[str]]:
    """How much may wait, and what is wrong with the annotations; without them nothing waits."""
    seconds, complaint = hold_seconds(annotations)
    complaints = [complaint] if complaint else []
    requests = REQUESTS_MAX
    number = annotations.get(HOLD_REQUESTS, "")
    if number:
        if number.isascii() and number.isdigit() and len(number) < 6 and int(number) > 0:
            requests = int(number)
        else:
            complaints.append(f"annotation {HOLD_REQUESTS}: {number!r} is not in 1 to 99999")
    return Limits(seconds, requests, BYTES_MAX), complaints
