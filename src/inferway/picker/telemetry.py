"""What the picker counts of one pool: notes on the hot path, counts when somebody looks.

A note is one tuple in a list, so that a request pays a fraction of a microsecond while it waits;
notes become counts in batches, which costs about one more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from operator import sub

from inferway.observe.catalogue_gie import (
    HIT_BYTES_BUCKETS,
    HIT_RATIO_BUCKETS,
    LATENCY_BUCKETS,
    SCHEDULING_BUCKETS,
)
from inferway.observe.catalogue_own import DECISION_BUCKETS
from inferway.observe.histogram import Histogram
from inferway.picker.debug import DecisionRing
from inferway.picker.series import Answers, Series, SeriesTable
from inferway.picker.service import Asked
from inferway.scheduling.accounting import Settled
from inferway.scheduling.decision import Decision, Explanation
from inferway.scheduling.events import Event, Finished, ProxyGone, PushedOut, Tick
from inferway.scheduling.pool import PoolScheduler

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
# The bounds of our own metric and of the published ones, so that a time is looked up once for all.
SECONDS_BUCKETS = tuple(sorted({*DECISION_BUCKETS, *SCHEDULING_BUCKETS}))
# What ended a reservation besides a report and time, by its event.
RELEASED: Mapping[type, str] = {ProxyGone: "proxy_gone", PushedOut: "pushed_out"}
OTHER_ERROR_CODE = "ServiceUnavailable"


class Telemetry:
    """Counts of one pool. Read them after ``count``."""

    def __init__(self, pool: str, scheduler: PoolScheduler, ring: DecisionRing) -> None:
        self.pool = pool
        self.scheduler = scheduler
        self.ring = ring
        self.decisions: Counter[str] = Counter()
        # Time of decisions for requests that were answered at once, of those for requests that had
        # waited, and from question to answer of the latter.
        self.at_once = Histogram(SECONDS_BUCKETS)
        self.after_waiting = Histogram(SECONDS_BUCKETS)
        self.with_waiting = Histogram(SECONDS_BUCKETS)
        self.hit_ratio = Histogram(HIT_RATIO_BUCKETS)
        self.hit_bytes = Histogram(HIT_BYTES_BUCKETS)
        # (model, endpoint's name, its address) -> decisions for it.
        self.attempts: Counter[tuple[str, str, str]] = Counter()
        self.failures: Counter[str] = Counter()
        self.finished: Counter[int] = Counter()
        self.released: Counter[str] = Counter()
        self.tokens: Counter[str] = Counter()
        self.rewrites: Counter[tuple[str, str, str]] = Counter()
        # (model, stages that other servers do) -> decisions.
        self.stages: Counter[tuple[str, str]] = Counter()
        # Model -> times to first token, as explained decisions predict them. Only models that a
        # server has are decided about.
        self.predicted_ttft: dict[str, Histogram] = {}
        # Prompt tokens that the prefix index expected in caches.
        self.predicted_tokens = 0.0
        self.usages = 0
        self.retried = 0
        self.table = SeriesTable()
        # Those of requests that say nothing but the model, which most do.
        self._plain: dict[str, Series] = {}
        self._known: dict[tuple[str, str, str, int], Series] = {}
        # Where the answer of each request under way is noted, by pick id. As many as there are
        # reservations.
        self._open: dict[str, Answers] = {}
        # Series, slot; bytes of body, of prompt in cache, of prompt; when the decision began and
        # ended and the question came.
        self._chosen: list[tuple[Series, int, int, int, int, float, float, float]] = []
        # Reports of requests that nothing else is known of any more.
        self._strangers: list[Finished] = []
        # Reports that are not counted, here and in the series.
        self._ends = 0
        # Prompt tokens of an answer, and which share of them was expected in a cache.
        self._hits: list[tuple[int, float]] = []

    # -- hot path --------------------------------------------------------------------------

    def chosen(
        self, pick: str, asked: Asked, decision: Decision, began: float, ended: float
    ) -> None:
        """A server was chosen; the decision began and ended at these times."""
        request = asked.request
        model, alias = request.model, asked.alias
        if alias or request.fairness_id or request.priority:
            names = (alias or model, model, request.fairness_id, request.priority)
            series = self._known.get(names) or self._learn(names)
        else:
            series = self._plain.get(model) or self._learn((model, model, "", 0))
        if decision.stages:
            self.stages[series.names.target, decision.stages] += 1
        self._open[pick] = series.answers[request.stream]
        self._chosen.append(
            (
                series,
                decision.slots[0],
                request.body_bytes,
                decision.matched_bytes,
                len(request.prompt),
                began,
                ended,
                asked.arrived,
            )
        )
        if len(self._chosen) >= NOTES_MAX:
            self.count()

    def refused(self, outcome: str, seconds: float, asked: Asked | None) -> None:
        """The picker gave the final answer itself; ``asked`` as far as it was understood."""
        self.decisions[outcome] += 1
        self.at_once.add((seconds,))
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
        for one in explanation.candidates:
            if one["endpoint"] == explanation.chosen[0]:
                predicted = self.predicted_ttft.setdefault(
                    explanation.model, Histogram(LATENCY_BUCKETS)
                )
                predicted.add((one["predicted_ttft_seconds"],))

    def rewritten(self, rewrite: str, model: str, target: str) -> None:
        """One request that a rewrite's rule has decided about."""
        key = (rewrite, model, target)
        if key not in self.rewrites and len(self.rewrites) >= REWRITES_MAX:
            key = (rewrite, OTHER_MODELS, target)
        self.rewrites[key] += 1

    def settled(self, event: Event, ended: list[Settled]) -> None:
        """Requests that have ended. Usage counts although the reservation was released before."""
        if isinstance(event, Finished):
            found = self._strangers
            for one in ended:
                answers = self._open.pop(one.reservation.pick, None)
                if one.event is not event:
                    self._let_go(one, answers)
                    continue
                taken = one.reservation
                if taken.matched_bytes:
                    share = taken.matched_bytes / taken.prompt_bytes
                    self._hits.append((event.prompt_tokens, share))
                self.released["finished"] += 1
                if answers is not None:
                    found = answers.events
            found.append(event)
            self._ends += 1
            if self._ends >= NOTES_MAX:
                self.count()
            return
        for one in ended:
            self._let_go(one, self._open.pop(one.reservation.pick, None))
        if isinstance(event, Tick):
            self.count()

    def _let_go(self, one: Settled, answers: Answers | None) -> None:
        """A request whose end nobody told."""
        self.released[RELEASED.get(type(one.event), "expired")] += 1
        if answers is not None:
            answers.series.ended += 1

    def _learn(self, names: tuple[str, str, str, int]) -> Series:
        series = self.table.series(*names)
        if names[0] == names[1] and names[2:] == ("", 0):
            if len(self._plain) < KNOWN_NAMES_MAX:
                self._plain[names[0]] = series
        elif len(self._known) < KNOWN_NAMES_MAX:
            self._known[names] = series
        return series

    # -- when somebody looks ---------------------------------------------------------------

    def count(self) -> None:
        """Makes counts of all notes. To be called before an endpoint leaves the pool too."""
        if self._chosen:
            self._count_chosen()
        if self._ends:
            self._ends = 0
            for series in self.table:
                for answers in series.answers:
                    if answers.events:
                        self._count_finished(answers.events)
                        answers.count()
            self._count_finished(self._strangers)
            self._strangers.clear()
            self.predicted_tokens += sum([tokens * share for tokens, share in self._hits])
            self._hits.clear()

    def _count_chosen(self) -> None:
        notes, self._chosen = self._chosen, []
        serieses, slots, sizes, matched, prompts, began, ended, arrived = zip(*notes, strict=True)
        self.decisions["chosen"] += len(notes)
        columns = self.scheduler.columns
        for series, found in _by_series(serieses, slots).items():
            series.chosen += len(found)
            for slot, count in Counter(found).items():
                name = (series.names.target, columns.name[slot], columns.address[slot])
                self.attempts[name] += count
        for series, found in _by_series(serieses, sizes).items():
            series.sizes.add(found)
        hits = [(hit, size) for hit, size in zip(matched, prompts, strict=True) if hit]
        self.hit_bytes.add([hit for hit, _ in hits])
        self.hit_ratio.add([hit / size for hit, size in hits])
        misses = len(prompts) - prompts.count(0) - len(hits)
        self.hit_bytes.add_zeros(misses)
        self.hit_ratio.add_zeros(misses)
        if began == arrived:
            self.at_once.add(list(map(sub, ended, began)))
            return
        times = list(zip(began, ended, arrived, strict=True))
        self.at_once.add([end - begin for begin, end, came in times if came == begin])
        waited = [(end - begin, end - came) for begin, end, came in times if came != begin]
        self.after_waiting.add([decision for decision, _ in waited])
        self.with_waiting.add([whole for _, whole in waited])

    def _count_finished(self, events: list[Finished]) -> None:
        self.finished.update([e.code for e in events])
        self.retried += len([1 for e in events if e.attempts > 1])
        used = [e for e in events if e.prompt_tokens or e.completion_tokens]
        self.usages += len(used)
        self.tokens["prompt"] += sum([e.prompt_tokens for e in used])
        self.tokens["completion"] += sum([e.completion_tokens for e in used])
        self.tokens["cached"] += sum([e.cached_tokens or 0 for e in used])


def _by_series(serieses: Sequence[Series], values: Sequence[int]) -> Mapping[Series, Sequence[int]]:
    """The values by their series; most often there is one."""
    if len(set(serieses)) == 1:
        return {serieses[0]: values}
    found: dict[Series, list[int]] = {}
    for series, value in zip(serieses, values, strict=True):
        found.setdefault(series, []).append(value)
    return found
