"""``latency-slo-admitter``: refuses what may be shed and nobody can answer in time."""

from __future__ import annotations

from inferway.scheduling.decision import Refusal, RefusalReason
from inferway.scheduling.plugins.base import Admitter, Context, LatencyProducer
from inferway.scheduling.plugins.types import (
    Data,
    Kind,
    Making,
    Need,
    PluginType,
    Signal,
    named,
)

# A server that has done next to nothing is not predicted well.
COLD_KV_USE = 0.02
RETRY_SECONDS = 1.0


class LatencySloAdmitter(Admitter):
    """Of negative priority and with objectives: some server must be idle, cold, or in time."""

    def __init__(self, making: Making) -> None:
        latency = making.sources[Data.LATENCY]
        assert isinstance(latency, LatencyProducer)
        self._latency = latency

    def admit(self, context: Context, slots: list[int]) -> Refusal | None:
        request = context.request
        if request.priority >= 0 or not (request.slo_ttft_ms > 0 or request.slo_tpot_ms > 0):
            return None
        columns = context.snapshot.columns
        if any(columns.kv_use[slot] < COLD_KV_USE or columns.running[slot] == 0 for slot in slots):
            return None
        found = self._latency.predict(context, slots)
        if found is None or any(
            (one.ttft_headroom >= 0 or request.slo_ttft_ms <= 0)
            and (one.tpot_headroom >= 0 or request.slo_tpot_ms <= 0)
            for one in found
        ):
            return None
        return Refusal(
            RefusalReason.SHED,
            "No server can answer within the request's objectives, and its priority allows to shed "
            "it.",
            retry_after_seconds=RETRY_SECONDS,
        )


TYPE = PluginType(
    "latency-slo-admitter",
    Kind.ADMITTER,
    LatencySloAdmitter,
    {"latencyPredictionInfoProducerName": named(Data.LATENCY)},
    does=(
        "Priority < 0 with `x-slo-ttft-ms` or `x-slo-tpot-ms`: refused unless some server is "
        "predicted to keep them, has nothing running, or KV use < 2 %."
    ),
    signals=(Signal.KV_USE, Signal.RUNNING, Signal.OWN, Signal.PROMPT, Signal.RATES),
    needs=(Need(Data.LATENCY, "latencyPredictionInfoProducerName"),),
)
