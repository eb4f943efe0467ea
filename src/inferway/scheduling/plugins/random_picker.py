"""``random-picker``: chance alone."""

from __future__ import annotations

from inferway.scheduling.plugins.base import Context, Parameter, Parameters, Picker, at_least

PARAMETERS = {"maxNumOfEndpoints": Parameter(int, 1, at_least(1))}


class RandomPicker(Picker):
    """Names ``maxNumOfEndpoints`` endpoints, each as likely as any other."""

    def __init__(self, parameters: Parameters) -> None:
        self._count: int = parameters["maxNumOfEndpoints"]

    def order(self, context: Context, slots: list[int], scores: list[float]) -> list[int]:
        keyed = sorted((context.rng.random(), slot) for slot in slots)
        return [slot for _, slot in keyed[: self._count]]
