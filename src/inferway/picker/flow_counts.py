"""What a pool's queue counts: who came to it, what became of them, and how long that took."""

from __future__ import annotations

from collections import Counter

from inferway.observe.catalogue_gie import QUEUE_DURATION_BUCKETS
from inferway.observe.histogram import Histogram
from inferway.scheduling.flow.events import DISPATCHED
from inferway.scheduling.request import Request

# Distinct fairness ids in metrics; clients choose them. As the published pickers have it.
FLOWS_MAX = 1000
# Combinations of flow, priority and outcome, each of them a histogram.
SERIES_MAX = 2000
OTHER = "other"
DEFAULT_FLOW = "default-flow"


class FlowCounts:
    """Counts of one pool; requests that passed without a question are not among them."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        self.seconds: dict[tuple[str, int, str], Histogram] = {}
        self.waited_seconds = 0.0
        self._flows: set[str] = set()

    def dispatched(self, request: Request, seconds: float) -> None:
        """One was let go."""
        self.left(request, DISPATCHED, seconds)

    def left(self, request: Request, outcome: str, seconds: float) -> None:
        """One is gone, as ``outcome`` says."""
        self.requests[outcome, request.priority] += 1
        self.waited_seconds += seconds
        key = self.flow(request.fairness_id), request.priority, outcome
        found = self.seconds.get(key)
        if found is None:
            if len(self.seconds) >= SERIES_MAX:
                key = OTHER, 0, outcome
            found = self.seconds.setdefault(key, Histogram(QUEUE_DURATION_BUCKETS))
        found.add([seconds])

    def flow(self, fairness_id: str) -> str:
        """The label of a fairness id."""
        name = fairness_id or DEFAULT_FLOW
        if name not in self._flows:
            if len(self._flows) >= FLOWS_MAX:
                return OTHER
            self._flows.add(name)
        return name
