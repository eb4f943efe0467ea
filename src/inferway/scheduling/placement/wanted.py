"""How many copies of an adapter its demand asks for.

An adapter with a share of the pool's load needs that share of the servers, with some headroom. A
pool that is hardly busy needs one copy of whatever is used. Demand has to fall clearly under what
the last copy carries before it is given up, so that demand at a threshold moves nothing.
"""

from __future__ import annotations

import math

from inferway.scheduling.placement.values import Limits, Usage, Wish


def wanted_copies(
    wish: Wish, usage: Usage, present: int, even_load: float, limits: Limits, now: float
) -> int:
    """Copies by demand, minimum and maximum; ``present`` are there now.

    ``even_load`` is the pool's requests in flight per server.
    """
    by_demand = _by_demand(usage, present, even_load, limits, now)
    if not wish.on_demand and wish.least == 0 and present == 0:
        by_demand = 0
    wanted = max(by_demand, wish.least)
    return min(wanted, wish.replicas_max) if wish.replicas_max else wanted


def _by_demand(usage: Usage, present: int, even_load: float, limits: Limits, now: float) -> int:
    if is_cold(usage, limits, now):
        return 0
    carried = max(even_load, limits.busy_requests) / limits.headroom
    needed = max(usage.demand / carried, 0.01)
    if present - 1 - limits.band_copies < needed <= present:
        return present
    return math.ceil(needed)


def is_cold(usage: Usage, limits: Limits, now: float) -> bool:
    """Nobody waits for it, and nobody asked for it in a while."""
    return usage.waiting_since == math.inf and now - usage.last_used > limits.idle_seconds
