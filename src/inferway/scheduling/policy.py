"""The default policy: no parameters, see cost.py for what it minimises."""

from __future__ import annotations

from dataclasses import asdict
from heapq import nsmallest
from typing import Any

from inferway.scheduling.cost import costs, noise_limit, parts
from inferway.scheduling.decision import Decision
from inferway.scheduling.prefix import NO_BLOCKS, Blocks, block_seed, cut
from inferway.scheduling.request import Request, Rng
from inferway.scheduling.snapshot import Snapshot

# The best endpoint and those that a retry may go to; Envoy retries at most three times.
ENDPOINTS_NAMED_MAX = 4
SORTED_MAX = 64


class CostPolicy:
    """Least cost first; equals are told apart by requests in flight, then by chance."""

    def __init__(self) -> None:
        self.name = "inferway-cost-scorer"
        self.headers: frozenset[str] = frozenset()
        self.port = 0

    def rank(
        self, request: Request, snapshot: Snapshot, slots: list[int], now: float, rng: Rng
    ) -> Decision:
        blocks = blocks_of(request)
        matched = snapshot.matched(request, blocks, now)
        prefix = snapshot.prefixes.longest(blocks, matched)
        askers = snapshot.prefixes.askers(prefix) if prefix else 0
        values = costs(request, snapshot, slots, matched, now, askers)
        first = _among_equals(slots, values, snapshot, rng)
        order = [slots[first]]
        if len(slots) == 2:
            order.append(slots[1 - first])
        elif len(slots) > 2:
            rest = _best(values)
            order += [slots[i] for i in rest if i != first][: ENDPOINTS_NAMED_MAX - 1]
        size = len(request.prompt)
        tokens = size / snapshot.ratios.per_token(request) if size else 0.0
        own = matched.get(order[0], 0)
        return Decision(order, own, tokens, blocks, values[first], prefix=prefix)

    def placed(self, request: Request, decision: Decision) -> None:
        """The pool's own index is fed by the pool."""

    def drop(self, slot: int) -> None:
        """Keeps nothing by slot."""

    def explain(
        self, request: Request, snapshot: Snapshot, slots: list[int], now: float
    ) -> list[dict[str, Any]]:
        blocks = blocks_of(request)
        matched = snapshot.matched(request, blocks, now)
        prefixes = snapshot.prefixes
        askers = prefixes.askers(prefixes.longest(blocks, matched))
        return [asdict(one) for one in parts(request, snapshot, slots, matched, now, askers)]


def blocks_of(request: Request) -> Blocks:
    """The prompt's blocks under the pool's own schedule."""
    if not request.prompt:
        return NO_BLOCKS
    return cut(request.prompt, block_seed(request.model, request.salt))


def _best(values: list[float]) -> list[int]:
    """Positions of the least values, ascending; a heap costs more than a sort for few."""
    if len(values) <= SORTED_MAX:
        return sorted(range(len(values)), key=values.__getitem__)[:ENDPOINTS_NAMED_MAX]
    return nsmallest(ENDPOINTS_NAMED_MAX, range(len(values)), key=values.__getitem__)


def _among_equals(slots: list[int], values: list[float], snapshot: Snapshot, rng: Rng) -> int:
    """Position of the winner."""
    in_flight = snapshot.columns.in_flight
    if len(values) == 1:
        return 0
    limit = noise_limit(min(values), snapshot)
    ties = [position for position, value in enumerate(values) if value <= limit]
    if len(ties) > 1:
        fewest = min([in_flight[slots[position]] for position in ties])
        ties = [position for position in ties if in_flight[slots[position]] == fewest]
    return ties[0] if len(ties) == 1 else ties[int(rng.random() * len(ties))]
