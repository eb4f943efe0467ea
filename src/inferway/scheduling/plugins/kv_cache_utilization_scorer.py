"""``kv-cache-utilization-scorer``: more free KV cache is better."""

from __future__ import annotations

from inferway.scheduling.plugins.base import Context, Scorer
from inferway.scheduling.plugins.types import Kind, PluginType, Signal, plain


class KvCacheUtilizationScorer(Scorer):
    """1 - use."""

    def score(self, context: Context, slots: list[int]) -> list[float]:
        use = context.snapshot.columns.kv_use
        return [1.0 - use[slot] for slot in slots]


TYPE = PluginType(
    "kv-cache-utilization-scorer",
    Kind.SCORER,
    plain(KvCacheUtilizationScorer),
    does="1 - KV cache use.",
    signals=(Signal.KV_USE,),
)
