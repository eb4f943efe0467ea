"""How full a pool is, as saturation detectors see it.

Own accounting leads: what was scraped corrects the number of requests on a server and fades with
age, so that a server whose metrics are late or missing is judged by what was sent to it and came
back. (The published detectors take such a server for full, and a pool of one server stands still.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import msgspec

from inferway.scheduling.snapshot import SCRAPE_MEMORY_SECONDS, Columns, waiting_requests

# Published pickers look at servers of these roles apart, and at the fuller ones.
ROLE_LABEL = "llm-d.ai/role"
PREFILL = "prefill"
# Requests that a server may get beyond those it runs, as a share of them: its batch never runs dry
# between two reports, and who comes later with a higher priority waits little behind them.
AHEAD_SHARE = 1 / 8
# A server that was never seen with a queue takes what comes. This many more than it has counts as
# its room where saturation is told.
UNKNOWN_ROOM = 256.0
# While others wait, a server without a known limit begins with so many, and gets twice what
# it was seen to run without a queue.
FIRST_WINDOW = 32.0
# One look at a queue may be a burst that is gone at the next; the limit comes down to what
# runs by this factor for each look.
LIMIT_DECAY = 0.8
# The limit of a server without a queue rises by this factor for each look.
LIMIT_GROWTH = 1.5


class Capacity(msgspec.Struct, frozen=True):
    """``used`` of ``limit`` is taken, and one more request takes ``step`` of it."""

    used: float
    limit: float
    step: float = 1.0
    endpoints: int = 0

    @property
    def saturation(self) -> float:
        """1 is full; more is overload."""
        return self.used / self.limit if self.limit > 0 else 1.0


class Detector(Protocol):
    """Measures a pool; may keep what it learns of a server from one time to the next."""

    def measure(self, columns: Columns, now: float, *, pressed: bool) -> Capacity:
        """``pressed`` says that requests wait."""
        ...


def by_stage(columns: Columns) -> list[list[int]]:
    """Slots that are judged together: all, or those of prefill and of decode."""
    prefill: list[int] = []
    rest: list[int] = []
    for slot in columns.live:
        (prefill if columns.labels[slot].get(ROLE_LABEL) == PREFILL else rest).append(slot)
    return [part for part in (rest, prefill) if part]


def fullest(parts: Sequence[Capacity], endpoints: int) -> Capacity:
    """The part that lets least through."""
    found = max(parts, key=lambda part: part.saturation, default=Capacity(0.0, 0.0))
    return Capacity(found.used, found.limit, found.step, endpoints)


def requests_on(columns: Columns, slot: int, now: float) -> float:
    """Requests on a server: own ones, corrected by what its metrics said, less so with age."""
    own = columns.in_flight[slot]
    seen = columns.waiting[slot] + columns.running[slot] - columns.in_flight_then[slot]
    if not seen:
        return own
    weight = math.exp((columns.scraped_at[slot] - now) / SCRAPE_MEMORY_SECONDS)
    return max(own + seen * weight, 0.0)


class _Seen:
    """What is known of one server's places."""

    __slots__ = ("limit", "running", "scraped_at")

    def __init__(self) -> None:
        self.scraped_at = -math.inf
        self.limit = math.inf
        self.running = 0.0

    def look(self, scraped_at: float, waiting: float, running: float) -> None:
        """Learns from a scrape that was not seen before."""
        if scraped_at < self.scraped_at or scraped_at == -math.inf:
            # Another server in the same slot.
            self.limit, self.running = math.inf, 0.0
        elif waiting > 0:
            before = waiting + running if self.limit == math.inf else self.limit
            # What runs beside a queue twice in a row is all that can.
            steady = running if running == self.running else before * LIMIT_DECAY
            self.limit = max(running, steady, 1.0)
        elif running >= self.limit:
            self.limit = running * LIMIT_GROWTH
        self.running = running
        self.scraped_at = scraped_at


