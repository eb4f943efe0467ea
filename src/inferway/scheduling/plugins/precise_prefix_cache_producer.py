"""``precise-prefix-cache-producer`` and the deprecated ``precise-prefix-cache-scorer``.

What is cached where is the pool's own index: servers that publish KV events tell it exactly, and
for the others it is what was routed to them.
"""

from __future__ import annotations

from inferway.scheduling.plugins.base import Context, PrefixMatch, PrefixProducer, Scorer
from inferway.scheduling.plugins.types import (
    Data,
    Kind,
    Parameter,
    PluginType,
    Signal,
    duration,
    plain,
)

# vLLM's usual block.
BLOCK_TOKENS = 16


class PrecisePrefixCacheProducer(PrefixProducer):
    """The pool's own index."""

    def match(self, context: Context) -> PrefixMatch:
        size = len(context.request.prompt)
        if not size:
            return PrefixMatch({}, 0, 0.0, BLOCK_TOKENS)
        return PrefixMatch(context.matched, size, context.prompt_tokens / size, BLOCK_TOKENS)


class PrecisePrefixCacheScorer(Scorer):
    """Matched / total."""

    def __init__(self) -> None:
        self._source = PrecisePrefixCacheProducer()

    def score(self, context: Context, slots: list[int]) -> list[float]:
        match = self._source.match(context)
        return [match.share(slot) for slot in slots]


# Blocks, hashes and subscriptions are the picker's own affair; what files say of them is taken.
PARAMETERS = {
    "tokenProcessorConfig": Parameter(dict, None, unused=True),
    "indexerConfig": Parameter(dict, None, unused=True),
    "kvEventsConfig": Parameter(dict, None, unused=True),
    "speculativeIndexing": Parameter(bool, True, unused=True),
    "speculativeTTL": duration("2s", unused=True),
}

TYPE = PluginType(
    "precise-prefix-cache-producer",
    Kind.PRODUCER,
    plain(PrecisePrefixCacheProducer),
    PARAMETERS,
    does=(
        "The beginning of the prompt that the server has cached: exact where the server publishes "
        "KV events, else what was routed to it."
    ),
    signals=(Signal.PROMPT, Signal.PREFIXES),
    gives=Data.PREFIX,
)
SCORER_TYPE = PluginType(
    "precise-prefix-cache-scorer",
    Kind.SCORER,
    plain(PrecisePrefixCacheScorer),
    PARAMETERS,
    does="Cached part of the prompt.",
    signals=(Signal.PROMPT, Signal.PREFIXES),
    instead="precise-prefix-cache-producer with prefix-cache-scorer",
)
