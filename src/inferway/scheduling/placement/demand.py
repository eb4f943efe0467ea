"""How much each adapter is asked for, from samples of requests in flight.

Two running means, a quick and a slow one, and the larger of them counts: demand that rises is seen
at once, demand that falls is believed late, so that a pause moves nothing. Other pickers of the
pool tell theirs; what they told is forgotten when they fall silent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from inferway.scheduling.placement.values import Usage

QUICK_SECONDS = 5.0
SLOW_SECONDS = 60.0
# A peer reports about once a second.
PEER_SILENT_SECONDS = 5.0
# Under this a mean is nothing.
DEMAND_MIN = 0.001


@dataclass(slots=True)
class _Means:
    quick: float = 0.0
    slow: float = 0.0
    last_used: float = -math.inf


@dataclass(slots=True)
class _Peer:
    at: float
    demand: Mapping[str, float] = field(default_factory=dict)
    load: float = 0.0


class DemandMeter:
    """Demand by adapter; ``load`` is that of the whole pool, base models included."""

    def __init__(self) -> None:
        self._means: dict[str, _Means] = {}
        self._uses: dict[str, int] = {}
        self._load = _Means()
        self._peers: dict[str, _Peer] = {}
        self._sampled_at: float | None = None

    def sample(
        self, in_flight: Mapping[str, float], uses: Mapping[str, int], load: float, now: float
    ) -> None:
        """Own requests in flight by adapter, and how many there have been in all."""
        passed = 0.0 if self._sampled_at is None else max(now - self._sampled_at, 0.0)
        self._sampled_at = now
        quick = 1.0 - math.exp(-passed / QUICK_SECONDS)
        slow = 1.0 - math.exp(-passed / SLOW_SECONDS)
        for adapter, count in uses.items():
            if count != self._uses.get(adapter, 0):
                self._uses[adapter] = count
                self._of(adapter).last_used = now
        for adapter, requests in in_flight.items():
            if requests > 0:
                self._of(adapter).last_used = now
        for adapter, means in self._means.items():
            _step(means, in_flight.get(adapter, 0.0), quick, slow)
        _step(self._load, load, quick, slow)
        self._peers = {
            name: peer for name, peer in self._peers.items() if now - peer.at <= PEER_SILENT_SECONDS
        }

    def hear(self, peer: str, demand: Mapping[str, float], load: float, now: float) -> None:
        """Another picker's own demand; adapters in it have been used since it told before."""
        self._peers[peer] = _Peer(now, dict(demand), load)
        for adapter in demand:
            self._of(adapter).last_used = now

    def touch(self, adapter: str, now: float) -> None:
        """A request asked for it, though it was nowhere."""
        self._of(adapter).last_used = now

    @property
    def peers(self) -> int:
        """Other pickers that have told something lately."""
        return len(self._peers)

    def own(self, since: float) -> dict[str, float]:
        """Own demand by adapter used after ``since``, to be told to others."""
        return {
            adapter: max(means.quick, means.slow)
            for adapter, means in self._means.items()
            if means.last_used >= since
        }

    def own_load(self) -> float:
        """Own requests in flight."""
        return max(self._load.quick, self._load.slow)

    def load(self) -> float:
        """The pool's requests in flight, all pickers together."""
        return self.own_load() + sum(peer.load for peer in self._peers.values())

    def usage(self, waiting_since: Mapping[str, float]) -> dict[str, Usage]:
        """What a plan is made with; ``waiting_since`` are adapters that requests wait for."""
        return {
            adapter: Usage(
                self._demand(adapter),
                self._of(adapter).last_used,
                waiting_since.get(adapter, math.inf),
            )
            for adapter in self._means.keys() | waiting_since.keys()
        }

    def forget(self, known: set[str]) -> None:
        """Drops adapters that nobody wishes any more."""
        for adapter in self._means.keys() - known:
            del self._means[adapter]

    def _demand(self, adapter: str) -> float:
        means = self._of(adapter)
        own = max(means.quick, means.slow)
        total = own + sum(peer.demand.get(adapter, 0.0) for peer in self._peers.values())
        return total if total >= DEMAND_MIN else 0.0

    def _of(self, adapter: str) -> _Means:
        means = self._means.get(adapter)
        if means is None:
            means = self._means[adapter] = _Means()
        return means


def _step(means: _Means, value: float, quick: float, slow: float) -> None:
    means.quick += quick * (value - means.quick)
    means.slow += slow * (value - means.slow)
