"""Counts of requests by model, fairness id and priority, as few as a scrape can bear.

Clients choose model names and fairness ids, so that both are bounded: what comes after the bound is
counted as ``other``, for the life of the process, as the published pickers do it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import msgspec

from inferway.observe.catalogue_gie import (
    INPUT_TOKENS_BUCKETS,
    LATENCY_BUCKETS,
    NTPOT_BUCKETS,
    OUTPUT_TOKENS_BUCKETS,
    REQUEST_SIZE_BUCKETS,
    RESPONSE_SIZE_BUCKETS,
)
from inferway.observe.catalogue_llm_d import TPOT_BUCKETS
from inferway.observe.histogram import Histogram
from inferway.scheduling.events import Finished

# Distinct pairs of model and target, and distinct fairness ids; as the published pickers have it.
NAMES_MAX = 1000
# Combinations of them and priorities. Each is 250 lines of a scrape, so that this many are 30 MB.
SERIES_MAX = 1000
OTHER = "other"
# What the published pickers call the flow of requests that name none.
DEFAULT_FLOW = "default-flow"


class Names(msgspec.Struct, frozen=True):
    """Values of the labels. ``model`` is the client's name, ``target`` the one that servers see."""

    model: str
    target: str
    fairness_id: str
    priority: int

    @property
    def labels(self) -> tuple[str, str, str, str]:
        """In the catalogue's order."""
        return self.model, self.target, self.fairness_id, str(self.priority)


class Series:
    """The requests that have the same names."""

    __slots__ = (
        "answer_sizes",
        "answers",
        "cached_tokens",
        "chosen",
        "duration",
        "ended",
        "errors",
        "input_tokens",
        "names",
        "ntpot",
        "output_tokens",
        "sizes",
        "tpot",
        "ttft",
    )

    def __init__(self, names: Names) -> None:
        self.names = names
        self.chosen = 0
        self.ended = 0
        self.errors: Counter[str] = Counter()
        self.sizes = Histogram(REQUEST_SIZE_BUCKETS)
        self.answer_sizes = Histogram(RESPONSE_SIZE_BUCKETS)
        self.duration = Histogram(LATENCY_BUCKETS)
        self.input_tokens = Histogram(INPUT_TOKENS_BUCKETS)
        self.output_tokens = Histogram(OUTPUT_TOKENS_BUCKETS)
        self.cached_tokens = Histogram(INPUT_TOKENS_BUCKETS)
        self.ntpot = Histogram(NTPOT_BUCKETS)
        self.tpot = Histogram(TPOT_BUCKETS)
        # Answers that came at once, and streamed ones.
        self.ttft = (Histogram(LATENCY_BUCKETS), Histogram(LATENCY_BUCKETS))
        # In the order of ``ttft``.
        self.answers = (Answers(self, streamed=False), Answers(self, streamed=True))


class Answers:
    """Reports of one series that are not counted yet, streamed answers apart from the others."""

    __slots__ = ("events", "series", "streamed")

    def __init__(self, series: Series, *, streamed: bool) -> None:
        self.series = series
        self.streamed = streamed
        self.events: list[Finished] = []

    def count(self) -> None:
        """Counts them. Only what a server answered well has times and sizes."""
        series, events = self.series, self.events
        self.events = []
        series.ended += len(events)
        good = [e for e in events if 200 <= e.code < 300 and not e.failed]
        if len(good) < len(events):
            failed = len([1 for e in events if e.code >= 400 or e.failed])
            if failed:
                series.errors["ModelServerError"] += failed
        series.answer_sizes.add([e.answer_bytes for e in good if e.answer_bytes is not None])
        series.input_tokens.add([e.prompt_tokens for e in good if e.prompt_tokens])
        series.cached_tokens.add([e.cached_tokens for e in good if e.cached_tokens is not None])
        series.output_tokens.add([e.completion_tokens for e in good if e.completion_tokens])
        timed = [
            (e.first_byte_seconds, e.last_byte_seconds, e.duration_seconds, e.completion_tokens)
            for e in good
            if e.first_byte_seconds is not None
        ]
        series.ttft[self.streamed].add([first for first, _, _, _ in timed])
        whole = [(took, tokens) for _, _, took, tokens in timed if took is not None]
        series.duration.add([took for took, _ in whole])
        series.ntpot.add([took / tokens for took, tokens in whole if tokens])
        if self.streamed:
            gaps = [
                (last - first) / (tokens - 1)
                for first, last, _, tokens in timed
                if tokens > 1 and last is not None
            ]
            series.tpot.add(gaps)


class SeriesTable:
    """All of them."""

    def __init__(self, *, names_max: int = NAMES_MAX, series_max: int = SERIES_MAX) -> None:
        self._names_max = names_max
        self._series_max = series_max
        self._models: set[tuple[str, str]] = set()
        self._flows: set[str] = set()
        self._found: dict[Names, Series] = {}

    def __iter__(self) -> Iterator[Series]:
        return iter(self._found.values())

    def series(self, model: str, target: str, fairness_id: str, priority: int) -> Series:
        """Where requests of these names are counted."""
        names = self._bounded(model, target, fairness_id or DEFAULT_FLOW, priority)
        found = self._found.get(names)
        if found is None:
            if len(self._found) >= self._series_max:
                names = Names(OTHER, OTHER, OTHER, 0)
            found = self._found.setdefault(names, Series(names))
        return found

    def of_stranger(self, fairness_id: str, priority: int) -> Series:
        """Where requests for a model are counted that nobody serves, whatever they call it."""
        return self.series(OTHER, OTHER, fairness_id, priority)

    def _bounded(self, model: str, target: str, fairness_id: str, priority: int) -> Names:
        pair = (model, target)
        if pair not in self._models:
            if len(self._models) < self._names_max:
                self._models.add(pair)
            else:
                model = target = OTHER
        if fairness_id not in self._flows:
            if len(self._flows) < self._names_max:
                self._flows.add(fairness_id)
            else:
                fairness_id = OTHER
        return Names(model, target, fairness_id, priority)
