"""Request bodies, bounded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aiohttp.web_request import BaseRequest

from inferway.local.apiserver.http.negotiate import decode_body
from inferway.local.apiserver.http.protobuf import WireTable
from inferway.local.apiserver.registry import errors

# Kubernetes' own limit for a request: twice etcd's, because JSON is larger than protobuf.
REQUEST_BYTES_MAX = 3 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Bodies:
    """Reads bodies as JSON values, whatever form they come in."""

    wire: WireTable

    async def value(self, request: BaseRequest) -> Any:
        """Raises StatusError if there is none."""
        body = await read_body(request)
        if not body:
            raise errors.bad_request("the request has no body")
        return decode_body(request.headers.get("Content-Type", ""), body, self.wire)

    async def optional(self, request: BaseRequest) -> Any:
        """None if the request has no body."""
        body = await read_body(request)
        if not body.strip():
            return None
        return decode_body(request.headers.get("Content-Type", ""), body, self.wire)


async def read_body(request: BaseRequest) -> bytes:
    """The whole body. Raises StatusError 413."""
    length = request.content_length
    if length is not None and length > REQUEST_BYTES_MAX:
        raise _too_large()
    parts: list[bytes] = []
    size = 0
    async for part in request.content.iter_any():
        size += len(part)
        if size > REQUEST_BYTES_MAX:
            raise _too_large()
        parts.append(part)
    return b"".join(parts)


def _too_large() -> errors.StatusError:
    return errors.request_too_large(f"Request entity too large: limit is {REQUEST_BYTES_MAX}")
