"""``inflight-load-producer``: requests and prompt tokens in flight, of the picker's own accounting.

The published one counts the uncached tokens of a prompt until the first chunk of the answer, which
a picker outside of the stream can not see. Here they are drained at the rate that was learned of
the server, which is the same moment as far as is known.
"""

from __future__ import annotations

from inferway.scheduling.plugins.base import Context, LoadProducer
from inferway.scheduling.plugins.types import (
    Data,
    Kind,
    Making,
    Parameter,
    PluginType,
    Signal,
    at_least,
)
from inferway.scheduling.snapshot import backlog_tokens

OUTPUT_RATIO = 1.5


class InflightLoadProducer(LoadProducer):
    """Own requests; uncached prompt tokens still to compute, plus estimated output if asked."""

    def __init__(self, making: Making) -> None:
        values = making.parameters
        self._adds_output: bool = values["addEstimatedOutputTokens"]
        self._ratio: float = values["outputRatio"]
        self._most: int | None = values["maxEstimatedOutputTokens"]

    def requests(self, context: Context, slot: int) -> float:
        return context.snapshot.columns.in_flight[slot]

    def tokens(self, context: Context, slot: int) -> float:
        columns = context.snapshot.columns
        tokens = backlog_tokens(columns, slot, context.now)
        return tokens + columns.output_tokens[slot] if self._adds_output else tokens

    def output_tokens(self, context: Context) -> float:
        """Estimated output of a request: min(tokens * ratio, what the client allows, a limit)."""
        if not self._adds_output:
            return 0.0
        tokens = float(round(context.prompt_tokens * self._ratio))
        if context.request.max_tokens > 0:
            tokens = min(tokens, context.request.max_tokens)
        return tokens if self._most is None else min(tokens, self._most)


TYPE = PluginType(
    "inflight-load-producer",
    Kind.PRODUCER,
    InflightLoadProducer,
    {
        "addEstimatedOutputTokens": Parameter(bool, False, help="Whether output counts too."),
        "outputRatio": Parameter(
            float, OUTPUT_RATIO, at_least(0), "Estimated output tokens for each prompt token."
        ),
        "maxEstimatedOutputTokens": Parameter(
            int, None, at_least(0), "Estimated output tokens of a request at most."
        ),
        "prefixMatchInfoProducerName": Parameter(str, "", unused=True),
        "syncCrossReplicaState": Parameter(bool, True, unused=True),
    },
    does=(
        "Requests that were sent and have not ended; uncached prompt tokens that are not computed, "
        "with addEstimatedOutputTokens also min(tokens * outputRatio, max_tokens, limit) each."
    ),
    signals=(Signal.OWN, Signal.PROMPT),
    gives=Data.LOAD,
)
