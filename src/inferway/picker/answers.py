"""Answers of the pick callout as bytes: a choice, or a final answer in OpenAI's shape."""

from __future__ import annotations

import math

import msgspec

# A decided 503 on its way to the proxy, which says 503 to the client. Envoy takes every 5xx of a
# callout for a broken picker: where failure opens the request would pass although the picker
# refused it, and where it closes the client would not learn why.
DECIDED_UNAVAILABLE_STATUS = 463

# The word that clients of OpenAI's API see as ``error.type``, by status.
_TYPES = {
    400: "invalid_request_error",
    404: "invalid_request_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
    431: "invalid_request_error",
    DECIDED_UNAVAILABLE_STATUS: "server_error",
    503: "server_error",
}
_REASONS = {
    200: b"OK",
    400: b"Bad Request",
    404: b"Not Found",
    413: b"Content Too Large",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    DECIDED_UNAVAILABLE_STATUS: b"Decided Service Unavailable",
    503: b"Service Unavailable",
}


class FinalAnswer(msgspec.Struct, frozen=True):
    """What the client is told instead of a model's answer."""

    status: int
    message: str
    param: str | None = None
    code: str | None = None
    retry_after_seconds: float = 0.0


def chosen(addresses: str, pick: str, request_id: bytes) -> bytes:
    """The best endpoints in order, comma separated."""
    return (
        b"HTTP/1.1 200 OK\r\nx-gateway-destination-endpoint: %b\r\nx-inferway-pick: %b\r\n"
        b"x-request-id: %b\r\ncontent-length: 0\r\n\r\n"
        % (addresses.encode(), pick.encode(), request_id)
    )


def final(answer: FinalAnswer, request_id: bytes, *, close: bool = False) -> bytes:
    """The whole HTTP answer. A client is asked to come back where that can help."""
    error = {
        "message": answer.message,
        "type": _TYPES[answer.status],
        "param": answer.param,
        "code": answer.code,
    }
    body = msgspec.json.encode({"error": error})
    lines = [
        b"HTTP/1.1 %d %b" % (answer.status, _REASONS[answer.status]),
        b"content-type: application/json",
        b"content-length: %d" % len(body),
        b"x-request-id: " + request_id,
        b"x-should-retry: " + (b"true" if answer.retry_after_seconds > 0 else b"false"),
    ]
    if answer.retry_after_seconds > 0:
        lines.append(b"retry-after: %d" % max(1, math.ceil(answer.retry_after_seconds)))
        lines.append(b"retry-after-ms: %d" % max(1, round(answer.retry_after_seconds * 1000)))
    if close:
        lines.append(b"connection: close")
    return b"\r\n".join([*lines, b"", body])
