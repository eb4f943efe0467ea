"""What the picker counts, as plain numbers on the hot path and Prometheus families on demand."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from inferway.picker.debug import DecisionRing
from inferway.scheduling.decision import Explanation
from inferway.scheduling.events import Doubted, Event, Finished, ProxyGone, Tick
from inferway.scheduling.pool import PoolScheduler, Settled

# Decisions take tens of microseconds; the last buckets show stalls.
SECONDS_BUCKETS = (25e-6, 50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 0.01, 0.1, 1.0)
# Clients choose the names of models that a generic rule rewrites; the rest of them is one series.
REWRITES_MAX = 1000
OTHER_MODELS = "other"


class Telemetry:
    """Counts of one pool."""

    def __init__(self, pool: str, scheduler: PoolScheduler, ring: DecisionRing) -> None:
        self.pool = pool
        self.scheduler = scheduler
        self.ring = ring
        self.decisions: Counter[str] = Counter()
        self.buckets = [0] * (len(SECONDS_BUCKETS) + 1)
        self.seconds = 0.0
        self.finished: Counter[int] = Counter()
        self.released: Counter[str] = Counter()
        self.tokens: Counter[str] = Counter()
        self.rewrites: Counter[tuple[str, str, str]] = Counter()
        self.usages = 0
        self.retried = 0

    # -- hot path --------------------------------------------------------------------------

    def decided(self, outcome: str, seconds: float) -> None:
        """One answer to a callout."""
        self.decisions[outcome] += 1
        self.buckets[bisect_left(SECONDS_BUCKETS, seconds)] += 1
        self.seconds += seconds

    def explained(self, pick: str, request_id: bytes, explanation: Explanation) -> None:
        """One decision to keep for people."""
        self.ring.add(pick, request_id, explanation)

    def rewritten(self, rewrite: str, model: str, target: str) -> None:
        """One request that a rewrite's rule has decided about."""
        key = (rewrite, model, target)
        if key not in self.rewrites and len(self.rewrites) >= REWRITES_MAX:
            key = (rewrite, OTHER_MODELS, target)
        self.rewrites[key] += 1

    def settled(self, event: Event, ended: Iterable[Settled]) -> None:
        """Requests that have ended. Usage counts although the reservation was released before."""
        prompt_tokens = 0
        if isinstance(event, Finished):
            self._finished(event)
            prompt_tokens = event.prompt_tokens
        for one in ended:
            self.released[_reason(event)] += 1
            taken = one.reservation
            if prompt_tokens and taken.prompt_bytes:
                share = taken.matched_bytes / taken.prompt_bytes
                self.tokens["cached_predicted"] += round(prompt_tokens * share)

    def _finished(self, event: Finished) -> None:
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


class ScrapeView:
    """What the collector may ask of the scraper: address, age in seconds or None, errors."""

    def __init__(self, read: Callable[[], Iterable[tuple[str, float | None, int]]]) -> None:
        self.read = read


class PickerCollector(Collector):
    """Makes families of the counts when Prometheus asks."""

    def __init__(
        self, telemetry: Telemetry, scrapes: ScrapeView, further: Sequence[Collector] = ()
    ) -> None:
        self._telemetry = telemetry
        self._scrapes = scrapes
        self._further = further

    def collect(self) -> Iterator[Metric]:
        t = self._telemetry
        pool = t.pool
        yield _counter(
            "inferway_picker_decisions",
            "Answers to pick callouts by outcome.",
            ("pool", "outcome"),
            {(pool, outcome): count for outcome, count in t.decisions.items()},
        )
        yield self._seconds()
        yield _counter(
            "inferway_picker_requests_finished",
            "Requests that the access log reported, by response code.",
            ("pool", "code"),
            {(pool, str(code)): count for code, count in t.finished.items()},
        )
        yield _counter(
            "inferway_picker_requests_retried",
            "Finished requests that more than one endpoint was tried for.",
            ("pool",),
            {(pool,): t.retried},
        )
        yield _counter(
            "inferway_picker_usage_reports",
            "Finished requests with token usage.",
            ("pool",),
            {(pool,): t.usages},
        )
        yield _counter(
            "inferway_picker_tokens",
            "Tokens: prompt, completion and cached as servers report, cached_predicted as the "
            "prefix index expected.",
            ("pool", "kind"),
            {(pool, kind): count for kind, count in t.tokens.items()},
        )
        yield _counter(
            "inferway_picker_reservations_released",
            "Reservations by what ended them.",
            ("pool", "reason"),
            {(pool, reason): count for reason, count in t.released.items()},
        )
        yield from self._gauges()
        for collector in self._further:
            yield from collector.collect()

    def _seconds(self) -> Metric:
        t = self._telemetry
        family = HistogramMetricFamily(
            "inferway_picker_decision_seconds",
            "Time from a callout to its answer, inside the picker.",
            labels=("pool",),
        )
        total = 0
        rows = []
        for bound, count in zip((*SECONDS_BUCKETS, float("inf")), t.buckets, strict=True):
            total += count
            rows.append(("+Inf" if bound == float("inf") else str(bound), total))
        family.add_metric((t.pool,), rows, t.seconds)
        return family

    def _gauges(self) -> Iterator[Metric]:
        t = self._telemetry
        s = t.scheduler
        pool = t.pool
        one = ("pool",)
        yield _gauge(
            "inferway_picker_endpoints_ready",
            "Endpoints of the pool that are ready.",
            one,
            {(pool,): float(len(s.columns.live))},
        )
        yield _gauge(
            "inferway_picker_reservations",
            "Requests that were picked for and have not ended.",
            one,
            {(pool,): float(len(s.ledger))},
        )
        yield _gauge(
            "inferway_picker_prefix_entries",
            "Pairs of prompt block and endpoint in the prefix index.",
            one,
            {(pool,): float(s.prefixes.entries)},
        )
        yield _gauge(
            "inferway_picker_in_flight",
            "Requests of this picker on an endpoint.",
            ("pool", "endpoint"),
            {(pool, address): float(count) for address, count in s.in_flight().items()},
        )
        scrapes = list(self._scrapes.read())
        yield _counter(
            "inferway_picker_scrape_errors",
            "Questions to a model server that got no usable answer.",
            ("pool", "endpoint"),
            {(pool, address): errors for address, _, errors in scrapes},
        )
        yield _gauge(
            "inferway_picker_scrape_age_seconds",
            "Age of an endpoint's metrics.",
            ("pool", "endpoint"),
            {(pool, address): age for address, age, _ in scrapes if age is not None},
        )


def _counter(
    name: str, text: str, labels: tuple[str, ...], rows: dict[tuple[str, ...], int]
) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for values, count in rows.items():
        family.add_metric(values, count)
    return family


def _gauge(
    name: str, text: str, labels: tuple[str, ...], rows: dict[tuple[str, ...], float]
) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, value in rows.items():
        family.add_metric(values, value)
    return family


def exposition(collector: Collector) -> bytes:
    """The text that Prometheus reads."""
    registry = CollectorRegistry()
    registry.register(collector)
    return generate_latest(registry)
