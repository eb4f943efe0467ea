"""vLLM's API server in front of the engine: one process that does one thing at a time.

It takes a request apart before the engine sees it, and turns tokens into text and events before
the client sees them. With a large model this hides behind the steps; with a small one it is most of
what a client waits for. Knows no clock: callers pass the time.
"""

from __future__ import annotations

from inferway.simulator.engine.profiles import Profile


class Frontend:
    """When the API server is done with what it is given, in the order in which it is given."""

    __slots__ = ("_free", "_handover_seconds", "_request_seconds", "_token_seconds")

    def __init__(self, profile: Profile) -> None:
        self._request_seconds = profile.request_seconds
        self._token_seconds = profile.token_seconds
        self._handover_seconds = profile.handover_seconds
        self._free = 0.0

    def take(self, now: float) -> float:
        """A request comes in; returns when the engine gets it."""
        return self._work(now, self._request_seconds) + self._handover_seconds

    def tell(self, now: float, sequences: int) -> float:
        """A step yields tokens of some sequences; returns when clients get them."""
        return self._work(now, self._token_seconds * sequences)

    def _work(self, now: float, seconds: float) -> float:
        if seconds == 0.0:
            return now
        self._free = max(self._free, now) + seconds
        return self._free
