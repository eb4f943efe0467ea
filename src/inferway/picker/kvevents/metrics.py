"""What KV events and the guess of prefixes are worth, in figures."""

from __future__ import annotations

from collections.abc import Iterator

from inferway.observe.metric import Distribution, Rows
from inferway.picker.kvevents.pump import KvSubscriber
from inferway.scheduling.pool import PoolScheduler


class PrefixSource:
    """One pool; ``pool`` is ``namespace/name``."""

    def __init__(self, pool: str, scheduler: PoolScheduler, events: KvSubscriber) -> None:
        self._pool = pool
        self._scheduler = scheduler
        self._events = events

    def read(self) -> Iterator[tuple[str, Rows]]:
        pool, caches = self._pool, self._scheduler.caches
        sessions = self._events.sessions
        yield (
            "inferway_picker_kv_event_messages_total",
            {(pool, address): session.messages for address, session in sessions.items()},
        )
        yield (
            "inferway_picker_kv_event_gaps_total",
            {(pool, address): session.gaps for address, session in sessions.items()},
        )
        yield (
            "inferway_picker_kv_events_skipped_total",
            {
                (pool, address, reason.value): count
                for address, session in sessions.items()
                for reason, count in session.skipped.items()
            },
        )
        yield "inferway_picker_kv_blocks", {(pool,): caches.blocks}
        yield "inferway_picker_kv_blocks_skipped_total", {(pool,): caches.skipped}
        seen = self._scheduler.precision
        yield (
            "inferway_picker_prefix_tokens_total",
            {
                (pool, "predicted"): seen.predicted,
                (pool, "cached"): seen.cached,
                (pool, "both"): seen.both,
            },
        )
        yield (
            "inferway_picker_prefix_error_tokens",
            {(pool,): Distribution(tuple(seen.counts), seen.difference)},
        )
