"""Requests that wait until an adapter is loaded for them.

Knows names, deadlines and whom to tell; does not know how an adapter gets loaded. Whoever waits is
told exactly once, or leaves before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from inferway.picker.answers import DECIDED_UNAVAILABLE_STATUS, FinalAnswer

# As many held callouts as a burst for one new adapter brings; each holds its body.
WAITING_REQUESTS_MAX = 1000
RETRY_SECONDS = 1.0

Told = Callable[[FinalAnswer | None], None]
"""Told None when the adapter may be there: decide again; else the final answer."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    adapter: str
    told: Told
    since: float
    deadline: float


class AdapterQueue:
    """The waiting requests of one pool, oldest first."""

    def __init__(self) -> None:
        # Ends of waiting by adapter: ``loaded``, ``timeout``, ``failed``, ``left``, ``full``.
        self.ended: Counter[tuple[str, str]] = Counter()
        self.waited_seconds: dict[str, float] = {}
        self._waiting: dict[int, _Waiting] = {}
        self._count = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def enter(self, adapter: str, told: Told, now: float, deadline: float) -> int | FinalAnswer:
        """The key to leave with, or why there is no room to wait."""
        if len(self._waiting) >= WAITING_REQUESTS_MAX:
            self.ended[adapter, "full"] += 1
            return loading(adapter, "and as many requests as may wait for an adapter do so")
        self._count += 1
        self._waiting[self._count] = _Waiting(adapter, told, now, deadline)
        return self._count

    def leave(self, key: int) -> None:
        """The client is gone."""
        left = self._waiting.pop(key, None)
        if left is not None:
            self.ended[left.adapter, "left"] += 1

    def since(self) -> dict[str, float]:
        """Since when the first request for each adapter waits."""
        result: dict[str, float] = {}
        for one in self._waiting.values():
            result.setdefault(one.adapter, one.since)
        return result

    def counts(self) -> Counter[str]:
        """Waiting requests by adapter."""
        return Counter(one.adapter for one in self._waiting.values())

    def release(self, adapters: Iterable[str], now: float) -> None:
        """These may be there."""
        ready = set(adapters)
        self._end([k for k, w in self._waiting.items() if w.adapter in ready], "loaded", None, now)

    def refuse(self, adapter: str, answer: FinalAnswer, now: float) -> None:
        """There is no hope for this one."""
        keys = [k for k, w in self._waiting.items() if w.adapter == adapter]
        self._end(keys, "failed", answer, now)

    def expire(self, now: float, why: Callable[[str], str]) -> None:
        """Ends what has waited for too long; ``why`` words what an adapter waits for."""
        for key in [k for k, w in self._waiting.items() if w.deadline <= now]:
            one = self._waiting.get(key)
            if one is not None:
                self._end([key], "timeout", loading(one.adapter, why(one.adapter)), now)

    def stop(self, now: float) -> None:
        """The picker ends."""
        for key in list(self._waiting):
            one = self._waiting.get(key)
            if one is not None:
                answer = loading(one.adapter, "and this picker is stopping")
                self._end([key], "failed", answer, now)

    def _end(self, keys: list[int], how: str, answer: FinalAnswer | None, now: float) -> None:
        # All of them are taken out before anybody is told, because who is told may enter again.
        ended = [one for key in keys if (one := self._waiting.pop(key, None)) is not None]
        for one in ended:
            self.ended[one.adapter, how] += 1
            before = self.waited_seconds.get(one.adapter, 0.0)
            self.waited_seconds[one.adapter] = before + now - one.since
            one.told(answer)


def loading(adapter: str, why: str) -> FinalAnswer:
    """It takes longer than a request may wait."""
    return FinalAnswer(
        DECIDED_UNAVAILABLE_STATUS,
        f"The adapter `{adapter}` is not loaded yet, {why}. Try again in a moment.",
        "model",
        "adapter_loading",
        RETRY_SECONDS,
    )


def failed(adapter: str, why: str) -> FinalAnswer:
    """The servers do not take it; trying again at once does not help."""
    return FinalAnswer(
        DECIDED_UNAVAILABLE_STATUS,
        f"The adapter `{adapter}` can not be loaded: {why}",
        "model",
        "adapter_failed",
    )
