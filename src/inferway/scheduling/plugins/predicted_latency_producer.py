"""``predicted-latency-producer``: time to the first token and between tokens, for every server.

The published one asks servers that train boosted trees. Here the picker's own model of the engine
predicts: what is still to be computed, at the rates that were learned of the server.
"""

from __future__ import annotations

from inferway.scheduling.cost import expected_output
from inferway.scheduling.plugins.base import (
    Context,
    Latency,
    LatencyProducer,
    PrefixProducer,
)
from inferway.scheduling.plugins.types import (
    Data,
    Kind,
    Making,
    Need,
    Parameter,
    PluginType,
    Signal,
    above,
    duration,
    named,
)
from inferway.scheduling.snapshot import backlog_tokens, waiting_requests

PREFILL_ROLE = "prefill"


class PredictedLatencyProducer(LatencyProducer):
    """ttft = (queued + uncached tokens) * prefill time + step + wait for a place and an adapter."""

    def __init__(self, making: Making) -> None:
        values = making.parameters
        source = making.sources[Data.PREFIX]
        assert isinstance(source, PrefixProducer)
        self._source = source
        self._streams: bool = values["streamingMode"]
        self._buffer: float = values["sloBufferFactor"]
        self._predicts: bool = values["predictInProduce"]
        self._role: str = values["endpointRoleLabel"]

    def predict(self, context: Context, slots: list[int]) -> list[Latency] | None:
        if not self._predicts:
            return None
        matched = self._source.match(context).matched
        return [self._one(context, slot, matched.get(slot, 0)) for slot in slots]

    def _one(self, context: Context, slot: int, matched: int) -> Latency:
        request, snapshot = context.request, context.snapshot
        columns = snapshot.columns
        size = len(request.prompt)
        uncached = context.prompt_tokens * (size - matched) / size if size else 0.0
        tokens = backlog_tokens(columns, slot, context.now) + uncached
        step = columns.step_seconds[slot]
        seconds = tokens * columns.prefill_seconds_per_token[slot] + step
        waiting = waiting_requests(columns, slot, context.now)
        service = snapshot.usual.service_seconds
        if waiting > 0:
            seconds += (waiting + 1.0) * service / max(columns.running[slot], 1.0)
        if request.model in snapshot.models.parents:
            seconds += snapshot.lora.wait_seconds(slot, request.model, service)
        neutral = not self._streams or columns.labels[slot].get(self._role) == PREFILL_ROLE
        if not self._streams:
            # Without a stream the client waits for the whole answer.
            seconds += expected_output(request, snapshot) * step
        ttft, tpot = 1000.0 * seconds, 1000.0 * step
        room = 0.0 if neutral else request.slo_tpot_ms * self._buffer - tpot
        return Latency(ttft, tpot, request.slo_ttft_ms - ttft, room)


TYPE = PluginType(
    "predicted-latency-producer",
    Kind.PRODUCER,
    PredictedLatencyProducer,
    {
        "streamingMode": Parameter(
            bool, False, help="Whether first tokens are predicted, or whole answers."
        ),
        "sloBufferFactor": Parameter(float, 1.0, above(0), "Factor of `x-slo-tpot-ms`."),
        "predictInProduce": Parameter(bool, True, help="Whether anything is predicted."),
        "endpointRoleLabel": Parameter(
            str, "", help="Label of the role; servers that prefill have no time between tokens."
        ),
        "prefixMatchInfoProducerName": named(Data.PREFIX),
        "inFlightLoadProducerName": Parameter(str, "", unused=True),
        "encoderCacheMatchInfoProducerName": Parameter(str, "", unused=True),
        "useEncoderCacheFeatures": Parameter(bool, False, unused=True),
        "samplingMean": Parameter(float, 1000.0, unused=True),
        "maxDecodeTokenSamplesForPrediction": Parameter(int, 0, unused=True),
        "contextTTL": duration("5m", unused=True),
    },
    does=(
        "ttft = (queued + uncached tokens) * seconds per token + step + wait for a place and an "
        "adapter, without streamingMode + output * step; tpot = step; headroom = objective - "
        "prediction. The picker's own model, no prediction servers."
    ),
    signals=(Signal.OWN, Signal.PROMPT, Signal.WAITING, Signal.ADAPTERS, Signal.RATES),
    needs=(Need(Data.PREFIX, "prefixMatchInfoProducerName"),),
    gives=Data.LATENCY,
)
