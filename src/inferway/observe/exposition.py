"""A scrape's answer: the figures of all sources under the names of the catalogue.

A page of many series takes a second to write, so that it is written in pieces: between them a
program does what is more urgent. The rows of one metric are of one moment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate, islice

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

# Lines of a piece; a line takes some ten microseconds.
PIECE_LINES = 256
_END = b"# EOF\n"


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
        pieces, kind = self.pieces(accept)
        return b"".join(pieces), kind

    def pieces(self, accept: str = "") -> tuple[Iterator[bytes], str]:
        """The same in pieces, some of them empty, that take a few milliseconds each."""
        encode, kind = choose_encoder(accept)
        return self._pieces(encode), kind

    def _pieces(self, encode: Callable[[Collector], bytes]) -> Iterator[bytes]:
        found: dict[str, list[Rows]] = {}
        for source in self._sources:
            for name, rows in source.read():
                found.setdefault(name, []).append(rows)
                yield b""
        unknown = found.keys() - self._catalogue.keys()
        assert not unknown, f"not in the catalogue: {sorted(unknown)}"
        for metric in self._catalogue.values():
            parts = found.get(metric.name, ())
            if metric.family not in self._families or not any(parts):
                continue
            merged = iter(_merged(parts).items())
            size = max(1, PIECE_LINES // (len(metric.buckets) + 3))
            head = True
            while some := dict(islice(merged, size)):
                text = encode(_Page(_lines(metric, some))).removesuffix(_END)
                yield text if head else _without_head(text)
                head = False
        yield encode(CollectorRegistry())


class _Page(Collector):
    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    def collect(self) -> Iterable[Lines]:
        return (self._lines,)


def _without_head(text: bytes) -> bytes:
    """What follows the comments, which a page has once for each metric."""
    at = 0
    while text.startswith(b"#", at):
        at = text.index(b"\n", at) + 1
    return text[at:]


def _lines(metric: Metric, rows: Rows) -> Lines:
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
