"""What well-known rules would have chosen of the same candidates. For explanations only.

Each rule sees the same snapshot and the same prefix index, so that only the rule differs. Ties go
to the first candidate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from inferway.scheduling.request import Request
from inferway.scheduling.snapshot import Snapshot, backlog_tokens, foreign_requests

LEAST_REQUESTS = "least-requests"
# The published default: queue, KV cache and prefix scorers, of equal weight.
PUBLISHED = "queue+kv-cache+prefix"
# arXiv 2603.15202: uncached tokens, those that wait included, times what runs and this one.
LMETRIC = "lmetric"


def others(
    request: Request,
    snapshot: Snapshot,
    slots: Sequence[int],
    matched: Mapping[int, int],
    now: float,
) -> dict[str, str]:
    """Rule -> address; nothing without candidates. ``matched`` are bytes in cache by slot."""
    if not slots:
        return {}
    c = snapshot.columns
    batch = {slot: c.in_flight[slot] + foreign_requests(c, slot, now) for slot in slots}
    size = len(request.prompt)
    per_token = snapshot.ratios.per_token(request)
    least = min(c.waiting[slot] for slot in slots)
    spread = max(c.waiting[slot] for slot in slots) - least

    def published(slot: int) -> float:
        queue = 1.0 - (c.waiting[slot] - least) / spread if spread > 0 else 1.0
        prefix = matched.get(slot, 0) / size if size else 0.0
        return -(queue + (1.0 - c.kv_use[slot]) + prefix)

    def lmetric(slot: int) -> float:
        uncached = (size - matched.get(slot, 0)) / per_token + backlog_tokens(c, slot, now)
        return (uncached + 1.0) * (batch[slot] + 1.0)

    return {
        LEAST_REQUESTS: c.address[min(slots, key=batch.__getitem__)],
        PUBLISHED: c.address[min(slots, key=published)],
        LMETRIC: c.address[min(slots, key=lmetric)],
    }
