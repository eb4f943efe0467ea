"""The slots of the servers while a plan is made: what is free, coming free, promised.

Mutable, lives for one plan.
"""

from __future__ import annotations

from collections.abc import Iterable

import xxhash

from inferway.scheduling.placement.values import LEAVING, Copy, CopyState, Limits, Server, View


class Slots:
    """Counts per server, and which adapters are there in any form."""

    def __init__(self, view: View, limits: Limits) -> None:
        self._limits = limits
        self.servers = view.servers
        self.free: dict[str, int] = {}
        # Slots of copies that leave, not yet promised to anybody.
        self.coming: dict[str, int] = {}
        self.loading: dict[str, int] = {}
        self.weight: dict[str, float] = {}
        self._there: dict[str, set[str]] = {}
        for server in view.servers.values():
            self.free[server.address] = server.slots - len(server.foreign)
            self.coming[server.address] = self.loading[server.address] = 0
            self.weight[server.address] = server.load
            self._there[server.address] = set(server.foreign)
        for copy in view.copies:
            if copy.address in self.free:
                self._count(copy)

    def _count(self, copy: Copy) -> None:
        address = copy.address
        self.free[address] -= 1
        self._there[address].add(copy.adapter)
        if copy.state in LEAVING:
            self.coming[address] += 1
        elif copy.state is CopyState.LOADING:
            self.loading[address] += 1

    def holds(self, address: str, adapter: str) -> bool:
        """Whether the adapter is there, comes or leaves."""
        return adapter in self._there[address]

    def with_free_slot(self, addresses: Iterable[str]) -> list[str]:
        """Those with room."""
        return [a for a in addresses if self.free[a] > 0]

    def is_overfull(self, address: str) -> bool:
        """Whether even what leaves makes no room for those that stay."""
        return self.free[address] + self.coming[address] < 0

    def can_load(self, address: str) -> bool:
        """Whether a further load may begin there."""
        return self.loading[address] < self._limits.loads_per_server_max

    def best(self, addresses: Iterable[str], adapter: str) -> str:
        """The one with the least load; equals are told apart by a hash that spreads adapters."""
        return min(
            addresses,
            key=lambda a: (
                self.weight[a],
                -self.free[a],
                xxhash.xxh3_64_intdigest(f"{adapter}\0{a}".encode()),
            ),
        )

    def take(self, address: str, adapter: str, weight: float) -> None:
        """Promises a free slot; the adapter's expected load counts from here on."""
        self.free[address] -= 1
        self.weight[address] += weight
        self._there[address].add(adapter)

    def take_coming(self, addresses: Iterable[str]) -> bool:
        """Promises a slot that comes free."""
        for address in sorted(addresses):
            # A server beyond its slots has to give up some before one is really free.
            if self.coming[address] > max(-self.free[address], 0):
                self.coming[address] -= 1
                return True
        return False


def serves(server: Server, base_model: str) -> bool:
    """Whether an adapter of that base model can run there; a silent server is not believed."""
    return not base_model or base_model in server.base_models
