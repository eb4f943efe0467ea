"""Who of one flow goes first: a number for each request, the least one first."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

from inferway.scheduling.flow.queue import Item

# Of an item and the seconds that it may wait at most.
Ordering: TypeAlias = Callable[[Item, float], float]


def first_come(item: Item, ttl_seconds: float) -> float:
    """``fcfs-ordering-policy``: by arrival."""
    return 0.0


def earliest_deadline(item: Item, ttl_seconds: float) -> float:
    """``edf-ordering-policy``: by the end of the time that it may wait."""
    return item.since + ttl_seconds


def slo_deadline(item: Item, ttl_seconds: float) -> float:
    """``slo-deadline-ordering-policy``: by the wanted time of the first token, others last."""
    return item.since + item.slo_seconds if item.slo_seconds > 0 else math.inf
