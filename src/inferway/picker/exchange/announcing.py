"""From a decision to what other pickers are told of it."""

from __future__ import annotations

from collections.abc import Callable

from inferway.picker.exchange.pump import Exchange
from inferway.scheduling.announced import HASHES_MAX, Announced
from inferway.scheduling.decision import Decision
from inferway.scheduling.pool import PoolScheduler
from inferway.scheduling.prefix import ENDS
from inferway.scheduling.request import Request


def announcing(
    exchange: Exchange, pool: str, scheduler: PoolScheduler
) -> Callable[[str, Request, Decision], None]:
    """What a pool's scheduler calls after each reservation."""
    addresses = scheduler.columns.address
    opened = exchange.opened

    def announce(pick: str, request: Request, decision: Decision) -> None:
        blocks = decision.blocks
        # Blocks of another schedule are a plugin's own, which has no index to put others' into.
        hashes = list(blocks.hashes[:HASHES_MAX]) if blocks.ends is ENDS else []
        announced = Announced(
            pick,
            addresses[decision.slots[0]],
            request.model,
            len(request.prompt),
            decision.matched_bytes,
            decision.prompt_tokens,
            request.stream,
            hashes,
        )
        opened(pool, announced)

    return announce