class StartSoonDetector:
    """Full is a pool in which no server can start a further request soon. No parameters.

    A server's places are what it ran when it was last seen with a queue; it may get
    an eighth more, at least one. Where no queue was ever seen the server takes everything.
    """

    def __init__(self) -> None:
        self._seen: list[_Seen] = []

    def measure(self, columns: Columns, now: float, *, pressed: bool) -> Capacity:
        parts = [self._part(columns, slots, now, pressed=pressed) for slots in by_stage(columns)]
        return fullest(parts, len(columns.live))

    def _part(
        self, columns: Columns, slots: Sequence[int], now: float, *, pressed: bool
    ) -> Capacity:
        seen = self._seen
        while len(seen) < len(columns.address):
            seen.append(_Seen())
        used = limit = 0.0
        for slot in slots:
            one = seen[slot]
            if columns.scraped_at[slot] != one.scraped_at:
                one.look(columns.scraped_at[slot], columns.waiting[slot], columns.running[slot])
            on = requests_on(columns, slot, now)
            if one.limit < math.inf:
                room = one.limit + max(one.limit * AHEAD_SHARE, 1.0)
            elif pressed:
                room = max(FIRST_WINDOW, 2.0 * one.running)
            else:
                room = on + UNKNOWN_ROOM
            limit += room
            # One server's overload is not another's: who has room makes room.
            used += min(on, room)
        return Capacity(used, limit)


class UtilizationDetector:
    """Mean over the servers of max(queue / threshold, KV use / threshold), as published.

    The queue is the scraped one and what was sent since. ``stale_seconds`` only says which servers
    are counted as stale.
    """

    def __init__(
        self, queue_depth: float = 5.0, kv_use: float = 0.8, stale_seconds: float = 0.2
    ) -> None:
        self.queue_depth = queue_depth
        self.kv_use = kv_use
        self.stale_seconds = stale_seconds

    def measure(self, columns: Columns, now: float, *, pressed: bool) -> Capacity:
        parts = []
        for slots in by_stage(columns):
            shares = [
                max(
                    waiting_requests(columns, slot, now) / self.queue_depth,
                    columns.kv_use[slot] / self.kv_use,
                )
                for slot in slots
            ]
            parts.append(Capacity(sum(shares), float(len(shares)), 1.0 / self.queue_depth))
        return fullest(parts, len(columns.live))


class ConcurrencyDetector:
    """In flight of capacity, in requests, in tokens or the mean of each server's larger share."""

    def __init__(
        self, mode: str = "requests", requests: float = 100.0, tokens: float = 1_000_000.0
    ) -> None:
        self.mode = mode
        self.requests = requests
        self.tokens = tokens

    def measure(self, columns: Columns, now: float, *, pressed: bool) -> Capacity:
        parts = [self._part(columns, slots) for slots in by_stage(columns)]
        return fullest(parts, len(columns.live))

    def _part(self, columns: Columns, slots: Sequence[int]) -> Capacity:
        count = float(len(slots))
        requests = [columns.in_flight[slot] / self.requests for slot in slots]
        if self.mode == "requests":
            return Capacity(sum(requests), count, 1.0 / self.requests)
        tokens = [columns.in_flight_tokens[slot] / self.tokens for slot in slots]
        held = sum(columns.in_flight[slot] for slot in slots)
        # The next request is taken for one like those under way.
        step = max(sum(tokens) / held if held else 0.0, 1.0 / self.tokens)
        if self.mode == "tokens":
            return Capacity(sum(tokens), count, step)
        both = sum(map(max, requests, tokens))
        return Capacity(both, count, max(step, 1.0 / self.requests))


def stale_endpoints(columns: Columns, now: float, seconds: float) -> int:
    """Servers whose metrics are older than this, or never came."""
    return sum(now - columns.scraped_at[slot] > seconds for slot in columns.live)
