"""One probe of one running container: when to look, and what the answers mean."""

from __future__ import annotations

from dataclasses import dataclass, field

from inferway.api.pods import Probe

# A program that has just begun is looked at more often than its period says, so that it gets
# requests as soon as it can take them. A failed early look does not count.
EARLY_FIRST_SECONDS = 0.1
EARLY_GROWTH = 1.5


@dataclass(slots=True)
class ProbeState:
    """``verdict`` is None until the first counted answer."""

    probe: Probe
    started_at: float
    early: bool
    verdict: bool | None = None
    in_flight: bool = False
    next_at: float = 0.0
    _counted_at: float = field(default=0.0)
    _early_pause: float = EARLY_FIRST_SECONDS
    _successes: int = 0
    _failures: int = 0
    _counts: bool = True

    def __post_init__(self) -> None:
        self.next_at = self._counted_at = self.started_at + self.probe.initial_delay_seconds
        if self.early:
            # A program that just begins to listen is no news for an Event.
            self._counted_at += self.probe.period_seconds

    def due(self, now: float) -> bool:
        return not self.in_flight and now >= self.next_at

    def begin(self, now: float) -> None:
        """A look goes out."""
        self.in_flight = True
        self._counts = now >= self._counted_at
        if self._counts:
            self._counted_at += self.probe.period_seconds
            if self._counted_at <= now:
                self._counted_at = now + self.probe.period_seconds

    def answer(self, passed: bool, now: float) -> bool:
        """Takes an answer; True if it is a failure that counts."""
        self.in_flight = False
        if passed:
            self._successes += 1
            self._failures = 0
            if self._successes >= self.probe.success_threshold:
                self.verdict = True
                self.early = False
        elif self._counts:
            self._failures += 1
            self._successes = 0
            if self._failures >= self.probe.failure_threshold:
                self.verdict = False
        self.next_at = self._counted_at
        if self.early:
            self._early_pause *= EARLY_GROWTH
            self.next_at = min(self._counted_at, now + self._early_pause)
        return not passed and self._counts

    @property
    def failed_for_good(self) -> bool:
        """The failure threshold is reached."""
        return self.verdict is False
