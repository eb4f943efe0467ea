"""What the picker counts of one pool: notes on the hot path, counts when somebody looks.

A note is one tuple in a list, so that a request pays a fraction of a microsecond while it waits;
notes become counts in batches, which costs about one more.
"""

from __future__ import annotations

from collections import Counter

from inferway.observe.catalogue_gie import (
    HIT_BYTES_BUCKETS,
    HIT_RATIO_BUCKETS,
    SCHEDULING_BUCKETS,
)
from inferway.observe.catalogue_own import DECISION_BUCKETS
from inferway.observe.histogram import Histogram
from inferway.picker.debug import DecisionRing
from inferway.picker.series import Series, SeriesTable
from inferway.picker.service import Asked
from inferway.scheduling.decision import Decision, Explanation
from inferway.scheduling.events import Doubted, Event, Finished, ProxyGone, Tick
from inferway.scheduling.pool import PoolScheduler, Settled

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
        # Series, slot, bytes of body, of prompt in cache, of prompt; time of decision and answer.
        self._chosen: list[tuple[Series, int, int, int, int, float, float]] = []
        self._settled: list[tuple[Event, list[Settled]]] = []

    # -- hot path --------------------------------------------------------------------------

    def chosen(
        self, pick: str, asked: Asked, decision: Decision, began: float, ended: float
    ) -> None:
        """A server was chosen; the decision began and ended at these times."""
        request = asked.request
        names = (asked.alias or request.model, request.model, request.fairness_id, request.priority)
        series = self._known.get(names) or self._learn(names)
        self._open[pick] = series
        self._chosen.append(
            (
                series,
                decision.slots[0],
                request.body_bytes,
                decision.matched_bytes,
                len(request.prompt),
                ended - began,
                ended - asked.arrived,
            )
        )
        if len(self._chosen) >= NOTES_MAX:
            self.count()

    def refused(self, outcome: str, seconds: float, asked: Asked | None) -> None:
        """The picker gave the final answer itself; ``asked`` as far as it was understood."""
        self.decisions[outcome] += 1
        self.seconds.add((seconds,))
        self.answer_seconds.add((seconds,))
        if outcome == "unknown_pool":
            return
        if asked is None:
            series = self.table.of_stranger("", 0)
        else:
            request = asked.request
            model = request.model
            if outcome == "unknown_model":
                series = self.table.of_stranger(request.fairness_id, request.priority)
            else:
                series = self.table.series(
                    asked.alias or model, model, request.fairness_id, request.priority
                )
            self.failures[series.names.target] += 1
        series.errors[ERROR_CODES.get(outcome, OTHER_ERROR_CODE)] += 1

    def listed(self) -> None:
        """The picker answered what the pool serves."""
        self.decisions["listed"] += 1

    def explained(self, pick: str, request_id: bytes, explanation: Explanation) -> None:
        """One decision to keep for people."""
        self.ring.add(pick, request_id, explanation)

    def rewritten(self, rewrite: str, model: str, target: str) -> None:
        """One request that a rewrite's rule has decided about."""
        key = (rewrite, model, target)
        if key not in self.rewrites and len(self.rewrites) >= REWRITES_MAX:
            key = (rewrite, OTHER_MODELS, target)
        self.rewrites[key] += 1

    def settled(self, event: Event, ended: list[Settled]) -> None:
        """Requests that have ended. Usage counts although the reservation was released before."""
        if ended or isinstance(event, Finished):
            self._settled.append((event, ended))
            if len(self._settled) < NOTES_MAX:
                return
        elif not isinstance(event, Tick):
            return
        self.count()

    def _learn(self, names: tuple[str, str, str, int]) -> Series:
        series = self.table.series(*names)
        if len(self._known) < KNOWN_NAMES_MAX:
            self._known[names] = series
        return series

    # -- when somebody looks ---------------------------------------------------------------

    def count(self) -> None:
        """Makes counts of all notes. To be called before an endpoint leaves the pool too."""
        if self._chosen:
            self._count_chosen()
        if self._settled:
            self._count_settled()

    def _count_chosen(self) -> None:
        notes, self._chosen = self._chosen, []
        columns = self.scheduler.columns
        self.decisions["chosen"] += len(notes)
        sizes: dict[Series, list[int]] = {}
        for series, slot, size, *_ in notes:
            self.attempts[series.names.target, columns.name[slot], columns.address[slot]] += 1
            sizes.setdefault(series, []).append(size)
        for series, found in sizes.items():
            series.chosen += len(found)
            series.sizes.add(found)
        prompts = [(note[3], note[4]) for note in notes if note[4]]
        self.hit_bytes.add([matched for matched, _ in prompts])
        self.hit_ratio.add([matched / size for matched, size in prompts])
        seconds = [note[5] for note in notes]
        self.seconds.add(seconds)
        self.published_seconds.add(seconds)
        self.answer_seconds.add([note[6] for note in notes])

    def _count_settled(self) -> None:
        notes, self._settled = self._settled, []
        answers: dict[tuple[Series, bool], list[Finished]] = {}
        for event, ended in notes:
            prompt_tokens = 0
            if isinstance(event, Finished):
                self._count_finished(event)
                prompt_tokens = event.prompt_tokens
            for one in ended:
                taken = one.reservation
                self.released[_reason(one.event)] += 1
                if prompt_tokens and taken.prompt_bytes:
                    share = taken.matched_bytes / taken.prompt_bytes
                    self.tokens["cached_predicted"] += round(prompt_tokens * share)
                series = self._open.pop(taken.pick, None)
                if series is None:
                    continue
                series.ended += 1
                if isinstance(event, Finished):
                    answers.setdefault((series, taken.stream), []).append(event)
        for (series, streamed), events in answers.items():
            series.took(events, streamed=streamed)

    def _count_finished(self, event: Finished) -> None:
        self.finished[event.code] += 1
        if event.attempts > 1:
            self.retried += 1
        if event.prompt_tokens or event.completion_tokens:
            self.usages += 1
            self.tokens["prompt"] += event.prompt_tokens
            self.tokens["completion"] += event.completion_tokens
            self.tokens["cached"] += event.cached_tokens or 0


def _reason(event: Event) -> str:
    if isinstance(event, Finished):
        return "finished"
    if isinstance(event, ProxyGone):
        return "proxy_gone"
    assert isinstance(event, Tick | Doubted)
    return "expired"
