"""``random-picker``: chance alone."""

from __future__ import annotations

from inferway.scheduling.plugins.base import Context, Picker
from inferway.scheduling.plugins.types import Kind, Making, Parameter, PluginType, at_least

PARAMETERS = {
    "maxNumOfEndpoints": Parameter(int, 1, at_least(1), "How many endpoints to name, best first.")
}


class RandomPicker(Picker):
    """Names ``maxNumOfEndpoints`` endpoints, each as likely as any other."""

    def __init__(self, making: Making) -> None:
        self._count: int = making.parameters["maxNumOfEndpoints"]

    def order(self, context: Context, slots: list[int], scores: list[float]) -> list[int]:
        keyed = sorted((context.rng.random(), slot) for slot in slots)
        return [slot for _, slot in keyed[: self._count]]


TYPE = PluginType(
    "random-picker",
    Kind.PICKER,
    RandomPicker,
    PARAMETERS,
    does="Chance alone.",
)
