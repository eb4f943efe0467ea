"""What the annotations of an InferencePool ask of its picker. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from inferway.api.holding import HOLD_TIMEOUT_ANNOTATION as HOLD_TIMEOUT
from inferway.api.holding import hold_seconds, wait_seconds
from inferway.scheduling.flow.options import FlowOptions

HOLD_REQUESTS = "inferway.dev/hold-requests"
__all__ = ["HOLD_REQUESTS", "HOLD_TIMEOUT", "flow_options"]


def flow_options(
    base: FlowOptions, annotations: Mapping[str, str]
) -> tuple[FlowOptions, list[str]]:
    """The options of a pool's queue, and what is wrong with the annotations."""
    seconds, complaint = hold_seconds(annotations)
    complaints = [complaint] if complaint else []
    requests = base.empty_max_requests
    number = annotations.get(HOLD_REQUESTS, "")
    if number:
        if number.isascii() and number.isdigit() and len(number) < 6 and int(number) > 0:
            requests = int(number)
        else:
            complaints.append(f"annotation {HOLD_REQUESTS}: {number!r} is not in 1 to 99999")
    options = msgspec.structs.replace(
        base,
        patience_seconds=wait_seconds(annotations),
        empty_ttl_seconds=seconds if HOLD_TIMEOUT in annotations else base.empty_ttl_seconds,
        empty_max_requests=requests,
    )
    return options, complaints
