"""``load-aware-scorer``: an empty queue is worth a half, a long one nothing."""

from __future__ import annotations

from inferway.scheduling.plugins.base import Context, Scorer
from inferway.scheduling.plugins.types import (
    Kind,
    Making,
    Parameter,
    PluginType,
    Signal,
    at_least,
)

EMPTY_QUEUE = 0.5
THRESHOLD = 128


class LoadAwareScorer(Scorer):
    """0.5 * (1 - min(waiting, threshold) / threshold)."""

    def __init__(self, making: Making) -> None:
        # The published plugin takes its default instead of a threshold that is not positive.
        self._threshold: int = making.parameters["threshold"] or THRESHOLD

    def score(self, context: Context, slots: list[int]) -> list[float]:
        waiting = context.snapshot.columns.waiting
        limit = self._threshold
        return [EMPTY_QUEUE * (1 - min(waiting[slot], limit) / limit) for slot in slots]


TYPE = PluginType(
    "load-aware-scorer",
    Kind.SCORER,
    LoadAwareScorer,
    {"threshold": Parameter(int, THRESHOLD, at_least(0), "Waiting requests that are worth 0.")},
    does="0.5 * (1 - min(waiting, threshold) / threshold).",
    signals=(Signal.WAITING,),
)
