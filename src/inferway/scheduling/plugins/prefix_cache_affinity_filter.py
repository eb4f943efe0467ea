"""``prefix-cache-affinity-filter``: servers that have the prompt, unless they are far busier."""

from __future__ import annotations

from inferway.scheduling.plugins.base import (
    Context,
    Filter,
    LatencyProducer,
    LoadProducer,
    PrefixProducer,
)
from inferway.scheduling.plugins.types import (
    Data,
    Kind,
    Making,
    Need,
    Parameter,
    Parameters,
    PluginType,
    Signal,
    above,
    at_least,
    between,
    named,
    one_of,
)

THRESHOLD = 0.80
PENALTY_MILLISECONDS = 18_000.0
# Of a 32B model on two H100, as published; an own measure is better.
TOKENS_PER_SECOND = 15_928.0
THROUGHPUT, PREDICTOR = "prefillThroughput", "latencyPredictor"


class PrefixCacheAffinityFilter(Filter):
    """Lets go of them if their best first token comes later than the others' by the penalty."""

    def __init__(self, making: Making) -> None:
        values = making.parameters
        prefix = making.sources[Data.PREFIX]
        assert isinstance(prefix, PrefixProducer)
        self._prefix = prefix
        load, latency = making.sources.get(Data.LOAD), making.sources.get(Data.LATENCY)
        self._load = load if isinstance(load, LoadProducer) else None
        self._latency = latency if isinstance(latency, LatencyProducer) else None
        self._threshold: float = values["affinityThreshold"]
        self._explore: float = values["explorationProbability"]
        self._penalty: float = values["maxTTFTPenaltyMs"]
        self._rate: float = values["peakPrefillThroughput"]

    def keep(self, context: Context, slots: list[int]) -> list[int]:
        if len(slots) <= 1 or self._threshold <= 0:
            return slots
        if self._explore > 0 and context.rng.random() < self._explore:
            return slots
        match = self._prefix.match(context)
        sticky = [slot for slot in slots if match.share(slot) >= self._threshold]
        if not sticky or len(sticky) == len(slots):
            return slots
        if self._penalty > 0:
            others = [slot for slot in slots if slot not in sticky]
            late = self._first_token(context, sticky) - self._first_token(context, others)
            if late > self._penalty:
                return slots
        return sticky

    def _first_token(self, context: Context, slots: list[int]) -> float:
        """Milliseconds until the best of them answers."""
        if self._latency is not None:
            found = self._latency.predict(context, slots)
            return min(one.ttft for one in found) if found else 0.0
        load = self._load
        assert load is not None
        return min(load.tokens(context, slot) for slot in slots) / self._rate * 1000.0


def _by_load(values: Parameters) -> bool:
    return bool(values["maxTTFTPenaltyMs"] > 0 and values["ttftSource"] == THROUGHPUT)


def _by_latency(values: Parameters) -> bool:
    return bool(values["maxTTFTPenaltyMs"] > 0 and values["ttftSource"] == PREDICTOR)


TYPE = PluginType(
    "prefix-cache-affinity-filter",
    Kind.FILTER,
    PrefixCacheAffinityFilter,
    {
        "affinityThreshold": Parameter(
            float, THRESHOLD, between(0, 1), "Share of the prompt that a server must have."
        ),
        "explorationProbability": Parameter(
            float, 0.0, between(0, 1), "Share of requests that all servers may get."
        ),
        "maxTTFTPenaltyMs": Parameter(
            float, PENALTY_MILLISECONDS, at_least(0), "How much later they may answer; 0: any time."
        ),
        "ttftSource": Parameter(
            str, THROUGHPUT, one_of(THROUGHPUT, PREDICTOR), f"{THROUGHPUT} or {PREDICTOR}."
        ),
        "peakPrefillThroughput": Parameter(
            float, TOKENS_PER_SECOND, above(0), "Prompt tokens that a server computes in a second."
        ),
        "prefixMatchInfoProducerName": named(Data.PREFIX),
        "latencyPredictionInfoProducerName": named(Data.LATENCY),
        "inFlightLoadProducerName": named(Data.LOAD),
    },
    does=(
        "matched / total >= affinityThreshold; if none, all. All too if the best ttft of those is "
        "later than the others' by more than maxTTFTPenaltyMs; ttft = tokens in flight / "
        "peakPrefillThroughput, or the prediction."
    ),
    signals=(Signal.PROMPT, Signal.OWN),
    needs=(
        Need(Data.PREFIX, "prefixMatchInfoProducerName"),
        Need(Data.LOAD, "inFlightLoadProducerName", _by_load),
        Need(Data.LATENCY, "latencyPredictionInfoProducerName", _by_latency),
    ),
)
