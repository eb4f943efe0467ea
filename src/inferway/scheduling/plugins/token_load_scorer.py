"""``token-load-scorer``: fewer prompt tokens that are still to be computed."""

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
    named,
)

# 128 requests of 32 768 tokens.
THRESHOLD_TOKENS = 4_194_304


class TokenLoadScorer(Scorer):
    """1 - min(1, tokens / threshold)."""

    def __init__(self, making: Making) -> None:
        load = making.sources[Data.LOAD]
        assert isinstance(load, LoadProducer)
        self._load = load
        self._threshold: int = making.parameters["queueThresholdTokens"]

    def score(self, context: Context, slots: list[int]) -> list[float]:
        tokens = self._load.tokens
        return [1.0 - min(1.0, tokens(context, slot) / self._threshold) for slot in slots]


TYPE = PluginType(
    "token-load-scorer",
    Kind.SCORER,
    TokenLoadScorer,
    {
        "queueThresholdTokens": Parameter(
            int, THRESHOLD_TOKENS, at_least(1), "Tokens that are worth 0."
        ),
        "inFlightLoadProducerName": named(Data.LOAD),
    },
    does="1 - min(1, tokens in flight / queueThresholdTokens).",
    signals=(Signal.OWN, Signal.PROMPT),
    needs=(Need(Data.LOAD, "inFlightLoadProducerName"),),
)
