"""``utilization-filter``: servers below a limit in everything that is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from inferway.scheduling.plugins.base import Context, Filter, LoadProducer
from inferway.scheduling.plugins.types import (
    REQUIRED,
    Data,
    Kind,
    Making,
    Need,
    Parameter,
    Parameters,
    PluginType,
    Signal,
    Stability,
    at_least,
    named,
    not_empty,
    one_of,
)

ACTIVE = "active-requests"
KV_USE = "kv-cache-utilization"
METRICS = (ACTIVE, "running-requests", "waiting-queue", KV_USE)


class UtilizationFilter(Filter):
    """Leaves out who exceeds any of the conditions."""

    def __init__(self, making: Making) -> None:
        self._limits = [(c["metric"], c["maxValue"]) for c in making.parameters["conditions"]]
        self._soft: bool = making.parameters["fallbackOnEmpty"]
        load = making.sources.get(Data.LOAD)
        self._load = load if isinstance(load, LoadProducer) else None
        for index, (metric, limit) in enumerate(self._limits):
            if metric == KV_USE and limit > 1:
                raise ValueError(f"conditions[{index}].maxValue: a share is at most 1")

    def keep(self, context: Context, slots: list[int]) -> list[int]:
        kept = slots
        for metric, limit in self._limits:
            value = self._reader(context, metric)
            kept = [slot for slot in kept if value(slot) <= limit]
        return slots if self._soft and not kept else kept

    def _reader(self, context: Context, metric: str) -> Callable[[int], float]:
        columns = context.snapshot.columns
        if metric == ACTIVE:
            load = self._load
            assert load is not None
            return lambda slot: load.requests(context, slot)
        if metric == KV_USE:
            return columns.kv_use.__getitem__
        return (columns.running if metric == "running-requests" else columns.waiting).__getitem__


def _reads_load(values: Parameters) -> bool:
    conditions: list[dict[str, Any]] = values["conditions"]
    return any(one["metric"] == ACTIVE for one in conditions)


_CONDITION = Parameter(
    dict,
    {},
    fields={
        "metric": Parameter(str, REQUIRED, one_of(*METRICS), f"One of {', '.join(METRICS)}."),
        "maxValue": Parameter(float, REQUIRED, at_least(0), "The greatest value that is kept."),
    },
)

TYPE = PluginType(
    "utilization-filter",
    Kind.FILTER,
    UtilizationFilter,
    {
        "conditions": Parameter(list, REQUIRED, not_empty, "What must hold.", items=_CONDITION),
        "fallbackOnEmpty": Parameter(bool, False, help="Whether all are kept if none passes."),
        "inFlightLoadProducerName": named(Data.LOAD),
    },
    does="metric <= maxValue in every condition.",
    signals=(Signal.WAITING, Signal.RUNNING, Signal.KV_USE, Signal.OWN),
    stability=Stability.ALPHA,
    needs=(Need(Data.LOAD, "inFlightLoadProducerName", _reads_load),),
)
