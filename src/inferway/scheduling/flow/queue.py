"""One waiting request, and an order of them from which any may go at any time."""

from __future__ import annotations

from heapq import heapify, heappop, heappush

# Entries of requests that are gone stay until half of an order is of them; short ones may.
DEAD_KEPT_MAX = 16


class Item:
    """One request that waits; ``gone`` once it does no more."""

    __slots__ = (
        "flow",
        "gone",
        "key",
        "number",
        "priority",
        "since",
        "size",
        "slo_seconds",
        "tokens",
        "ttl_seconds",
    )

    def __init__(
        self,
        key: int,
        number: int,
        *,
        priority: int,
        flow: str,
        size: int,
        tokens: float,
        since: float,
        ttl_seconds: float,
        slo_seconds: float,
    ) -> None:
        self.key = key
        self.number = number
        self.priority = priority
        self.flow = flow
        self.size = size
        self.tokens = tokens
        self.since = since
        # The client's own; 0: none.
        self.ttl_seconds = ttl_seconds
        self.slo_seconds = slo_seconds
        self.gone = False


class Ordered:
    """Items by a number, equals by arrival."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Item]] = []
        self._dead = 0

    def __len__(self) -> int:
        return len(self._heap) - self._dead

    def push(self, rank: float, item: Item) -> None:
        """Adds an item."""
        heappush(self._heap, (rank, item.number, item))

    def first(self) -> tuple[float, Item] | None:
        """The least rank and its item, which stays."""
        heap = self._heap
        while heap:
            rank, _, item = heap[0]
            if not item.gone:
                return rank, item
            heappop(heap)
            self._dead -= 1
        return None

    def pop(self) -> None:
        """Takes out what ``first`` named, which is not gone."""
        heappop(self._heap)

    def went(self) -> None:
        """One of the items is gone."""
        self._dead += 1
        if self._dead > DEAD_KEPT_MAX and 2 * self._dead > len(self._heap):
            self._heap = [entry for entry in self._heap if not entry[2].gone]
            heapify(self._heap)
            self._dead = 0
