"""``approx-prefix-cache-producer``: what was routed to a server is taken to be cached there.

Blocks have a fixed number of bytes, 4 for each token; the last partial one is left out. Other than
the published one it hashes the raw JSON of prompts and messages as sent, and a match is always a
prefix without gaps.
"""

from __future__ import annotations

from inferway.scheduling.plugins.base import Context, Placed, PrefixMatch, PrefixProducer
from inferway.scheduling.plugins.types import (
    Data,
    Kind,
    Making,
    Parameter,
    PluginType,
    Signal,
    at_least,
)
from inferway.scheduling.prefix import PROMPT_BYTES_MAX, Blocks, PrefixIndex, block_seed, cut
from inferway.scheduling.request import Request

# The published pickers' rule.
BYTES_PER_TOKEN = 4
# The published picker raises smaller blocks to this size, because they cost it memory.
BLOCK_TOKENS_MIN = 64
BLOCK_TOKENS = 16
BLOCKS_MAX = 2048
TOKENS_MAX = 131_072
LRU_BLOCKS = 31_250
QUOTE = ord('"')


class ApproxPrefixCacheProducer(PrefixProducer):
    """An index of its own with blocks of one size. ``blocks_max`` 0: up to the longest prompt."""

    def __init__(self, *, block_bytes: int, blocks_max: int, lru_blocks: int) -> None:
        self._size = block_bytes
        blocks = blocks_max or PROMPT_BYTES_MAX // block_bytes
        self._ends = range(block_bytes, block_bytes * blocks + 1, block_bytes)
        self._capacity = lru_blocks * block_bytes
        self.index = PrefixIndex()

    def match(self, context: Context) -> PrefixMatch:
        known = context.memo.get(self)
        if known is None:
            blocks = self.cut(context.request)
            total = len(blocks.hashes) * self._size
            matched = self.index.match(blocks) if total else {}
            known = context.memo[self] = (
                PrefixMatch(matched, total, 1 / BYTES_PER_TOKEN, self._size / BYTES_PER_TOKEN),
                blocks,
            )
        match: PrefixMatch = known[0]
        return match

    def placed(self, placed: Placed) -> None:
        self.match(placed.context)
        blocks: Blocks = placed.context.memo[self][1]
        for slots in placed.picked.values():
            if slots:
                self.index.set_capacity(slots[0], self._capacity)
                self.index.insert(blocks, slots[0])

    def drop(self, slot: int) -> None:
        self.index.drop(slot)

    def cut(self, request: Request) -> Blocks:
        """The prompt's blocks."""
        prompt = memoryview(request.prompt)
        if prompt and prompt[0] == QUOTE:
            # A string prompt without its quotes, so that a longer one begins with the same blocks.
            prompt = prompt[1:-1]
        return cut(prompt, block_seed(request.model, request.salt), self._ends)


def _build(making: Making) -> ApproxPrefixCacheProducer:
    values = making.parameters
    size = values["blockSize"]
    if size is None:
        size = max(values["blockSizeTokens"], BLOCK_TOKENS_MIN) * BYTES_PER_TOKEN
    blocks: int = values["maxPrefixBlocksToMatch"]
    if values["maxPrefixTokensToMatch"]:
        blocks = max(1, values["maxPrefixTokensToMatch"] * BYTES_PER_TOKEN // size)
    return ApproxPrefixCacheProducer(
        block_bytes=size, blocks_max=blocks, lru_blocks=values["lruCapacityPerServer"]
    )


TYPE = PluginType(
    "approx-prefix-cache-producer",
    Kind.PRODUCER,
    _build,
    {
        "autoTune": Parameter(bool, True, unused=True),
        "blockSizeTokens": Parameter(
            int, BLOCK_TOKENS, at_least(1), "Tokens of a block; fewer than 64 become 64."
        ),
        "blockSize": Parameter(int, None, at_least(1), "Bytes of a block: the older form."),
        "maxPrefixTokensToMatch": Parameter(
            int, TOKENS_MAX, at_least(0), "Tokens to compare; 0: maxPrefixBlocksToMatch decides."
        ),
        "maxPrefixBlocksToMatch": Parameter(
            int, BLOCKS_MAX, at_least(0), "Blocks to compare; 0: the whole prompt."
        ),
        "lruCapacityPerServer": Parameter(
            int, LRU_BLOCKS, at_least(1), "Blocks that a server is taken to keep."
        ),
    },
    does="Blocks of the prompt that were routed to the server before, from its beginning on.",
    signals=(Signal.PROMPT,),
    gives=Data.PREFIX,
)
