"""How good the guess of cached prefixes is, measured by what servers report in ``usage``."""

from __future__ import annotations

from bisect import bisect_left

# Differences in tokens; a block of vLLM has 16.
DIFFERENCE_BUCKETS = (0.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0)


class Precision:
    """Sums over requests whose server told its cached tokens.

    ``both`` are tokens that were predicted and cached: over ``predicted`` it is the precision, over
    ``cached`` the recall.
    """

    def __init__(self) -> None:
        self.predicted = 0.0
        self.cached = 0.0
        self.both = 0.0
        # Requests by how far the prediction was off, and the sum of that.
        self.counts = [0] * (len(DIFFERENCE_BUCKETS) + 1)
        self.difference = 0.0

    def note(self, predicted: float, cached: float) -> None:
        """One request, in tokens."""
        difference = abs(predicted - cached)
        self.predicted += predicted
        self.cached += cached
        self.both += min(predicted, cached)
        self.counts[bisect_left(DIFFERENCE_BUCKETS, difference)] += 1
        self.difference += difference
