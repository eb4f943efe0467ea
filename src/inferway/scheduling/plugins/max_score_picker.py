"""``max-score-picker``: the highest scores first, equal ones in random order."""

from __future__ import annotations

from inferway.scheduling.plugins.base import Context, Picker
from inferway.scheduling.plugins.types import Kind, Making, Parameter, PluginType, at_least

PARAMETERS = {
    "maxNumOfEndpoints": Parameter(int, 1, at_least(1), "How many endpoints to name, best first.")
}


class MaxScorePicker(Picker):
    """Names ``maxNumOfEndpoints`` endpoints."""

    def __init__(self, making: Making) -> None:
        self._count: int = making.parameters["maxNumOfEndpoints"]

    def order(self, context: Context, slots: list[int], scores: list[float]) -> list[int]:
        count = self._count
        if len(slots) > count:
            # Chance is needed among those only that can be named, who mostly are few.
            least = sorted(scores, reverse=True)[count - 1]
            positions = [position for position, score in enumerate(scores) if score >= least]
        else:
            positions = list(range(len(slots)))
        if len(positions) > 1:
            random = context.rng.random
            positions.sort(key=lambda position: (-scores[position], random()))
        return [slots[position] for position in positions[:count]]


TYPE = PluginType(
    "max-score-picker",
    Kind.PICKER,
    MaxScorePicker,
    PARAMETERS,
    does="The highest scores first; equal ones in random order.",
)
