"""``utilization-detector`` and ``concurrency-detector`` as filters.

As detectors of saturation flow control reads their parameters; both leave a server out of a profile
when it is full by itself, and neither leaves nothing.
"""

from __future__ import annotations

from inferway.scheduling.plugins.base import Context, Filter, LoadProducer
from inferway.scheduling.plugins.types import (
    Data,
    Kind,
    Making,
    Need,
    Parameter,
    PluginType,
    Signal,
    above,
    at_least,
    between,
    duration,
    named,
    one_of,
)

QUEUE_DEPTH = 5
KV_USE = 0.8
STALENESS = "200ms"
CONCURRENCY = 100
TOKENS = 1_000_000
REQUESTS_MODE, TOKENS_MODE, HYBRID_MODE = "requests", "tokens", "hybrid"


class UtilizationDetector(Filter):
    """Fresh metrics, waiting < threshold * (1 + headroom), and KV use likewise."""

    def __init__(self, making: Making) -> None:
        values = making.parameters
        room = 1 + values["headroom"]
        self._waiting: float = values["queueDepthThreshold"] * room
        self._kv_use: float = values["kvCacheUtilThreshold"] * room
        self._stale: float = values["metricsStalenessThreshold"]

    def keep(self, context: Context, slots: list[int]) -> list[int]:
        c = context.snapshot.columns
        oldest = context.now - self._stale
        return [
            slot
            for slot in slots
            if c.scraped_at[slot] >= oldest
            and c.waiting[slot] < self._waiting
            and c.kv_use[slot] < self._kv_use
        ] or slots


class ConcurrencyDetector(Filter):
    """In flight < limit * (1 + headroom), in requests, tokens, or both."""

    def __init__(self, making: Making) -> None:
        values = making.parameters
        load = making.sources[Data.LOAD]
        assert isinstance(load, LoadProducer)
        self._load = load
        room = 1 + values["headroom"]
        mode = values["concurrencyMode"]
        self._requests = None if mode == TOKENS_MODE else int(values["maxConcurrency"] * room)
        self._tokens = None if mode == REQUESTS_MODE else int(values["maxTokenConcurrency"] * room)

    def keep(self, context: Context, slots: list[int]) -> list[int]:
        kept = slots
        if self._requests is not None:
            most = self._requests
            kept = [slot for slot in kept if self._load.requests(context, slot) < most]
        if self._tokens is not None:
            tokens = self._tokens
            kept = [slot for slot in kept if self._load.tokens(context, slot) < tokens]
        return kept or slots


UTILIZATION_PARAMETERS = {
    "queueDepthThreshold": Parameter(int, QUEUE_DEPTH, above(0), "Waiting requests of a full one."),
    "kvCacheUtilThreshold": Parameter(float, KV_USE, between(0, 1), "KV cache use of a full one."),
    "metricsStalenessThreshold": duration(STALENESS, "Older metrics count as full."),
    "headroom": Parameter(float, 0.0, at_least(0), "Share that a filter lets above them."),
}

UTILIZATION_TYPE = PluginType(
    "utilization-detector",
    Kind.DETECTOR,
    UtilizationDetector,
    UTILIZATION_PARAMETERS,
    does=(
        "Pool: mean of max(waiting / queueDepthThreshold, KV use / kvCacheUtilThreshold), stale "
        "metrics 1. As a filter: both < threshold * (1 + headroom); if none, all."
    ),
    signals=(Signal.WAITING, Signal.KV_USE),
    also=(Kind.FILTER,),
)
CONCURRENCY_TYPE = PluginType(
    "concurrency-detector",
    Kind.DETECTOR,
    ConcurrencyDetector,
    {
        "concurrencyMode": Parameter(
            str,
            REQUESTS_MODE,
            one_of(REQUESTS_MODE, TOKENS_MODE, HYBRID_MODE),
            "What is counted: requests, tokens or hybrid.",
        ),
        "maxConcurrency": Parameter(int, CONCURRENCY, above(0), "Requests of a full server."),
        "maxTokenConcurrency": Parameter(int, TOKENS, above(0), "Tokens of a full server."),
        "headroom": Parameter(float, 0.0, at_least(0), "Share above the limit that a filter lets."),
        "inFlightLoadProducerName": named(Data.LOAD),
    },
    does=(
        "Pool: in flight / capacity; hybrid: mean of each server's greater ratio. As a filter: in "
        "flight < limit * (1 + headroom); if none, all."
    ),
    signals=(Signal.OWN,),
    also=(Kind.FILTER,),
    needs=(Need(Data.LOAD, "inFlightLoadProducerName"),),
)
