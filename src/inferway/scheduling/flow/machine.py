"""A pool's queue as a machine: events in, commands out.

Higher bands first, and of every ten requests one of the lower bands while both wait; inside a band
its fairness policy; inside a flow its ordering. Requests go while the measured saturation is under
the band's ceiling. Each that arrived is named by exactly one command, unless it left.
"""

from __future__ import annotations

import math

from inferway.scheduling.flow.bands import Band, empty_ttl_of, ttl_of
from inferway.scheduling.flow.capacity import Capacity
from inferway.scheduling.flow.drain import DrainMeter
from inferway.scheduling.flow.events import (
    Arrived,
    Command,
    Configured,
    Dispatch,
    Drain,
    Endpoints,
    Event,
    Left,
    Measured,
    Refuse,
    Why,
)
from inferway.scheduling.flow.options import FlowOptions
from inferway.scheduling.flow.queue import Item, Ordered

# A proxy learns of a new endpoint by its configuration, which takes tens of milliseconds after the
# picker knows it. Requests that are let go before that would be refused by the proxy.
OPENING_SECONDS = 0.5
# What all lower bands together get while a higher one waits too: nobody waits for ever, and
# the higher one does not notice.
LOWER_SHARE = 0.1
# Requests that may pass between two measurements where there is room: at least these, or one for
# each endpoint, so that measuring costs a request less than a microsecond.
CREDIT_MIN = 16
# Priorities come from InferenceObjectives; bands that are empty go when there are more.
BANDS_MAX = 256


