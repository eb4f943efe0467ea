"""``running-requests-size-scorer``: fewer running requests are better."""

from __future__ import annotations

from inferway.scheduling.plugins.base import Context, Scorer, spread
from inferway.scheduling.plugins.types import Kind, PluginType, Signal, plain


class RunningRequestsScorer(Scorer):
    """(max - running) / (max - min); 1 for all if all are equal."""

    def score(self, context: Context, slots: list[int]) -> list[float]:
        running = context.snapshot.columns.running
        return spread([running[slot] for slot in slots])


TYPE = PluginType(
    "running-requests-size-scorer",
    Kind.SCORER,
    plain(RunningRequestsScorer),
    does="(max - running) / (max - min) over the candidates; all equal: 1.",
    signals=(Signal.RUNNING,),
)
