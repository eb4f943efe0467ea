"""``queue-scorer``: fewer waiting requests are better, relative to the other candidates."""

from __future__ import annotations

from inferway.scheduling.plugins.base import Context, Scorer, spread
from inferway.scheduling.plugins.types import Kind, PluginType, Signal, plain


class QueueScorer(Scorer):
    """(max - waiting) / (max - min); 1 for all if all are equal."""

    def score(self, context: Context, slots: list[int]) -> list[float]:
        waiting = context.snapshot.columns.waiting
        return spread([waiting[slot] for slot in slots])


TYPE = PluginType(
    "queue-scorer",
    Kind.SCORER,
    plain(QueueScorer),
    does="(max - waiting) / (max - min) over the candidates; all equal: 1.",
    signals=(Signal.WAITING,),
)