class FlowMachine:
    """One pool's queue. ``wake_at`` says when ``Tick`` is due, after each ``handle``."""

    def __init__(self, options: FlowOptions | None = None) -> None:
        self.options = options or FlowOptions()
        self.bytes = 0
        self.capacity = Capacity(0.0, 0.0)
        self.drain = DrainMeter()
        # Highest priority first.
        self.bands: list[Band] = []
        self._of: dict[int, tuple[Band, Item]] = {}
        self._number = 0
        # None: nobody has told of endpoints.
        self._endpoints: int | None = None
        self._open_at = self._opened_at = 0.0
        # Taken since the last measurement.
        self._given = 0.0
        self._deadlines = Ordered()
        self._empty_deadlines = Ordered()

    def __len__(self) -> int:
        return len(self._of)

    @property
    def _opening(self) -> bool:
        """Whether there are endpoints that proxies may not know yet."""
        return bool(self._endpoints) and self._open_at > self._opened_at

    @property
    def waits_for_room(self) -> bool:
        """Whether a measurement can let somebody go."""
        return bool(self._of) and bool(self._endpoints) and not self._opening

    @property
    def idle(self) -> bool:
        """Whether requests may pass without coming here: none waits, and none would."""
        return self._endpoints is None or (
            not self._of and self.options.empty_ttl_seconds <= 0 and not self._endpoints
        )

    @property
    def wake_at(self) -> float | None:
        """The time at which something is due; None: only events change anything."""
        if self._opening:
            return self._open_at
        first = (self._deadlines if self._endpoints else self._empty_deadlines).first()
        return first[0] if first is not None else None

    def oldest_seconds(self, now: float) -> float:
        """How long the one that has waited longest has done so."""
        firsts = [next(iter(band.items.values())).since for band in self.bands if band.items]
        return now - min(firsts) if firsts else 0.0

    def waited_seconds(self, key: int, now: float) -> float:
        """How long a request has waited; 0 for one that does not."""
        found = self._of.get(key)
        return now - found[1].since if found is not None else 0.0

    def waiting(self) -> list[Item]:
        """All that wait, for metrics."""
        return [item for _, item in self._of.values()]

    def handle(self, event: Event, now: float) -> list[Command]:
        """What an event means for those that wait."""
        if isinstance(event, Arrived):
            return self._arrived(event, now)
        if isinstance(event, Left):
            self._take(event.key)
            return []
        if isinstance(event, Measured):
            self.capacity = event.capacity
            self._given = 0.0
            self.drain.note(event.passed, now)
        elif isinstance(event, Endpoints):
            self._told(event.count, now)
        elif isinstance(event, Configured):
            self._configure(event.options)
        elif isinstance(event, Drain):
            return [self._refuse(key, Why.STOPPING, now) for key in list(self._of)]
        return self._due(now) + self._dispatch(now)

    def take_credit(self) -> int:
        """How many requests may pass until the next measurement; 0 while somebody waits."""
        if self._of or not self._endpoints or self._opening:
            return 0
        ceiling = min(self._ceilings(), default=self._ceiling_of_all())
        room = (ceiling * self.capacity.limit - self.capacity.used - self._given) / (
            self.capacity.step
        )
        if room <= 0:
            return 0
        # A part of a request's room takes a whole one.
        credit = math.ceil(min(room, max(CREDIT_MIN, self.capacity.endpoints)))
        self._given += credit * self.capacity.step
        return credit

    # -- coming ----------------------------------------------------------------------------

    def _arrived(self, event: Arrived, now: float) -> list[Command]:
        self._number += 1
        item = Item(
            event.key,
            self._number,
            priority=event.priority,
            flow=event.flow,
            size=event.size,
            tokens=event.tokens,
            since=now,
            ttl_seconds=event.ttl_seconds,
            slo_seconds=event.slo_seconds,
        )
        band = self._band(event.priority)
        if not self._endpoints and self.options.empty_ttl_seconds <= 0:
            return [Refuse(event.key, Why.NO_ENDPOINTS)]
        if self._may_go_at_once(band):
            self._given += self.capacity.step
            return [Dispatch(event.key)]
        commands: list[Command] = []
        why = self._full(band, item)
        if why is not None and why is not Why.SATURATED:
            commands = self._press_out(band, item, why, now)
            why = why if not commands else self._full(band, item)
        if why is not None:
            return [*commands, Refuse(event.key, why, 0.0, self._retry_seconds(band))]
        ttl = ttl_of(item, band.options, self.options)
        band.add(item, ttl)
        self._of[item.key] = band, item
        self.bytes += item.size
        self._deadlines.push(now + ttl, item)
        self._empty_deadlines.push(now + empty_ttl_of(item, self.options), item)
        return commands

    def _may_go_at_once(self, band: Band) -> bool:
        """Whether there is room, and nobody whom this one would overtake."""
        if not self._endpoints or self._opening:
            return False
        if any(other.items and other.priority >= band.priority for other in self.bands):
            return False
        ceiling = self._ceilings()[self.bands.index(band)]
        return self.capacity.used + self._given < ceiling * self.capacity.limit

    def _full(self, band: Band, item: Item) -> Why | None:
        """Which limit does not let the request wait."""
        options, of_band = self.options, band.options
        if not of_band.max_requests:
            return Why.SATURATED if self._endpoints else Why.NO_ENDPOINTS
        if not self._endpoints and len(self._of) >= options.empty_max_requests:
            return Why.EMPTY_FULL
        if (
            len(self._of) >= options.max_requests
            or self.bytes + item.size > options.max_bytes
            or len(band.items) >= of_band.max_requests
            or band.bytes + item.size > of_band.max_bytes
        ):
            return Why.QUEUE_FULL if self._endpoints else Why.EMPTY_FULL
        return None

    def _press_out(self, band: Band, item: Item, why: Why, now: float) -> list[Command]:
        """Makes room among lower bands for a request that only the pool's limits keep out."""
        of_band = band.options
        if (
            len(band.items) >= of_band.max_requests
            or band.bytes + item.size > of_band.max_bytes
            or item.size > self.options.max_bytes
        ):
            return []
        commands: list[Command] = []
        for lower in reversed(self.bands):
            if lower.priority >= band.priority:
                break
            while lower.items and self._full(band, item) is why:
                commands.append(self._refuse(lower.newest().key, Why.PRESSURE, now))
        return commands

    def _band(self, priority: int) -> Band:
        place = 0
        while place < len(self.bands) and self.bands[place].priority > priority:
            place += 1
        if place < len(self.bands) and self.bands[place].priority == priority:
            return self.bands[place]
        if len(self.bands) >= BANDS_MAX:
            kept = [band for band in self.bands if band.items]
            if len(kept) >= BANDS_MAX:
                # More priorities wait than anybody tells apart; the next one is as good.
                return self.bands[min(place, len(self.bands) - 1)]
            self.bands = kept
            return self._band(priority)
        band = Band(priority, self.options.band(priority))
        self.bands.insert(place, band)
        return band

    # -- going -----------------------------------------------------------------------------

    def _told(self, count: int, now: float) -> None:
        before, self._endpoints = self._endpoints, count
        if before == 0 and count:
            self._open_at = now + OPENING_SECONDS
        elif before is None:
            # Endpoints that were there before the picker are known to the proxies.
            self._open_at = self._opened_at = now

    def _configure(self, options: FlowOptions) -> None:
        self.options = options
        waiting = list(self._of.values())
        self.bands.clear()
        self._of.clear()
        self._deadlines, self._empty_deadlines = Ordered(), Ordered()
        for _, item in waiting:
            band = self._band(item.priority)
            ttl = ttl_of(item, band.options, options)
            band.add(item, ttl)
            self._of[item.key] = band, item
            self._deadlines.push(max(item.since, self._opened_at) + ttl, item)
            self._empty_deadlines.push(item.since + empty_ttl_of(item, options), item)

    def _due(self, now: float) -> list[Command]:
        if not self._endpoints:
            return self._expire(self._empty_deadlines, Why.EMPTY_TIMEOUT, now)
        if self._opening:
            if now < self._open_at:
                return []
            self._opened_at = self._open_at
        return self._expire(self._deadlines, Why.TIMEOUT, now)

    def _expire(self, deadlines: Ordered, why: Why, now: float) -> list[Command]:
        commands: list[Command] = []
        while (first := deadlines.first()) is not None and first[0] <= now:
            item = first[1]
            band = self._of[item.key][0]
            if why is Why.TIMEOUT and item.since < self._opened_at:
                # Who waited for the first endpoint may wait for room from there on.
                later = self._opened_at + ttl_of(item, band.options, self.options)
                if item.ttl_seconds:
                    later = min(later, item.since + item.ttl_seconds)
                if later > now:
                    deadlines.pop()
                    deadlines.push(later, item)
                    continue
            commands.append(self._refuse(item.key, why, now))
        return commands

    def _dispatch(self, now: float) -> list[Command]:
        if not self.waits_for_room:
            return []
        commands: list[Command] = []
        ceilings = self._ceilings()
        limit, step = self.capacity.limit, self.capacity.step
        while True:
            used = self.capacity.used + self._given
            open_bands = [
                band
                for band, ceiling in zip(self.bands, ceilings, strict=True)
                if band.items and used < ceiling * limit
            ]
            if not open_bands:
                return commands
            band = _whose_turn(open_bands)
            item = band.next(now)
            self._drop(item)
            self._given += step
            self.drain.note(1, now)
            commands.append(Dispatch(item.key, now - item.since))

    def _ceilings(self) -> list[float]:
        priorities = [band.priority for band in self.bands]
        return list(self.options.usage_limit.ceilings(priorities, self.capacity.saturation))

    def _ceiling_of_all(self) -> float:
        return self.options.usage_limit.ceilings([0], self.capacity.saturation)[0]

    def _retry_seconds(self, band: Band) -> float:
        ahead = sum(len(other.items) for other in self.bands if other.priority >= band.priority)
        return self.drain.retry_seconds(ahead)

    def _refuse(self, key: int, why: Why, now: float) -> Refuse:
        band, item = self._of[key]
        self._take(key)
        return Refuse(key, why, now - item.since, self._retry_seconds(band))

    def _take(self, key: int) -> None:
        found = self._of.get(key)
        if found is not None:
            found[0].remove(found[1])
            self._drop(found[1])

    def _drop(self, item: Item) -> None:
        del self._of[item.key]
        self.bytes -= item.size
        self._deadlines.went()
        self._empty_deadlines.went()


def _whose_turn(bands: list[Band]) -> Band:
    """The highest band, or a lower one that it owes a turn; there must be one."""
    top, lower = bands[0], bands[1:]
    if not lower:
        return top
    for band in lower:
        band.owed += LOWER_SHARE / len(lower)
    most = max(lower, key=lambda band: band.owed)
    # Ten tenths are a little less than one.
    if most.owed >= 1.0 - 1e-9:
        most.owed -= 1.0
        return most
    return top
