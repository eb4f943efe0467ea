"""Envoy's access-log entries as events of scheduling. Pure."""

from __future__ import annotations

from typing import Any

from inferway.scheduling.events import Finished

PICK_HEADER = "x-inferway-pick"
USAGE_NAMESPACE = "inferway.usage"
# A usage beyond this is not one.
TOKENS_MAX = 1 << 31
# Nor is such a time one of a request.
SECONDS_MAX = 7 * 24 * 3600.0


def finished(entry: Any, *, timed: bool = True) -> Finished | None:
    """The event of one HTTPAccessLogEntry; None if it carries no pick id.

    Times and sizes are left out unless ``timed``: reading them is a third of the work.
    """
    # Each attribute of a message is a call of a microsecond's size: none is read twice.
    pick = entry.request.request_headers.get(PICK_HEADER, "")
    if not pick:
        return None
    common = entry.common_properties
    prompt = completion = 0
    cached: int | None = None
    usage = common.metadata.filter_metadata.get(USAGE_NAMESPACE)
    if usage is not None:
        get = usage.fields.get
        prompt = _tokens(get("prompt_tokens")) or 0
        completion = _tokens(get("completion_tokens")) or 0
        cached = _tokens(get("cached_tokens"))
    first = last = duration = None
    if timed:
        first = _seconds(common, "time_to_first_upstream_rx_byte")
        last = _seconds(common, "time_to_last_upstream_rx_byte")
        duration = _seconds(common, "time_to_last_downstream_tx_byte")
    return Finished(
        pick,
        entry.response.response_code.value,
        _address(common.upstream_remote_address.socket_address),
        common.upstream_request_attempt_count or 1,
        common.HasField("response_flags") and _failed(common.response_flags),
        first,
        last,
        duration,
        prompt,
        completion,
        cached,
        (entry.response.response_body_bytes or None) if timed else None,
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
    seconds = float(value.seconds) + float(value.nanos) * 1e-9
    return seconds if 0.0 <= seconds < SECONDS_MAX else None


def _tokens(value: Any) -> int | None:
    """A number, or a number as text, as the metadata filters write either; else None."""
    if value is None:
        return None
    number = value.number_value
    if 0 < number < TOKENS_MAX:
        return int(number)
    kind = value.WhichOneof("kind")
    if kind == "number_value" and number == 0:
        return 0
    text = value.string_value
    if kind == "string_value" and len(text) < 10 and text.isascii() and text.isdigit():
        return int(text)
    return None


def _address(address: Any) -> str:
    """Of a socket's address; a message without one has empty fields."""
    host = address.address
    if not host:
        return ""
    port = address.port_value
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
