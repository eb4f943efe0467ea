"""``latency-scorer``: by how far the predicted latencies keep the request's objectives."""

from __future__ import annotations

from typing import NamedTuple

from inferway.scheduling.plugins.base import (
    Context,
    Latency,
    LatencyProducer,
    PrefixProducer,
    Scorer,
)
from inferway.scheduling.plugins.types import (
    Data,
    Kind,
    Making,
    Need,
    Parameter,
    PluginType,
    Signal,
    at_least,
    named,
    one_of,
)

# Scores have a hundred steps, as the published ones.
STEPS = 100
EQUAL = 1e-9
LEAST, MOST = "least", "most"


class _One(NamedTuple):
    position: int
    latency: Latency
    idle: bool


class LatencyScorer(Scorer):
    """Blends the two headrooms, each normalised over the servers that are compared."""

    def __init__(self, making: Making) -> None:
        values = making.parameters
        latency, prefix = making.sources[Data.LATENCY], making.sources[Data.PREFIX]
        assert isinstance(latency, LatencyProducer)
        assert isinstance(prefix, PrefixProducer)
        self._latency = latency
        self._prefix = prefix
        self._weights = _normalised(values["ttftWeight"], values["tpotWeight"])
        self._most: bool = values["headroomSelectionStrategy"] == MOST
        parts = [values[f"composite{name}Weight"] for name in ("KV", "Queue", "Prefix")]
        total = sum(parts)
        self._parts = [part / total for part in parts] if total > 0 else [1.0, 0.0, 0.0]

    def score(self, context: Context, slots: list[int]) -> list[float]:
        found = self._latency.predict(context, slots)
        if found is None:
            return self._composite(context, slots)
        in_flight = context.snapshot.columns.in_flight
        every = [
            _One(position, latency, in_flight[slot] == 0)
            for position, (slot, latency) in enumerate(zip(slots, found, strict=True))
        ]
        scores = [0.0] * len(slots)
        kept = [one for one in every if one.latency.valid]
        self._bucket(kept or _least_bad(every), scores, most=self._most and bool(kept))
        return scores

    def _bucket(self, ones: list[_One], scores: list[float], *, most: bool) -> None:
        first = [abs(one.latency.ttft_headroom) for one in ones]
        between = [abs(one.latency.tpot_headroom) for one in ones]
        first_range, between_range = max(first) - min(first), max(between) - min(between)
        ttft_weight, tpot_weight = self._weights
        if first_range <= EQUAL < between_range:
            ttft_weight, tpot_weight = 0.0, 1.0
        elif between_range <= EQUAL < first_range:
            ttft_weight, tpot_weight = 1.0, 0.0
        for index, one in enumerate(ones):
            ttft = (first[index] - min(first)) / first_range if first_range > EQUAL else 0.5
            tpot = (between[index] - min(between)) / between_range if between_range > EQUAL else 0.5
            blend = ttft_weight * ttft + tpot_weight * tpot
            share = blend if most else 1.0 - blend
            scores[one.position] = min(1.0, (int(share * STEPS) + 1) / STEPS)

    def _composite(self, context: Context, slots: list[int]) -> list[float]:
        """Without predictions: free KV cache, short queue and cached prefix."""
        columns = context.snapshot.columns
        match = self._prefix.match(context)
        longest = max(columns.waiting[slot] for slot in slots)
        scores = []
        for slot in slots:
            queue = 1.0 - columns.waiting[slot] / longest if longest > 0 else 1.0
            values = (1.0 - columns.kv_use[slot], queue, match.share(slot))
            blend = sum(w * value for w, value in zip(self._parts, values, strict=True))
            scores.append(round(STEPS * blend) / STEPS)
        return scores


def _least_bad(every: list[_One]) -> list[_One]:
    """Idle servers; else those that miss the time between tokens only, or the first token only."""
    idle = [one for one in every if one.idle]
    if idle:
        return idle
    first = [one for one in every if one.latency.ttft_headroom >= 0]
    return first or [one for one in every if one.latency.tpot_headroom >= 0] or every


def _normalised(one: float, other: float) -> tuple[float, float]:
    total = one + other
    return (one / total, other / total) if total > 0 else (1.0, 0.0)


def _weight(default: float, help: str) -> Parameter:
    return Parameter(float, default, at_least(0), help)


TYPE = PluginType(
    "latency-scorer",
    Kind.SCORER,
    LatencyScorer,
    {
        "ttftWeight": _weight(0.8, "Weight of the time to the first token."),
        "tpotWeight": _weight(0.2, "Weight of the time between tokens."),
        "headroomSelectionStrategy": Parameter(
            str, LEAST, one_of(LEAST, MOST), "least fills servers up, most spares them."
        ),
        "compositeKVWeight": _weight(1.0, "Weight of free KV cache without predictions."),
        "compositeQueueWeight": _weight(1.0, "Weight of a short queue without predictions."),
        "compositePrefixWeight": _weight(1.0, "Weight of cached prefix without predictions."),
        "latencyPredictionInfoProducerName": named(Data.LATENCY),
        "prefixMatchInfoProducerName": named(Data.PREFIX),
    },
    does=(
        "b = ttftWeight * n(ttft headroom) + tpotWeight * n(tpot headroom), n = (|h| - min) / "
        "(max - min); least: 1 - b, most: b, in steps of 0.01. Servers that keep both objectives "
        "first; if none, idle ones, else by what they miss, always least. No prediction: blend of "
        "1 - KV use, 1 - waiting / max, cached share."
    ),
    signals=(Signal.OWN, Signal.WAITING, Signal.KV_USE, Signal.PROMPT, Signal.RATES),
    needs=(
        Need(Data.LATENCY, "latencyPredictionInfoProducerName"),
        Need(Data.PREFIX, "prefixMatchInfoProducerName"),
    ),
)
