"""The figures of placement's metrics. No rows for a pool without a LoRAAdapter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from inferway.observe.metric import Rows
from inferway.picker.placement.keeper import PlacementKeeper


class PlacementSource:
    """One pool."""

    def __init__(self, keeper: PlacementKeeper) -> None:
        self._keeper = keeper
        self._pool = f"{keeper.pool.namespace}/{keeper.pool.name}"

    def read(self) -> Iterator[tuple[str, Rows]]:
        keeper = self._keeper
        pool = self._pool
        leads: Rows = {}
        if keeper.reading.adapters:
            leads = {(pool,): float(keeper.acting is not None)}
        yield "inferway_placement_leader", leads
        queue = keeper.queue
        counts: Rows = {(pool, adapter): float(count) for adapter, count in queue.counts().items()}
        yield "inferway_placement_waiting_requests", counts
        yield (
            "inferway_placement_waits_total",
            {(pool, *labels): count for labels, count in queue.ended.items()},
        )
        yield (
            "inferway_placement_wait_seconds_total",
            {(pool, adapter): seconds for adapter, seconds in queue.waited_seconds.items()},
        )
        yield (
            "inferway_placement_actions_total",
            {(pool, *labels): count for labels, count in keeper.counts.ended.items()},
        )
        yield (
            "inferway_placement_load_seconds_total",
            {(pool, adapter): seconds for adapter, seconds in keeper.counts.load_seconds.items()},
        )
        yield from self._placed()

    def _placed(self) -> Iterator[tuple[str, Rows]]:
        """What only the picker that places knows."""
        keeper = self._keeper
        pool = self._pool
        states: Counter[tuple[str, str]] = Counter()
        wanted: Rows = {}
        demand: Rows = {}
        if keeper.acting is not None:
            placement = keeper.acting.placement
            states.update((name, copy.state.value) for (name, _), copy in placement.copies.items())
            wanted = {(pool, name): float(n) for name, n in placement.last.wanted.items()}
            usage = keeper.meter.usage({})
            demand = {
                (pool, name): usage[name].demand for name in keeper.reading.wishes if name in usage
            }
        copies: Rows = {(pool, *labels): float(count) for labels, count in states.items()}
        yield "inferway_placement_copies", copies
        yield "inferway_placement_wanted_copies", wanted
        yield "inferway_placement_demand_requests", demand
