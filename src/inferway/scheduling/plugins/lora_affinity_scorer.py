"""``lora-affinity-scorer``: where the adapter is in use, else where one still fits.

Reads only what the server tells in ``vllm:lora_requests_info``, as the published one does.
"""

from __future__ import annotations

from inferway.scheduling.plugins.base import Context, Scorer
from inferway.scheduling.plugins.types import Kind, PluginType, Signal, plain

ACTIVE, FITS, WAITING = 1.0, 0.8, 0.6


class LoraAffinityScorer(Scorer):
    """1 if the model is running, 0.8 if running + waiting < places, 0.6 if it waits, else 0."""

    def score(self, context: Context, slots: list[int]) -> list[float]:
        return [self._one(context, slot) for slot in slots]

    @staticmethod
    def _one(context: Context, slot: int) -> float:
        running, waiting, places = context.snapshot.lora.told(slot)
        model = context.request.model
        if model in running:
            return ACTIVE
        if len(running) + len(waiting) < places:
            return FITS
        return WAITING if model in waiting else 0.0


TYPE = PluginType(
    "lora-affinity-scorer",
    Kind.SCORER,
    plain(LoraAffinityScorer),
    does="Adapter runs: 1; running + waiting < max_lora: 0.8; adapter waits: 0.6; else 0.",
    signals=(Signal.ADAPTERS,),
)
