"""``slo-headroom-tier-filter``: servers that keep the objectives, now and then the others."""

from __future__ import annotations

from inferway.scheduling.plugins.base import Context, Filter, LatencyProducer
from inferway.scheduling.plugins.types import (
    Data,
    Kind,
    Making,
    Need,
    Parameter,
    PluginType,
    Signal,
    between,
    named,
)

EXPLORE = 0.01


class SloHeadroomTierFilter(Filter):
    """So that a server that has recovered is found, a few requests go to the other tier."""

    def __init__(self, making: Making) -> None:
        latency = making.sources[Data.LATENCY]
        assert isinstance(latency, LatencyProducer)
        self._latency = latency
        self._explore: float = making.parameters["epsilonExploreNeg"]

    def keep(self, context: Context, slots: list[int]) -> list[int]:
        found = self._latency.predict(context, slots) if len(slots) > 1 else None
        if found is None:
            return slots
        pairs = list(zip(slots, found, strict=True))
        good = [slot for slot, latency in pairs if latency.valid]
        if not good or len(good) == len(slots):
            return slots
        if context.rng.random() < self._explore:
            return [slot for slot, latency in pairs if not latency.valid]
        return good


TYPE = PluginType(
    "slo-headroom-tier-filter",
    Kind.FILTER,
    SloHeadroomTierFilter,
    {
        "epsilonExploreNeg": Parameter(
            float, EXPLORE, between(0, 1), "Share of requests for servers that miss an objective."
        ),
        "latencyPredictionInfoProducerName": named(Data.LATENCY),
    },
    does="Both headrooms >= 0, with the chance epsilonExploreNeg the others; one kind: all.",
    signals=(Signal.OWN, Signal.PROMPT, Signal.RATES),
    needs=(Need(Data.LATENCY, "latencyPredictionInfoProducerName"),),
)
