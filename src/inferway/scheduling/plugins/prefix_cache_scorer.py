"""``prefix-cache-scorer``: the share of the prompt that the server should have cached.

What is cached where is known by a producer. As in the first published pickers the scorer takes the
parameters of an index of its own too: blocks of ``blockSize`` bytes.
"""

from __future__ import annotations

from inferway.scheduling.plugins.approx_prefix_cache_producer import (
    LRU_BLOCKS,
    ApproxPrefixCacheProducer,
)
from inferway.scheduling.plugins.base import Context, Placed, PrefixProducer, Scorer
from inferway.scheduling.plugins.types import (
    Data,
    Kind,
    Making,
    Need,
    Parameter,
    Parameters,
    PluginType,
    Signal,
    at_least,
    between,
    named,
)

SCALE_TOKENS = 8192
# Of the first published pickers: bytes of a block, and how many of them are compared.
BLOCK_BYTES = 64
BLOCKS_MAX = 256
OWN_INDEX = ("blockSize", "maxPrefixBlocksToMatch", "lruCapacityPerServer")


class PrefixCacheScorer(Scorer):
    """w * min(1, matched tokens / scale)^2 + (1 - w) * matched / all; w is 0 by default."""

    def __init__(self, making: Making) -> None:
        values = making.parameters
        self._weight: float = values["matchLengthWeight"]
        self._scale: int = values["matchLengthScaleTokens"]
        self._own: ApproxPrefixCacheProducer | None = None
        if _has_own_index(values):
            self._own = ApproxPrefixCacheProducer(
                block_bytes=values["blockSize"] or BLOCK_BYTES,
                blocks_max=values["maxPrefixBlocksToMatch"] or BLOCKS_MAX,
                lru_blocks=values["lruCapacityPerServer"] or LRU_BLOCKS,
            )
        source = self._own or making.sources[Data.PREFIX]
        assert isinstance(source, PrefixProducer)
        self.source = source

    def score(self, context: Context, slots: list[int]) -> list[float]:
        matched, total, tokens_per_byte, _ = self.source.match(context)
        if not total or not matched:
            return [0.0] * len(slots)
        get = matched.get
        if not self._weight:
            return [get(slot, 0) / total for slot in slots]
        weight = self._weight
        scale = tokens_per_byte / self._scale
        return [
            weight * min(1.0, get(slot, 0) * scale) ** 2 + (1 - weight) * get(slot, 0) / total
            for slot in slots
        ]

    def placed(self, placed: Placed) -> None:
        if self._own is not None:
            self._own.placed(placed)

    def drop(self, slot: int) -> None:
        if self._own is not None:
            self._own.drop(slot)


def _has_own_index(values: Parameters) -> bool:
    return any(values[name] is not None for name in OWN_INDEX)


TYPE = PluginType(
    "prefix-cache-scorer",
    Kind.SCORER,
    PrefixCacheScorer,
    {
        "matchLengthWeight": Parameter(
            float, 0.0, between(0, 1), "Weight of the length of the match against its share."
        ),
        "matchLengthScaleTokens": Parameter(
            int, SCALE_TOKENS, at_least(1), "A match of so many tokens is worth the whole weight."
        ),
        "prefixMatchInfoProducerName": named(Data.PREFIX),
        "blockSize": Parameter(int, None, at_least(1), "Bytes of a block of an index of its own."),
        "maxPrefixBlocksToMatch": Parameter(int, None, at_least(1), "Blocks of it to compare."),
        "lruCapacityPerServer": Parameter(int, None, at_least(1), "Blocks of it for a server."),
    },
    does=(
        "w * min(1, matched tokens / scale)^2 + (1 - w) * matched / total, w = matchLengthWeight; "
        "nothing to match: 0."
    ),
    signals=(Signal.PROMPT,),
    needs=(
        Need(Data.PREFIX, "prefixMatchInfoProducerName", lambda values: not _has_own_index(values)),
    ),
)
