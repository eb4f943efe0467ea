"""Watch streams: bytes in, events out.

Knows the framing (one JSON object a line) and Status objects in the stream. Opens no connection.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from inferway.cluster.errors import BadAnswerError, from_status

EventType = Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]

# A server sends a bookmark about every minute; two and a half missed ones mean a dead connection.
INACTIVITY_SECONDS = 150.0
# Above the largest object that etcd takes (1.5 MB), with room for managed fields and escapes.
EVENT_BYTES_MAX = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """A change of one object, or a bookmark that only carries a resourceVersion."""

    type: EventType
    object: dict[str, Any]

    @property
    def resource_version(self) -> str:
        return str((self.object.get("metadata") or {}).get("resourceVersion") or "")


async def lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The lines of a stream that is cut anywhere. Raises BadAnswerError for an endless line."""
    rest: list[bytes] = []
    rest_bytes = 0
    async for chunk in chunks:
        *complete, tail = chunk.split(b"\n")
        for part in complete:
            line = b"".join([*rest, part])
            rest, rest_bytes = [], 0
            if line.strip():
                yield line
        if tail:
            rest.append(tail)
            rest_bytes += len(tail)
        if rest_bytes > EVENT_BYTES_MAX:
            raise BadAnswerError(200, "", "an event of a watch is too large")
    # An unfinished line is half of an event: the next watch brings the whole of it.


async def read_events(chunks: AsyncIterator[bytes]) -> AsyncIterator[WatchEvent]:
    """The events of a watch; a Status in it is raised (410 as GoneError)."""
    async for line in lines(chunks):
        yield parse_event(line)


def parse_event(line: bytes) -> WatchEvent:
    """One event. Raises ApiError for ERROR events and BadAnswerError for anything else."""
    try:
        raw = msgspec.json.decode(line)
    except msgspec.DecodeError as error:
        raise BadAnswerError(200, "", f"an event of a watch is not JSON: {error}") from None
    kind = raw.get("type") if isinstance(raw, dict) else None
    obj = raw.get("object") if isinstance(raw, dict) else None
    if not isinstance(obj, dict):
        raise BadAnswerError(200, "", "an event of a watch has no object")
    if kind == "ERROR":
        raise from_status(int(obj.get("code") or 500), obj)
    if kind not in ("ADDED", "MODIFIED", "DELETED", "BOOKMARK"):
        raise BadAnswerError(200, "", f"unknown type of a watch event: {kind!r}")
    return WatchEvent(kind, obj)
