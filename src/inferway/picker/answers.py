"""Answers of the pick callout as bytes: a choice, or a final answer in OpenAI's shape."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from inferway.picker.apis import Style

# A decided 503 on its way to the proxy, which says 503 to the client. Envoy takes every 5xx of a
# callout for a broken picker: where failure opens the request would pass although the picker
# refused it, and where it closes the client would not learn why.
DECIDED_UNAVAILABLE_STATUS = 463
# An answer with 200 that the picker gives itself: 200 of a callout would send the request on.
DECIDED_OK_STATUS = 464

# The word that clients of OpenAI's API see as ``error.type``, by status.
_TYPES = {
    400: "invalid_request_error",
    404: "invalid_request_error",
    408: "invalid_request_error",
    412: "invalid_request_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
    431: "invalid_request_error",
    DECIDED_UNAVAILABLE_STATUS: "server_error",
    503: "server_error",
}
# The same for clients of Anthropic's API.
_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    404: "not_found_error",
    412: "invalid_request_error",
    413: "request_too_large",
    429: "rate_limit_error",
    DECIDED_UNAVAILABLE_STATUS: "overloaded_error",
    503: "overloaded_error",
}
_REASONS = {
    200: b"OK",
    400: b"Bad Request",
    404: b"Not Found",
    408: b"Request Timeout",
    412: b"Precondition Failed",
    413: b"Content Too Large",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    DECIDED_UNAVAILABLE_STATUS: b"Decided Service Unavailable",
    503: b"Service Unavailable",
}


class FinalAnswer(msgspec.Struct, frozen=True):
    """What the client is told instead of a model's answer.

    ``dropped`` says why a good request is not served, in llm-d's words.
    """

    status: int
    message: str
    param: str | None = None
    code: str | None = None
    retry_after_seconds: float = 0.0
    dropped: str = ""
    style: Style = Style.OPENAI


def chosen(
    addresses: str,
    pick: str,
    request_id: bytes,
    splice: bytes = b"",
    more: Sequence[tuple[str, str]] = (),
    restore: str = "",
) -> bytes:
    """The best endpoints in order, comma separated, and how to cut the body if so.

    ``more`` are headers for the server and for the client; the proxy knows by their names for whom.
    ``restore`` is what the server's answer is to name as its model, as JSON text, or empty.
    """
    cut = b"x-inferway-splice: %b\r\n" % splice if splice else b""
    if restore:
        cut += b"x-inferway-restore: %b\r\n" % restore.encode()
    if more:
        cut += "".join([f"{name}: {value}\r\n" for name, value in more]).encode()
    return (
        b"HTTP/1.1 200 OK\r\nx-gateway-destination-endpoint: %b\r\nx-inferway-pick: %b\r\n"
        b"x-request-id: %b\r\n%bcontent-length: 0\r\n\r\n"
        % (addresses.encode(), pick.encode(), request_id, cut)
    )


def words(answer: FinalAnswer, request_id: bytes) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Status, headers and body. A client is asked to come back where that can help."""
    retry = answer.retry_after_seconds
    headers = [
        (b"content-type", b"application/json"),
        (b"x-request-id", request_id),
        (b"x-should-retry", b"true" if retry > 0 else b"false"),
    ]
    if answer.dropped:
        headers.append((b"x-llm-d-request-dropped-reason", answer.dropped.encode()))
    if retry > 0:
        headers.append((b"retry-after", b"%d" % max(1, math.ceil(retry))))
        headers.append((b"retry-after-ms", b"%d" % max(1, round(retry * 1000))))
    return answer.status, headers, _body(answer, request_id)


def _body(answer: FinalAnswer, request_id: bytes) -> bytes:
    if answer.style is Style.ANTHROPIC:
        kind = _ANTHROPIC_TYPES.get(answer.status, "api_error")
        told = {"type": kind, "message": answer.message}
        name = request_id.decode(errors="replace")
        return msgspec.json.encode({"type": "error", "error": told, "request_id": name})
    error = {
        "message": answer.message,
        "type": _TYPES[answer.status],
        "param": answer.param,
        "code": answer.code,
    }
    return msgspec.json.encode({"error": error})


def told(body: bytes, request_id: bytes) -> bytes:
    """A whole HTTP answer with what the client asked for."""
    return (
        b"HTTP/1.1 %d Decided OK\r\ncontent-type: application/json\r\nx-request-id: %b\r\n"
        b"content-length: %d\r\n\r\n%b" % (DECIDED_OK_STATUS, request_id, len(body), body)
    )


def final(answer: FinalAnswer, request_id: bytes, *, close: bool = False) -> bytes:
    """The whole HTTP answer."""
    status, headers, body = words(answer, request_id)
    lines = [b"HTTP/1.1 %d %b" % (status, _REASONS[status])]
    lines += [b"%b: %b" % header for header in headers]
    lines.append(b"content-length: %d" % len(body))
    if close:
        lines.append(b"connection: close")
    return b"\r\n".join([*lines, b"", body])
