"""The default policy: no parameters, see cost.py for what it minimises."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from inferway.scheduling.cost import costs, parts, within_noise
from inferway.scheduling.decision import Decision
from inferway.scheduling.prefix import NO_BLOCKS, SCHEDULE, Blocks, block_seed, cut
from inferway.scheduling.request import Request, Rng
from inferway.scheduling.snapshot import Snapshot, bits_of

# The best endpoint and those that a retry may go to; Envoy retries at most three times.
ENDPOINTS_NAMED_MAX = 4


class CostPolicy:
    """Least cost first; equals are told apart by requests in flight, then by chance."""

    name = "inferway-cost-scorer"

    def rank(
        self, request: Request, snapshot: Snapshot, slots: list[int], now: float, rng: Rng
    ) -> Decision:
        blocks = blocks_of(request)
        matched = snapshot.prefixes.match(blocks, bits_of(slots)) if blocks.hashes else {}
        values = costs(request, snapshot, slots, matched, now)
        best = min(values)
        in_flight = snapshot.columns.in_flight
        first = _among_equals(slots, values, best, in_flight, rng)
        order = [slots[first]]
        if len(slots) > 1:
            rest = sorted(range(len(slots)), key=values.__getitem__)[:ENDPOINTS_NAMED_MAX]
            order += [slots[i] for i in rest if i != first][: ENDPOINTS_NAMED_MAX - 1]
        size = len(request.prompt)
        tokens = size / snapshot.ratios.bytes_per_token(request.model) if size else 0.0
        return Decision(order, matched.get(order[0], 0), tokens, blocks, values[first])

    def placed(self, request: Request, decision: Decision) -> None:
        """The pool's own index is fed by the pool."""

    def drop(self, slot: int) -> None:
        """Keeps nothing by slot."""

    def explain(
        self, request: Request, snapshot: Snapshot, slots: list[int], now: float
    ) -> list[dict[str, Any]]:
        blocks = blocks_of(request)
        matched = snapshot.prefixes.match(blocks, bits_of(slots))
        return [asdict(parts(request, snapshot, slot, matched.get(slot, 0), now)) for slot in slots]


def blocks_of(request: Request) -> Blocks:
    """The prompt's blocks under the pool's own schedule."""
    if not request.prompt:
        return NO_BLOCKS
    return cut(request.prompt, block_seed(request.model, request.salt), SCHEDULE)


def _among_equals(
    slots: list[int], values: list[float], best: float, in_flight: list[int], rng: Rng
) -> int:
    """Position of the winner. One pass, so that ties cost nothing when there are none."""
    ties: list[int] = []
    fewest = -1
    for position, value in enumerate(values):
        if not within_noise(value, best):
            continue
        count = in_flight[slots[position]]
        if fewest < 0 or count < fewest:
            fewest = count
            ties = [position]
        elif count == fewest:
            ties.append(position)
    return ties[0] if len(ties) == 1 else ties[int(rng.random() * len(ties))]
