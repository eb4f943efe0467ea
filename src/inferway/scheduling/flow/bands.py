"""One priority band: the requests of its flows, and who of them is next."""

from __future__ import annotations

import math

from inferway.scheduling.flow.options import BandOptions, FlowOptions
from inferway.scheduling.flow.queue import Item, Ordered


class Band:
    """Requests of one priority that wait."""

    def __init__(self, priority: int, options: BandOptions) -> None:
        self.priority = priority
        self.options = options
        self.bytes = 0
        # What higher bands owe it for having gone first, in requests.
        self.owed = 0.0
        # By arrival.
        self.items: dict[int, Item] = {}
        self._lanes: dict[str, Ordered] = {}
        self._fairness = options.fairness()

    def add(self, item: Item, ttl_seconds: float) -> None:
        """One more, that may wait for ``ttl_seconds``."""
        self.items[item.key] = item
        self.bytes += item.size
        name = self._fairness.lane(item.flow)
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = Ordered()
            self._fairness.joined(name)
        lane.push(self.options.ordering(item, ttl_seconds), item)

    def next(self, now: float) -> Item:
        """Takes out the one whose turn it is; there must be one."""
        name = self._fairness.choose(self._lanes, now)
        lane = self._lanes[name]
        first = lane.first()
        assert first is not None
        item = first[1]
        lane.pop()
        self._fairness.served(name, item, now)
        self._forget(item, name, lane)
        return item

    def remove(self, item: Item) -> None:
        """Takes out one that goes another way."""
        name = self._fairness.lane(item.flow)
        lane = self._lanes[name]
        item.gone = True
        lane.went()
        self._forget(item, name, lane)

    def newest(self) -> Item:
        """The one that has waited least; there must be one."""
        return next(reversed(self.items.values()))

    def _forget(self, item: Item, name: str, lane: Ordered) -> None:
        item.gone = True
        del self.items[item.key]
        self.bytes -= item.size
        if not len(lane):
            del self._lanes[name]
        if not self.items:
            self.owed = 0.0


def ttl_of(item: Item, band: BandOptions, options: FlowOptions) -> float:
    """The smallest of the client's, the band's or the pool's, and the proxies' limit."""
    limit = options.ttl_seconds if band.ttl_seconds is None else band.ttl_seconds
    return min(limit or math.inf, item.ttl_seconds or math.inf, options.patience_seconds)


def empty_ttl_of(item: Item, options: FlowOptions) -> float:
    """The same while the pool has no endpoint."""
    own = item.ttl_seconds or math.inf
    return min(options.empty_ttl_seconds, own, options.patience_seconds)
