"""Growing pauses between attempts, with the randomness given as an argument.

Pure: knows numbers only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Jitter = Callable[[], float]
"""A random number in [0, 1)."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pause n is ``base * factor**n``, at most ``cap``, less up to ``spread`` of itself."""

    base_seconds: float = 0.05
    factor: float = 2.0
    cap_seconds: float = 30.0
    spread: float = 0.5

    def seconds(self, failures: int, jitter: Jitter) -> float:
        """The pause after ``failures`` failures in a row (1 is the first)."""
        # 2**60 is above any cap; larger powers would only overflow.
        power = min(max(failures - 1, 0), 60)
        full = min(self.base_seconds * self.factor**power, self.cap_seconds)
        return full * (1.0 - self.spread * jitter())
