"""How fast a pool takes requests, and when somebody who finds no room should come back."""

from __future__ import annotations

# Times in which half of what was seen is forgotten.
HALF_LIFE_SECONDS = 10.0
# Nobody is told to come back sooner: a client that comes at once only makes it worse.
RETRY_SECONDS_MIN = 1.0
# Nobody is sent away for longer: by then the figure means nothing.
RETRY_SECONDS_MAX = 60.0


class DrainMeter:
    """Requests per second that servers take, lately."""

    def __init__(self) -> None:
        self._count = 0.0
        self._seconds = 0.0
        self._at: float | None = None

    def note(self, requests: int, now: float) -> None:
        """So many went since the last note."""
        if self._at is None:
            self._at = now
        passed = max(now - self._at, 0.0)
        if passed:
            keep = 0.5 ** (passed / HALF_LIFE_SECONDS)
            self._count *= keep
            self._seconds = self._seconds * keep + passed
            self._at = now
        self._count += requests

    def per_second(self) -> float:
        """0 where nothing was seen."""
        return self._count / self._seconds if self._seconds > 0 else 0.0

    def retry_seconds(self, ahead: int) -> float:
        """When ``ahead`` requests will have gone."""
        rate = self.per_second()
        seconds = (ahead + 1) / rate if rate > 0 else RETRY_SECONDS_MIN
        return min(max(seconds, RETRY_SECONDS_MIN), RETRY_SECONDS_MAX)
