"""``queue-scorer``: fewer waiting requests are better, relative to the other candidates."""

from __future__ import annotations

from inferway.scheduling.plugins.base import Context, Scorer, spread


class QueueScorer(Scorer):
    """(max - waiting) / (max - min); 1 for all if all are equal."""

    def score(self, context: Context, slots: list[int]) -> list[float]:
        waiting = context.snapshot.columns.waiting
        return spread([waiting[slot] for slot in slots])
