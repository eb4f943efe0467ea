"""The last explained decisions, for people who ask why. Holds no prompt text."""

from __future__ import annotations

from collections import deque
from typing import Any

import msgspec

from inferway.base.clock import Clock, rfc3339_micro
from inferway.scheduling.decision import Explanation

# A few screens of reading; each entry has one row per candidate.
DECISIONS_KEPT_MAX = 256
# Rows kept of one decision: the rest of a big pool says nothing more.
CANDIDATES_KEPT_MAX = 64


class DecisionRing:
    """Newest last."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ring: deque[dict[str, Any]] = deque(maxlen=DECISIONS_KEPT_MAX)

    def add(self, pick: str, request_id: bytes, explanation: Explanation) -> None:
        """Keeps a decision, and lets the oldest one go."""
        seen: dict[str, Any] = msgspec.to_builtins(explanation)
        del seen["at"]
        seen["candidates"] = seen["candidates"][:CANDIDATES_KEPT_MAX]
        names = {
            "time": rfc3339_micro(self._clock.wall()),
            "pick": pick,
            "request_id": request_id.decode(errors="replace"),
        }
        self._ring.append(names | seen)

    def as_json(self) -> bytes:
        """All of them."""
        return msgspec.json.format(msgspec.json.encode({"decisions": list(self._ring)}))
