"""``prefix-cache-scorer``: the share of the prompt's blocks that the server should have cached.

Blocks have ``blockSize`` bytes, the last partial one is left out; what was routed to a server is
taken to be cached there, ``lruCapacityPerServer`` blocks at most. Other than the published one it
hashes the raw JSON of messages as sent, and a match is always a prefix without gaps.
"""

from __future__ import annotations

from typing import Any

from inferway.scheduling.plugins.base import (
    Context,
    Parameter,
    Parameters,
    Scorer,
    at_least,
    between,
)
from inferway.scheduling.prefix import Blocks, PrefixIndex, block_seed, cut
from inferway.scheduling.request import Request

# The published pickers' rule for characters per token.
BYTES_PER_TOKEN = 4
QUOTE = ord('"')

PARAMETERS = {
    "blockSize": Parameter(int, 64, at_least(1)),
    "maxPrefixBlocksToMatch": Parameter(int, 256, at_least(1)),
    "lruCapacityPerServer": Parameter(int, 31250, at_least(1)),
    "matchLengthWeight": Parameter(float, 0.0, between(0, 1)),
    "matchLengthScaleTokens": Parameter(int, 8192, at_least(1)),
}


class PrefixCacheScorer(Scorer):
    """w * min(1, matched tokens / scale)^2 + (1 - w) * matched / all blocks; w is 0 by default."""

    def __init__(self, parameters: Parameters) -> None:
        self._size: int = parameters["blockSize"]
        blocks: int = parameters["maxPrefixBlocksToMatch"]
        self._ends = range(self._size, self._size * blocks + 1, self._size)
        self._capacity: int = parameters["lruCapacityPerServer"] * self._size
        self._weight: float = parameters["matchLengthWeight"]
        self._scale: int = parameters["matchLengthScaleTokens"] * BYTES_PER_TOKEN
        self._index = PrefixIndex()
        # The blocks of the request that was scored last, which is the one that is placed next.
        self._last: tuple[Any, Blocks] | None = None

    def score(self, context: Context, slots: list[int]) -> list[float]:
        blocks = self._cut(context.request)
        total = len(blocks.hashes) * self._size
        if not total:
            return [0.0] * len(slots)
        matched = self._index.match(blocks)
        return [self._value(matched.get(slot, 0), total) for slot in slots]

    def placed(self, request: Request, slot: int) -> None:
        self._index.set_capacity(slot, self._capacity)
        self._index.insert(self._cut(request), slot)
        self._last = None

    def drop(self, slot: int) -> None:
        self._index.drop(slot)

    def _value(self, matched: int, total: int) -> float:
        length = min(1.0, matched / self._scale) ** 2
        return self._weight * length + (1 - self._weight) * matched / total

    def _cut(self, request: Request) -> Blocks:
        if self._last is not None and self._last[0] is request:
            return self._last[1]
        prompt = memoryview(request.prompt)
        if prompt and prompt[0] == QUOTE:
            # A string prompt without its quotes, so that a longer one begins with the same blocks.
            prompt = prompt[1:-1]
        blocks = cut(prompt, block_seed(request.model, request.salt), self._ends)
        self._last = (request, blocks)
        return blocks
