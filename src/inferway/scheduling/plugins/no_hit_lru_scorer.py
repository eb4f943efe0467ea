"""``no-hit-lru-scorer``: spreads prompts that nobody has cached over the servers in turn."""

from __future__ import annotations

from collections import OrderedDict

from inferway.scheduling.plugins.base import Context, Placed, PrefixProducer, Scorer
from inferway.scheduling.plugins.types import (
    Data,
    Kind,
    Making,
    Need,
    Parameter,
    PluginType,
    Signal,
    at_least,
    named,
)

NEUTRAL = 0.5
LRU_SIZE = 1024
PREFILL = "prefill"


class NoHitLruScorer(Scorer):
    """Without a hit 1 - rank / (n - 1), never used servers first, else 0.5 for all.

    Servers that were never used share the first ranks in the order of the candidates.
    """

    def __init__(self, making: Making) -> None:
        source = making.sources[Data.PREFIX]
        assert isinstance(source, PrefixProducer)
        self._source = source
        self._most: int = making.parameters["lruSize"]
        # Slots that got a prompt without a hit, the least recent first.
        self._used: OrderedDict[int, None] = OrderedDict()

    def score(self, context: Context, slots: list[int]) -> list[float]:
        matched = self._source.match(context).matched
        cold = not any(matched.get(slot) for slot in slots)
        context.memo[self] = cold
        if not cold:
            return [NEUTRAL] * len(slots)
        if len(slots) == 1:
            return [1.0]
        age = {slot: position for position, slot in enumerate(self._used)}
        order = sorted(range(len(slots)), key=lambda position: age.get(slots[position], -1))
        scores = [0.0] * len(slots)
        for rank, position in enumerate(order):
            scores[position] = 1.0 - rank / (len(slots) - 1)
        return scores

    def placed(self, placed: Placed) -> None:
        if not placed.context.memo.get(self):
            return
        for profile in dict.fromkeys((placed.primary, PREFILL)):
            slot = placed.slot(profile)
            if slot is not None:
                self._used[slot] = None
                self._used.move_to_end(slot)
        while len(self._used) > self._most:
            self._used.popitem(last=False)

    def drop(self, slot: int) -> None:
        self._used.pop(slot, None)


TYPE = PluginType(
    "no-hit-lru-scorer",
    Kind.SCORER,
    NoHitLruScorer,
    {
        "lruSize": Parameter(int, LRU_SIZE, at_least(1), "Servers to remember."),
        "prefixPluginType": Parameter(str, "prefix-cache-scorer", unused=True),
        "prefixPluginName": Parameter(str, "prefix-cache-scorer", unused=True),
        "prefixMatchInfoProducerName": named(Data.PREFIX),
    },
    does=(
        "No candidate has any of the prompt: never used, then least recently used server 1, in "
        "equal steps down to 0; else 0.5 for all."
    ),
    signals=(Signal.PROMPT,),
    needs=(Need(Data.PREFIX, "prefixMatchInfoProducerName"),),
)
