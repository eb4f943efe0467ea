"""Request bodies, bounded."""

from __future__ import annotations

from aiohttp.web_request import BaseRequest

from inferway.local.apiserver.registry import errors

# Kubernetes' own limit for a request: twice etcd's, because JSON is larger than protobuf.
REQUEST_BYTES_MAX = 3 * 1024 * 1024


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
