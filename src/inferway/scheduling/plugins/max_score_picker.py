"""``max-score-picker``: the highest scores first, equal ones in random order."""

from __future__ import annotations

from inferway.scheduling.plugins.base import Context, Parameter, Parameters, Picker, at_least

PARAMETERS = {"maxNumOfEndpoints": Parameter(int, 1, at_least(1))}


class MaxScorePicker(Picker):
    """Names ``maxNumOfEndpoints`` endpoints."""

    def __init__(self, parameters: Parameters) -> None:
        self._count: int = parameters["maxNumOfEndpoints"]

    def order(self, context: Context, slots: list[int], scores: list[float]) -> list[int]:
        random = context.rng.random
        keyed = sorted(range(len(slots)), key=lambda position: (-scores[position], random()))
        return [slots[position] for position in keyed[: self._count]]
