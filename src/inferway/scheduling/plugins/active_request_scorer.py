"""``active-request-scorer``: fewer requests in flight, by the picker's own accounting."""

from __future__ import annotations

from inferway.scheduling.plugins.base import Context, LoadProducer, Scorer
from inferway.scheduling.plugins.types import (
    Data,
    Kind,
    Making,
    Need,
    Parameter,
    PluginType,
    Signal,
    at_least,
    between,
    named,
)


class ActiveRequestScorer(Scorer):
    """1 up to the idle threshold, else (max - n) / max * maxBusyScore."""

    def __init__(self, making: Making) -> None:
        load = making.sources[Data.LOAD]
        assert isinstance(load, LoadProducer)
        self._load = load
        self._idle: int = making.parameters["idleThreshold"]
        self._busy: float = making.parameters["maxBusyScore"]

    def score(self, context: Context, slots: list[int]) -> list[float]:
        requests = self._load.requests
        counts = [requests(context, slot) for slot in slots]
        most = max(counts)
        return [
            1.0 if count <= self._idle else (most - count) / most * self._busy for count in counts
        ]


TYPE = PluginType(
    "active-request-scorer",
    Kind.SCORER,
    ActiveRequestScorer,
    {
        "idleThreshold": Parameter(int, 0, at_least(0), "Up to so many requests count as idle."),
        "maxBusyScore": Parameter(float, 1.0, between(0, 1), "The best score of one that is not."),
        "requestTimeout": Parameter(str, "", unused=True),
        "inFlightLoadProducerName": named(Data.LOAD),
    },
    does="n <= idleThreshold: 1; else (max - n) / max * maxBusyScore, n = own requests in flight.",
    signals=(Signal.OWN,),
    needs=(Need(Data.LOAD, "inFlightLoadProducerName"),),
)
