"""``running-requests-size-scorer``: fewer running requests are better."""

from __future__ import annotations

from inferway.scheduling.plugins.base import Context, Scorer, spread


class RunningRequestsScorer(Scorer):
    """(max - running) / (max - min); 1 for all if all are equal."""

    def score(self, context: Context, slots: list[int]) -> list[float]:
        running = context.snapshot.columns.running
        return spread([running[slot] for slot in slots])
