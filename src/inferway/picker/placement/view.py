"""What the scheduler knows of the pool's servers, as placement wants to see it.

Reads the scheduler's columns; changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Protocol

from inferway.scheduling.placement.machine import Seen
from inferway.scheduling.pool import PoolScheduler
from inferway.scheduling.snapshot import Endpoint, foreign_requests

# vLLM's own default of --max-loras.
SLOTS_DEFAULT = 1


class Asked(Protocol):
    """A server as the scraper knows it."""

    endpoint: Endpoint
    models_at: float | None


def seen_servers(scheduler: PoolScheduler, targets: Mapping[str, Asked], now: float) -> list[Seen]:
    """The pool's ready servers, sorted by address."""
    c = scheduler.columns
    told = {
        address: scheduler.lora.told(slot)[2] or targets[address].endpoint.max_loras
        for address, slot in _slots(scheduler, targets).items()
    }
    # Servers of a pool are alike: one that does not tell has as many places as the others.
    usual = max(told.values(), default=0) or SLOTS_DEFAULT
    found = []
    for address, slot in sorted(_slots(scheduler, targets).items()):
        cards = scheduler.cards(address)
        found.append(
            Seen(
                address=address,
                name=c.name[slot],
                # Adapters beyond the device's places are swapped in from host memory, if they
                # are kept there.
                slots=max(told[address] or usual, targets[address].endpoint.max_cpu_loras),
                base_models=frozenset(card.id for card in cards or () if not card.parent),
                adapters=None
                if cards is None
                else frozenset(card.id for card in cards if card.parent),
                told_at=targets[address].models_at or 0.0,
                in_flight=_in_flight(scheduler, slot),
                load=c.in_flight[slot] + foreign_requests(c, slot, now),
            )
        )
    return found


def own_requests(scheduler: PoolScheduler) -> tuple[dict[str, float], float]:
    """This picker's requests in flight by adapter, and in all."""
    by_adapter: Counter[str] = Counter()
    total = 0
    for slot in scheduler.columns.live:
        total += scheduler.columns.in_flight[slot]
        by_adapter.update(scheduler.lora.in_flight(slot))
    return {adapter: float(count) for adapter, count in by_adapter.items()}, float(total)


def _slots(scheduler: PoolScheduler, targets: Mapping[str, Asked]) -> dict[str, int]:
    return {address: slot for address in targets if (slot := scheduler.slot(address)) is not None}


def _in_flight(scheduler: PoolScheduler, slot: int) -> dict[str, int]:
    """Own requests by adapter, and at least one where the server says that others sent some."""
    own = scheduler.lora.in_flight(slot)
    running, waiting, _ = scheduler.lora.told(slot)
    return dict.fromkeys(running | waiting, 1) | own
