"""Up to which saturation each band may go: the usage-limit policies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol


class UsageLimit(Protocol):
    """Ceilings of saturation."""

    def ceilings(self, priorities: Sequence[int], saturation: float) -> Sequence[float]:
        """One for each priority, highest first; a band waits while saturation is at its own."""
        ...


class Static:
    """``static-usage-limit-policy``: the same for all."""

    def __init__(self, threshold: float = 1.0) -> None:
        self.threshold = threshold

    def ceilings(self, priorities: Sequence[int], saturation: float) -> Sequence[float]:
        return [self.threshold] * len(priorities)


class OnlySheddable:
    """Flow control that is off: what may be shed goes up to saturation 1, the others always."""

    def ceilings(self, priorities: Sequence[int], saturation: float) -> Sequence[float]:
        return [1.0 if priority < 0 else math.inf for priority in priorities]


class Holdback:
    """``priority-holdback-policy``: lower bands stop earlier and leave room for higher ones.

    ``by_value`` spaces the ceilings by the priorities' values and not by their ranks.
    """

    def __init__(self, lowest: float, highest: float = 1.0, *, by_value: bool = False) -> None:
        self.lowest = lowest
        self.highest = highest
        self.by_value = by_value

    def ceilings(self, priorities: Sequence[int], saturation: float) -> Sequence[float]:
        count = len(priorities)
        if count < 2:
            return [self.highest] * count
        span = self.highest - self.lowest
        if self.by_value:
            top, width = priorities[0], priorities[0] - priorities[-1]
            return [self.highest - span * (top - p) / width for p in priorities]
        return [self.highest - span * rank / (count - 1) for rank in range(count)]


class SoftReflective:
    """``soft-reflective-ceiling-policy``: the fuller the pool, the lower the lower bands' ceiling.

    Rank i of N may go to 1 - i * saturation / (N - 1). A band beyond that is let through at
    one of round(saturation / (1 - saturation)) questions.
    """

    def __init__(self) -> None:
        self._asked: dict[int, int] = {}

    def ceilings(self, priorities: Sequence[int], saturation: float) -> Sequence[float]:
        count = len(priorities)
        if count < 2:
            return [1.0] * count
        found = []
        for rank, priority in enumerate(priorities):
            ceiling = 1.0 - rank * saturation / (count - 1)
            if saturation >= ceiling and saturation < 1.0:
                asked = self._asked.get(priority, 0) + 1
                every = max(1, round(saturation / (1.0 - saturation)))
                if asked >= every:
                    ceiling, asked = 1.0, 0
                self._asked[priority] = asked
            found.append(ceiling)
        if len(self._asked) > count:
            self._asked = {p: n for p, n in self._asked.items() if p in priorities}
        return found
