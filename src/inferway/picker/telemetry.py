"""What the picker counts of one pool: notes on the hot path, counts when somebody looks.

A note is one tuple in a list, so that a request pays a fraction of a microsecond while it waits;
notes become counts in batches, which costs about one more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from inferway.observe.catalogue_gie import (
    HIT_BYTES_BUCKETS,
    HIT_RATIO_BUCKETS,
    SCHEDULING_BUCKETS,
)
from inferway.observe.catalogue_own import DECISION_BUCKETS
from inferway.observe.histogram import Histogram
from inferway.picker.debug import DecisionRing
from inferway.picker.series import Series, SeriesTable
from inferway.scheduling.decision import Decision, Explanation
from inferway.scheduling.events import Doubted, Event, Finished, ProxyGone, Tick
from inferway.scheduling.pool import PoolScheduler, Settled
from inferway.scheduling.request import Request

# Clients choose the names of models that a generic rule rewrites; the rest of them is one series.
REWRITES_MAX = 1000
OTHER_MODELS = "other"
# Notes that are counted at once: about a third of a millisecond in which nothing is decided.
NOTES_MAX = 256
# Names that a series was found for; beyond it they are looked up by their bounds each time.
KNOWN_NAMES_MAX = 4096
# Outcomes of the picker's own as the published pickers name them in ``error_code``.
ERROR_CODES = {
    "bad_request": "BadRequest",
    "unknown_model": "BadConfiguration",
    "shed": "InferencePoolResourceExhausted",
}
OTHER_ERROR_CODE = "ServiceUnavailable"


class Telemetry:
    """Counts of one pool. Read them after ``count``."""

    def __init__(self, pool: str, scheduler: PoolScheduler, ring: DecisionRing) -> None:
        self.pool = pool
        self.scheduler = scheduler
        self.ring = ring
        self.decisions: Counter[str] = Counter()
        self.seconds = Histogram(DECISION_BUCKETS)
        self.published_seconds = Histogram(SCHEDULING_BUCKETS)
        self.answer_seconds = Histogram(SCHEDULING_BUCKETS)
        self.hit_ratio = Histogram(HIT_RATIO_BUCKETS)
        self.hit_bytes = Histogram(HIT_BYTES_BUCKETS)
        # (model, endpoint's name, its address) -> decisions for it.
        self.attempts: Counter[tuple[str, str, str]] = Counter()
        self.failures: Counter[str] = Counter()
        self.finished: Counter[int] = Counter()
        self.released: Counter[str] = Counter()
        self.tokens: Counter[str] = Counter()
        self.rewrites: Counter[tuple[str, str, str]] = Counter()
        self.usages = 0
        self.retried = 0
        self.table = SeriesTable()
        self._known: dict[tuple[str, str, str, int], Series] = {}
        # The series of each request under way, by pick id. As many as there are reservations.
        self._open: dict[str, Series] = {}
        self._chosen: list[tuple[Series, int, Request, Decision, float, float]] = []
        self._settled: list[tuple[Event, list[Settled]]] = []

    # -- hot path --------------------------------------------------------------------------

    def chosen(self, pick: str, request: Request, alias: str, seconds: float) -> None:
        ...

    def decided(self, outcome: str, seconds: float) -> None:
        """One answer to a callout."""
