"""When an adapter that failed is tried again. Pure."""

from __future__ import annotations

import math

import msgspec

from inferway.lora.reasons import Problem
from inferway.lora.source import Adapter

# Pauses after failures of one adapter double up to this: a missing source should not fill a log,
# and a repository that comes back should not be waited for longer than a coffee.
RETRY_SECONDS_MAX = 300.0
# An attempt that can hurt others (it killed the server, or replaces what works) is made rarely:
# these pauses grow by four.
HARMFUL_SECONDS_FIRST = 30.0
HARMFUL_SECONDS_MAX = 3600.0
# 2**16 times any trigger is beyond the maximum; it keeps the power small.
_DOUBLINGS_MAX = 16


class Failure(msgspec.Struct, frozen=True):
    """The last attempt at an adapter, and its entry then: another entry is tried at once."""

    count: int
    retry_at: float
    adapter: Adapter | None
    problem: Problem


class Failures:
    """The failures of one server's adapters, by id."""

    def __init__(self, first_seconds: float) -> None:
        self._first_seconds = first_seconds
        self._by_name: dict[str, Failure] = {}

    def get(self, name: str) -> Failure | None:
        return self._by_name.get(name)

    def pausing(self, name: str, now: float) -> bool:
        failure = self._by_name.get(name)
        return failure is not None and failure.retry_at > now

    def add(
        self, now: float, name: str, adapter: Adapter | None, problem: Problem, *, harmful: bool
    ) -> float:
        """Notes a failure; the pause until the next attempt, in seconds."""
        before = self._by_name.get(name)
        count = before.count + 1 if before else 1
        doublings = min(count - 1, _DOUBLINGS_MAX)
        if harmful:
            pause = min(HARMFUL_SECONDS_FIRST * math.pow(4, doublings), HARMFUL_SECONDS_MAX)
        else:
            pause = min(self._first_seconds * math.pow(2, doublings), RETRY_SECONDS_MAX)
        self._by_name[name] = Failure(count, now + pause, adapter, problem)
        return pause

    def forget(self, name: str) -> None:
        self._by_name.pop(name, None)

    def keep_equal(self, wanted: dict[str, Adapter]) -> None:
        """Forgets failures of entries that have changed."""
        self._by_name = {
            name: failure
            for name, failure in self._by_name.items()
            if wanted.get(name) == failure.adapter
        }
