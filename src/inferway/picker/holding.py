"""The pump of a pool's hold queue: keeps who waits, one timer, and counts.

Knows the loop and the machine in ``scheduling.holding``; knows nothing of requests.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Protocol

from inferway.base.clock import Clock
from inferway.scheduling.holding import (
    Arrived,
    Endpoints,
    Event,
    Hold,
    HoldQueue,
    Left,
    Limited,
    Limits,
    Refuse,
    Release,
    Stopping,
    TimePassed,
)


class Waiter(Protocol):
    """A request that waits; is told one of these once, or nothing after it left."""

    def released(self) -> None:
        """There are endpoints."""
        ...

    def refused(self, refusal: Refuse) -> None:
        """There were none for as long as this request may wait."""
        ...


class Holder:
    """The requests of one pool that wait for its first endpoint."""

    def __init__(self, clock: Clock) -> None:
        self.queue = HoldQueue()
        # Whether requests need not come here; each request asks, so it is a plain attribute.
        self.passing = True
        # Ends of waiting: ``released``, ``left``, and the reasons of refusals.
        self.ended: Counter[str] = Counter()
        self.waited_seconds = 0.0
        self._loop = asyncio.get_running_loop()
        self._monotonic = clock.monotonic
        self._waiters: dict[int, Waiter] = {}
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def oldest_seconds(self) -> float:
        """How long the first of the queue has waited."""
        return self.queue.oldest_seconds(self._monotonic())

    def enter(self, size: int, waiter: Waiter) -> int | Refuse:
        """The key to leave with, or why the request can not wait."""
        self._count += 1
        answer = self.queue.handle(Arrived(self._count, size), self._monotonic())[0]
        if not isinstance(answer, Hold):
            assert isinstance(answer, Refuse)
            self.ended[answer.why] += 1
            return answer
        self._waiters[self._count] = waiter
        self._set_timer()
        return self._count

    def leave(self, key: int) -> None:
        """The client is gone; its waiter hears nothing more."""
        if self._waiters.pop(key, None) is not None:
            self.ended["left"] += 1
            self._handle(Left(key))

    def set_limits(self, limits: Limits) -> None:
        """How much may wait from here on."""
        if limits != self.queue.limits:
            self._handle(Limited(limits))

    def set_endpoints(self, count: int) -> None:
        """How many endpoints there are."""
        self._handle(Endpoints(count))

    def stop(self) -> None:
        """Refuses all that wait."""
        self._handle(Stopping())
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _handle(self, event: Event) -> None:
        for command in self.queue.handle(event, self._monotonic()):
            waiter = self._waiters.pop(command.key)
            if isinstance(command, Release):
                self.ended["released"] += 1
                self.waited_seconds += command.waited_seconds
                waiter.released()
            elif isinstance(command, Refuse):
                self.ended[command.why] += 1
                self.waited_seconds += command.waited_seconds
                waiter.refused(command)
        self._set_timer()

    def _set_timer(self) -> None:
        self.passing = self.queue.passing
        due = self.queue.wake_at
        if self._timer is not None:
            if due == self._timer_at:
                return
            self._timer.cancel()
            self._timer = None
        if due is not None:
            self._timer_at = due
            self._timer = self._loop.call_later(max(0.0, due - self._monotonic()), self._woken)

    def _woken(self) -> None:
        self._timer = None
        self._handle(TimePassed())
