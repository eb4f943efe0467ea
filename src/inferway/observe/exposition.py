"""A scrape's answer: the figures of all sources under the names of the catalogue."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import Metric as Lines
from prometheus_client.registry import Collector

from inferway.observe.metric import Distribution, Family, Kind, Metric, Rows, Source


class Exposition:
    """What a program shows; ``families`` are those whose names it uses."""

    def __init__(
        self,
        catalogue: Mapping[str, Metric],
        families: frozenset[Family],
        sources: Iterable[Source],
    ) -> None:
        self._catalogue = catalogue
        self._families = families
        self._sources = tuple(sources)

    def text(self, accept: str = "") -> tuple[bytes, str]:
        """The page and its content type: OpenMetrics if ``accept`` asks for it."""
        encode, kind = choose_encoder(accept)
        registry = CollectorRegistry()
        registry.register(_Page(list(self._lines())))
        return encode(registry), kind

    def _lines(self) -> Iterator[Lines]:
        found: dict[str, list[Rows]] = {}
        for source in self._sources:
            for name, rows in source.read():
                found.setdefault(name, []).append(rows)
        unknown = found.keys() - self._catalogue.keys()
        assert not unknown, f"not in the catalogue: {sorted(unknown)}"
        for metric in self._catalogue.values():
            parts = found.get(metric.name, ())
            if metric.family in self._families and any(parts):
                yield _lines(metric, parts)


class _Page(Collector):
    def __init__(self, lines: list[Lines]) -> None:
        self._lines = lines

    def collect(self) -> Iterable[Lines]:
        return self._lines


def _lines(metric: Metric, parts: Iterable[Rows]) -> Lines:
    rows = _merged(parts)
    if metric.kind is Kind.HISTOGRAM:
        histogram = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        bounds = [*map(repr, metric.buckets), "+Inf"]
        for labels, value in rows.items():
            assert isinstance(value, Distribution)
            pairs = list(zip(bounds, accumulate(value.counts), strict=True))
            histogram.add_metric(labels, pairs, value.sum)
        return histogram
    kind = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
    plain = kind(metric.name, metric.help, labels=metric.labels)
    for labels, value in rows.items():
        assert isinstance(value, int | float)
        plain.add_metric(labels, value)
    return plain


def _merged(parts: Iterable[Rows]) -> Rows:
    """Rows of all sources; where two have the same labels, as of pools without one, their sum."""
    merged: dict[tuple[str, ...], float | Distribution] = {}
    for rows in parts:
        for labels, value in rows.items():
            before = merged.get(labels)
            merged[labels] = value if before is None else _sum(before, value)
    return merged


def _sum(one: float | Distribution, other: float | Distribution) -> float | Distribution:
    if isinstance(one, Distribution):
        assert isinstance(other, Distribution)
        counts = [a + b for a, b in zip(one.counts, other.counts, strict=True)]
        return Distribution(counts, one.sum + other.sum)
    assert not isinstance(other, Distribution)
    return one + other
