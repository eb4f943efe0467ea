"""What a metric is: values of the catalogue, and what a program tells of one at a scrape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, Protocol, TypeAlias

import msgspec


class Kind(StrEnum):
    """Prometheus' types."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Family(StrEnum):
    """Who has published the name; the values are those of ``--metric-families``."""

    OWN = "own"
    GIE = "gie"
    LLM_D = "llm-d"


class Metric(msgspec.Struct, frozen=True):
    """One metric. A counter's name ends in ``_total``, as a scrape shows it.

    ``buckets`` are a histogram's upper bounds in ascending order, without infinity. ``note`` says
    where the figure differs from what others mean by the name.
    """

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str
    family: Family = Family.OWN
    buckets: tuple[float, ...] = ()
    note: str = ""


class Distribution(msgspec.Struct, frozen=True):
    """A histogram's counts, one for each bucket and one for what is above all, and the sum."""

    counts: Sequence[int]
    sum: float


# Values of the labels, a tuple of texts in the catalogue's order -> what stands there. The type of
# the key is open because a mapping of pairs is none of tuples of any length to a type checker.
Rows: TypeAlias = Mapping[Any, float | Distribution]


class Source(Protocol):
    """Who knows the figures of some metrics."""

    def read(self) -> Iterator[tuple[str, Rows]]:
        """Name of a metric and its rows, for each metric that this source knows."""
        ...
