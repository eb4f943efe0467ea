"""Keys that need a look, and the workers that look.

Knows asyncio only. A key that is added while it waits is one entry; a key that is added while it
is worked on comes back afterwards, so one key is never in two hands.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from inferway.base.errors import InferwayError
from inferway.cluster.backoff import Backoff, Jitter
from inferway.cluster.errors import ConflictError

_log = logging.getLogger(__name__)
K = TypeVar("K", bound=Hashable)

# There is one key for each object, so this is ten times the Pods of the largest cluster.
KEYS_MAX = 1_500_000
RECONCILE_BACKOFF = Backoff(base_seconds=0.02, cap_seconds=30.0)
WORKERS = 4


class WorkQueue(Generic[K]):
    """Coalesces keys, in the order of their first arrival."""

    def __init__(self, name: str = "", *, keys_max: int = KEYS_MAX) -> None:
        self.name = name
        self.refused = 0
        self._keys_max = keys_max
        self._order: deque[K] = deque()
        self._waiting: set[K] = set()
        self._working: set[K] = set()
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._arrival = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing is worked on; keys that come later do not count."""
        return not self._waiting and not self._working

    def add(self, key: K) -> bool:
        """False, and counted, if the queue is full."""
        if key in self._waiting:
            return True
        if len(self._waiting) >= self._keys_max:
            self.refused += 1
            if self.refused == 1:
                _log.error("a work queue is full", extra={"data": {"queue": self.name}})
            return False
        self._waiting.add(key)
        if key not in self._working:
            self._order.append(key)
            self._arrival.set()
        return True

    def add_after(self, key: K, seconds: float) -> None:
        """Adds the key later; of several such wishes the earliest is kept."""
        if seconds <= 0:
            self.add(key)
            return
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if timer is not None:
            if timer.when() <= loop.time() + seconds:
                return
            timer.cancel()
        self._timers[key] = loop.call_later(seconds, self._ring, key)

    def _ring(self, key: K) -> None:
        self._timers.pop(key, None)
        self.add(key)

    async def get(self) -> K:
        """The next key, which is the caller's until ``done``."""
        while not self._order:
            self._arrival.clear()
            await self._arrival.wait()
        key = self._order.popleft()
        self._waiting.discard(key)
        self._working.add(key)
        return key

    def done(self, key: K) -> None:
        self._working.discard(key)
        if key in self._waiting:
            self._order.append(key)
            self._arrival.set()

    def close(self) -> None:
        """Forgets the timers."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()


class RetryLater(Exception):  # noqa: N818 - a wish, not an error
    """A reconciler wants its key again after the back-off; whoever needs to know knows already."""


Reconcile = Callable[[K], Awaitable[float | None]]
"""Brings one key to its wanted state; returns the seconds after which to look again, or None."""


async def run_reconciler(
    queue: WorkQueue[K],
    reconcile: Reconcile[K],
    *,
    workers: int = WORKERS,
    backoff: Backoff = RECONCILE_BACKOFF,
    jitter: Jitter = random.random,
) -> None:
    """Works on keys until cancelled; a key that fails comes back with a growing pause."""
    failures: dict[K, int] = {}

    async def work() -> None:
        while True:
            key = await queue.get()
            try:
                again = await reconcile(key)
                failures.pop(key, None)
                if again is not None:
                    queue.add_after(key, again)
            except Exception as error:  # One bad object must not stop the others.
                failures[key] = failures.get(key, 0) + 1
                _note(queue.name, key, failures[key], error)
                queue.add_after(key, backoff.seconds(failures[key], jitter))
            finally:
                queue.done(key)

    try:
        async with asyncio.TaskGroup() as group:
            for number in range(workers):
                group.create_task(work(), name=f"{queue.name}-worker-{number}")
    finally:
        queue.close()


def _note(queue: str, key: Hashable, count: int, error: Exception) -> None:
    data = {"queue": queue, "key": str(key), "failures": count, "error": str(error)}
    if isinstance(error, ConflictError | RetryLater):
        # Someone else wrote first, which the next look will show.
        _log.debug("a look is repeated", extra={"data": data})
    elif isinstance(error, InferwayError):
        _log.warning("a look failed", extra={"data": data})
    else:
        _log.exception("a look failed", extra={"data": data})
