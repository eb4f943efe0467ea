"""The plan: which adapters to load and which to take away. A pure function of a view.

Needs are served in this order: minimum replicas (every adapter's first copy before anybody's
second), adapters that requests wait for, further copies of hot adapters. A need takes a free slot,
else one that comes free, else one of a colder copy that we placed, which is taken away first.
Nothing is taken away without a reason: a slot that nobody needs keeps what it has, which is what
keeps a plan from flapping.
"""

from __future__ import annotations

import math
from collections import Counter
from enum import IntEnum

from inferway.scheduling.placement.slots import Slots, serves
from inferway.scheduling.placement.values import (
    LEAVING,
    UNUSED,
    Command,
    Copy,
    CopyState,
    Evict,
    Limits,
    Load,
    Plan,
    Shortage,
    Usage,
    View,
    Wish,
)
from inferway.scheduling.placement.wanted import is_cold, wanted_copies


class _Tier(IntEnum):
    MINIMUM = 0
    WAITED_FOR = 1
    HOT = 2


def plan(view: View, limits: Limits, now: float) -> Plan:
    """What to do now. Equal views give equal plans; one that is carried out needs no further."""
    return _Planner(view, limits, now).plan()


class _Planner:
    def __init__(self, view: View, limits: Limits, now: float) -> None:
        self.view = view
        self.limits = limits
        self.now = now
        self.slots = Slots(view, limits)
        self.commands: list[Command] = []
        self.short: dict[str, Shortage] = {}
        # Copies that stay, by adapter: ours and other people's.
        self.kept: Counter[str] = Counter()
        self.victims: dict[tuple[str, str], Copy] = {}
        for server in view.servers.values():
            self.kept.update(server.foreign)
        for copy in view.copies:
            if copy.address not in view.servers or copy.state in LEAVING:
                continue
            self.kept[copy.adapter] += 1
            if copy.state is CopyState.LOADED:
                self.victims[copy.adapter, copy.address] = copy
        self.wanted: dict[str, int] = {}

    def plan(self) -> Plan:
        self._drop_unwished()
        self._drop_stale()
        self._want()
        self._drop_surplus()
        for tier, adapter in self._needs():
            if self.kept[adapter] < self._target(tier, adapter):
                self._place(tier, self.view.wishes[adapter])
        return Plan(tuple(self.commands), self.wanted, self.short)

    def _usage(self, adapter: str) -> Usage:
        return self.view.usage.get(adapter, UNUSED)

    # -- what has to go --------------------------------------------------------------------

    def _drop_unwished(self) -> None:
        for copy in sorted(self.victims.values(), key=_place_of):
            if copy.adapter not in self.view.wishes:
                self._evict(copy, "not wanted any more")

    def _drop_stale(self) -> None:
        """One copy of another source at a time, so that the others serve meanwhile."""
        leaving = {c.adapter for c in self.view.copies if c.state is not CopyState.LOADED}
        for copy in sorted(self.victims.values(), key=_place_of):
            wish = self.view.wishes.get(copy.adapter)
            if wish is None or wish.source == copy.source or copy.adapter in leaving:
                continue
            leaving.add(copy.adapter)
            self._evict(copy, "its source has changed")

    def _drop_surplus(self) -> None:
        for adapter, wish in sorted(self.view.wishes.items()):
            surplus = self.kept[adapter] - wish.replicas_max if wish.replicas_max else 0
            copies = [c for c in self.victims.values() if c.adapter == adapter]
            for copy in sorted(copies, key=lambda c: (c.in_flight, c.address))[: max(surplus, 0)]:
                self._evict(copy, "more copies than its maximum")

    # -- what is needed --------------------------------------------------------------------

    def _want(self) -> None:
        even = self.view.load / max(len(self.view.servers), 1)
        for adapter, wish in self.view.wishes.items():
            usage, present = self._usage(adapter), self.kept[adapter]
            able = sum(serves(s, wish.base_model) for s in self.view.servers.values())
            wanted = wanted_copies(wish, usage, present, even, self.limits, self.now)
            self.wanted[adapter] = max(min(wanted, able), wish.least)

    def _target(self, tier: _Tier, adapter: str) -> int:
        if tier is _Tier.MINIMUM:
            return self.view.wishes[adapter].least
        return 1 if tier is _Tier.WAITED_FOR else self.wanted[adapter]

    def _needs(self) -> list[tuple[_Tier, str]]:
        """One entry per copy that is missing, most urgent first."""
        wishes = sorted(self.view.wishes.values(), key=lambda wish: wish.adapter)
        needs: list[tuple[_Tier, float, float, str]] = []
        for wish in wishes:
            adapter, present, usage = (
                wish.adapter,
                self.kept[wish.adapter],
                self._usage(wish.adapter),
            )
            needs += [(_Tier.MINIMUM, float(n), 0.0, adapter) for n in range(present, wish.least)]
            waited = wish.on_demand and usage.waiting_since < math.inf
            if waited and present == 0 and wish.least == 0:
                needs.append((_Tier.WAITED_FOR, usage.waiting_since, 0.0, adapter))
            if present == 0 and wish.least == 0:
                # What nobody waits for comes back by a request, not by its past.
                continue
            first = max(present, wish.least)
            # The copy with most demand to carry first.
            needs += [
                (_Tier.HOT, -usage.demand / n, float(n), adapter)
                for n in range(first, self.wanted[adapter])
            ]
        return [(tier, adapter) for tier, _, _, adapter in sorted(needs)]

    def _place(self, tier: _Tier, wish: Wish) -> None:
        adapter = wish.adapter
        able = [s.address for s in self.view.servers.values() if serves(s, wish.base_model)]
        lacking = [a for a in able if not self.slots.holds(a, adapter)]
        open_ = [a for a in lacking if self.view.blocked.get((adapter, a), 0.0) <= self.now]
        if not open_:
            self._note(tier, adapter, _why_closed(able, lacking))
            return
        free = self.slots.with_free_slot(open_)
        ready = [a for a in free if self.slots.can_load(a)]
        if free:
            address = self.slots.best(ready or free, adapter)
            share = self._usage(adapter).demand / (self.kept[adapter] + 1)
            self.slots.take(address, adapter, share)
            self.kept[adapter] += 1
            if ready:
                self.slots.loading[address] += 1
                self.commands.append(Load(adapter, address, wish.source, wish.base_model))
            self._note(tier, adapter, Shortage.WAITING)
            return
        if self.slots.take_coming(open_):
            self.kept[adapter] += 1
            self._note(tier, adapter, Shortage.WAITING)
            return
        victim = self._victim(tier, wish, set(open_))
        if victim is None:
            self._note(tier, adapter, Shortage.NO_SLOT)
            return
        self._evict(victim, f"makes room for {adapter}")
        self.slots.take_coming([victim.address])
        self.kept[adapter] += 1
        self._note(tier, adapter, Shortage.WAITING)

    def _note(self, tier: _Tier, adapter: str, shortage: Shortage) -> None:
        if tier is not _Tier.HOT:
            self.short.setdefault(adapter, shortage)

    # -- who makes room --------------------------------------------------------------------

    def _victim(self, tier: _Tier, wish: Wish, addresses: set[str]) -> Copy | None:
        """The copy that is missed least, among those that may go for this need."""
        found: Copy | None = None
        best = (math.inf, math.inf, math.inf, math.inf, "", "")
        for copy in self.victims.values():
            # Where there are more adapters than slots, one that goes makes no room.
            if copy.address not in addresses or self.slots.is_overfull(copy.address):
                continue
            if not self._may_go(copy):
                continue
            rank, load = self._rank(copy)
            if tier is _Tier.HOT and rank > 1:
                continue
            # One that nobody uses at this moment makes room at once.
            busy = float(copy.in_flight > 0)
            last_used = self._usage(copy.adapter).last_used
            key = (rank, busy, load, last_used, copy.adapter, copy.address)
            if found is None or key < best:
                found, best = copy, key
        return found

    def _may_go(self, copy: Copy) -> bool:
        wish, usage = self.view.wishes[copy.adapter], self._usage(copy.adapter)
        if wish.pinned or self.now - copy.since < wish.residency_seconds:
            return False
        # Who waits keeps what it has, so that two adapters can not take a slot from each other
        # without new requests in between.
        return usage.waiting_since == math.inf and self.kept[copy.adapter] > wish.least

    def _rank(self, copy: Copy) -> tuple[int, float]:
        """0 more copies than demand asks for, 1 cold, 2 one of several, 3 the last one."""
        adapter, usage = copy.adapter, self._usage(copy.adapter)
        if is_cold(usage, self.limits, self.now):
            return 1, 0.0
        if self.kept[adapter] > self.wanted[adapter]:
            return 0, usage.demand / self.kept[adapter]
        if self.kept[adapter] > 1:
            return 2, usage.demand / self.kept[adapter]
        return 3, usage.demand

    def _evict(self, copy: Copy, reason: str) -> None:
        del self.victims[copy.adapter, copy.address]
        self.kept[copy.adapter] -= 1
        self.slots.coming[copy.address] += 1
        self.commands.append(Evict(copy.adapter, copy.address, reason))


def _why_closed(able: list[str], lacking: list[str]) -> Shortage:
    """No server is open: none can, all have it already, or all that lack it failed."""
    if not able:
        return Shortage.NO_SERVER
    return Shortage.BACKING_OFF if lacking else Shortage.TOO_FEW_SERVERS


def _place_of(copy: Copy) -> tuple[str, str]:
    return copy.adapter, copy.address
