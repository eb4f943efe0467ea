"""``weighted-random-picker``: chance in proportion to the score.

Method: A-Res of Efraimidis and Spirakis (2006): the largest keys U^(1/score) win, which draws
without replacement by weight.
"""

from __future__ import annotations

import math

from inferway.scheduling.plugins.base import Context, Picker
from inferway.scheduling.plugins.types import Kind, Making, Parameter, PluginType, at_least

PARAMETERS = {
    "maxNumOfEndpoints": Parameter(int, 1, at_least(1), "How many endpoints to name, best first.")
}


class WeightedRandomPicker(Picker):
    """Names ``maxNumOfEndpoints`` endpoints; if all scores are 0 each is as likely."""

    def __init__(self, making: Making) -> None:
        self._count: int = making.parameters["maxNumOfEndpoints"]

    def order(self, context: Context, slots: list[int], scores: list[float]) -> list[int]:
        random = context.rng.random
        if max(scores) <= 0:
            keyed = [(random(), slot) for slot in slots]
        else:
            # log(U) / score orders as U^(1/score) does and does not underflow.
            keyed = [
                (math.log(1.0 - random()) / score if score > 0 else -math.inf, slot)
                for slot, score in zip(slots, scores, strict=True)
            ]
        keyed.sort(reverse=True)
        return [slot for _, slot in keyed[: self._count]]


TYPE = PluginType(
    "weighted-random-picker",
    Kind.PICKER,
    WeightedRandomPicker,
    PARAMETERS,
    does="Chance in proportion to the score: the largest U^(1/score); all 0: chance alone.",
)
