"""A histogram that is filled in batches."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import repeat

from inferway.observe.metric import Distribution


class Histogram:
    """Counts by upper bound; the last count is of what is above all bounds."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, values: Sequence[float]) -> None:
        """Each of the values."""
        counts = self.counts
        for place in map(bisect_left, repeat(self.bounds), values):
            counts[place] += 1
        self.sum += sum(values)

    def add_zeros(self, count: int) -> None:
        """Zero, this often."""
        self.counts[0] += count

    def read(self) -> Distribution:
        """What stands there now."""
        return Distribution(tuple(self.counts), self.sum)


def total(histograms: Iterable[Histogram]) -> Distribution:
    """The sum of histograms with the same bounds, of one at least."""
    found = list(histograms)
    if len(found) == 1:
        return found[0].read()
    counts = [sum(column) for column in zip(*(h.counts for h in found), strict=True)]
    return Distribution(counts, sum(h.sum for h in found))


def coarser(fine: Distribution, bounds: Sequence[float], wanted: Sequence[float]) -> Distribution:
    """A distribution over ``bounds`` as one over ``wanted``, all of which are among them."""
    counts = [0] * (len(wanted) + 1)
    for bound, count in zip((*bounds, float("inf")), fine.counts, strict=True):
        counts[bisect_left(wanted, bound)] += count
    return Distribution(counts, fine.sum)
