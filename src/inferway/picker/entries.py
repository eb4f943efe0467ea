"""Envoy's access-log entries as events of scheduling. Pure."""

from __future__ import annotations

from typing import Any

from inferway.scheduling.events import Finished

PICK_HEADER = "x-inferway-pick"
USAGE_NAMESPACE = "inferway.usage"
# A usage beyond this is not one.
TOKENS_MAX = 1 << 31


def finished(entry: Any, *, timed: bool = True) -> Finished | None:
    """The event of one HTTPAccessLogEntry; None if it carries no pick id.

    Times are left out unless ``timed``, because reading them is a third of the work.
    """
    pick = entry.request.request_headers.get(PICK_HEADER, "")
    if not pick:
        return None
    common = entry.common_properties
    usage = common.metadata.filter_metadata
    prompt = completion = 0
    cached: int | None = None
    if USAGE_NAMESPACE in usage:
        fields = usage[USAGE_NAMESPACE].fields
        prompt = _tokens(fields, "prompt_tokens") or 0
        completion = _tokens(fields, "completion_tokens") or 0
        cached = _tokens(fields, "cached_tokens")
    return Finished(
        pick=pick,
        code=entry.response.response_code.value,
        served=_address(common.upstream_remote_address),
        attempts=max(1, common.upstream_request_attempt_count),
        failed=common.HasField("response_flags") and _failed(common.response_flags),
        first_byte_seconds=_seconds(common, "time_to_first_upstream_rx_byte") if timed else None,
        last_byte_seconds=_seconds(common, "time_to_last_upstream_rx_byte") if timed else None,
        duration_seconds=_seconds(common, "time_to_last_downstream_tx_byte") if timed else None,
        prompt_tokens=prompt,
        completion_tokens=completion,
        cached_tokens=cached,
    )


def _failed(flags: Any) -> bool:
    return bool(
        flags.upstream_connection_failure
        or flags.upstream_connection_termination
        or flags.upstream_remote_reset
    )


def _seconds(common: Any, name: str) -> float | None:
    if not common.HasField(name):
        return None
    value = getattr(common, name)
    return float(value.seconds) + float(value.nanos) * 1e-9


def _tokens(fields: Any, name: str) -> int | None:
    """A number, or a number as text, as the metadata filters write either; else None."""
    if name not in fields:
        return None
    value = fields[name]
    kind = value.WhichOneof("kind")
    if kind == "number_value" and 0 <= value.number_value < TOKENS_MAX:
        return int(value.number_value)
    if kind == "string_value" and value.string_value.isdigit() and len(value.string_value) < 10:
        return int(value.string_value)
    return None


def _address(address: Any) -> str:
    if address.WhichOneof("address") != "socket_address":
        return ""
    host = address.socket_address.address
    port = address.socket_address.port_value
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
