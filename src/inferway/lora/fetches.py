"""Which adapters must be fetched, and which are being or have been. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from inferway.lora.messages import Prepare
from inferway.lora.source import FETCHED, Adapter, served_path

# Downloads share one line and one disk; two keep both busy while a third party is slow.
PREPARING_MAX = 2


class Fetches:
    """Fetches of one syncer into its store."""

    def __init__(self, store: str) -> None:
        self._store = store
        self._ready: set[Adapter] = set()
        self._under_way: set[Adapter] = set()

    @property
    def ready(self) -> frozenset[Adapter]:
        """Adapters whose folder is in the store."""
        return frozenset(self._ready)

    def begin(
        self, wanted: Iterable[Adapter], may_wait: Callable[[Adapter], bool]
    ) -> list[Prepare]:
        """The fetches to begin with. ``may_wait``: the adapter needs none at the moment."""
        out = []
        for adapter in wanted:
            if len(self._under_way) >= PREPARING_MAX:
                break
            known = adapter in self._ready or adapter in self._under_way
            if adapter.kind in FETCHED and not known and not may_wait(adapter):
                self._under_way.add(adapter)
                out.append(Prepare(adapter, served_path(adapter, self._store)))
        return out

    def ended(self, adapter: Adapter, good: bool) -> None:
        self._under_way.discard(adapter)
        if good:
            self._ready.add(adapter)

    def gone(self, adapter: Adapter) -> None:
        """Its folder is not to be relied on."""
        self._ready.discard(adapter)

    def keep(self, wanted: Iterable[Adapter]) -> None:
        self._ready &= set(wanted)
