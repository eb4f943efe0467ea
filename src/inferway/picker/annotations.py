"""What the annotations of an InferencePool ask of its picker. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from inferway.base import durations
from inferway.scheduling.holding import BYTES_MAX, REQUESTS_MAX, Limits

HOLD_TIMEOUT = "inferway.dev/hold-timeout"
HOLD_REQUESTS = "inferway.dev/hold-requests"
# The longest wait of a callout that the gateway allows, less what it adds to this one.
HOLD_SECONDS_MAX = 590.0


def hold_limits(annotations: Mapping[str, str]) -> tuple[Limits, list[str]]:
    """How much may wait, and what is wrong with the annotations; without them nothing waits."""
    complaints: list[str] = []
    seconds = 0.0
    text = annotations.get(HOLD_TIMEOUT, "")
    if text:
        try:
            seconds = durations.parse_go(text)
        except ValueError as error:
            complaints.append(f"{HOLD_TIMEOUT}: {error}")
        if not 0 <= seconds <= HOLD_SECONDS_MAX:
            complaints.append(f"{HOLD_TIMEOUT}: {text} is not in 0 to {HOLD_SECONDS_MAX:g}s")
            seconds = 0.0
    requests = REQUESTS_MAX
    number = annotations.get(HOLD_REQUESTS, "")
    if number:
        if number.isascii() and number.isdigit() and len(number) < 6 and int(number) > 0:
            requests = int(number)
        else:
            complaints.append(f"{HOLD_REQUESTS}: {number!r} is not a number from 1 to 99999")
    return Limits(seconds, requests, BYTES_MAX), complaints
