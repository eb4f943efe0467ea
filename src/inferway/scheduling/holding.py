"""Requests that wait for a pool's first endpoint: a queue as a machine, events in, commands out.

Knows keys, sizes and times; requests themselves stay with the caller. Waiting is bounded in time,
number and bytes. Order is that of arrival.
"""

from __future__ import annotations

from enum import Enum, StrEnum
from typing import TypeAlias

import msgspec

# A proxy learns of a new endpoint by its configuration, which takes tens of milliseconds after the
# picker knows it. Requests that are let go before that would be refused by the proxy.
OPENING_SECONDS = 0.5
# Each one is a connection of a proxy to the picker, and the memory of its body in both.
REQUESTS_MAX = 1000
BYTES_MAX = 256 * 1024 * 1024


class Limits(msgspec.Struct, frozen=True):
    """How much may wait; ``seconds`` 0 means that nothing waits."""

    seconds: float = 0.0
    requests: int = REQUESTS_MAX
    bytes: int = BYTES_MAX


class Arrived(msgspec.Struct, frozen=True):
    """A request that no endpoint can take now."""

    key: int
    size: int


class Left(msgspec.Struct, frozen=True):
    """The client of a request is gone; unknown keys are none of ours."""

    key: int


class Endpoints(msgspec.Struct, frozen=True):
    """How many endpoints the pool has from here on."""

    count: int


class Limited(msgspec.Struct, frozen=True):
    """Other limits hold from here on, for those that wait already too."""

    limits: Limits


class TimePassed(msgspec.Struct, frozen=True):
    """Nothing but time has changed."""


class Stopping(msgspec.Struct, frozen=True):
    """The picker ends; nobody may wait any longer."""


Event: TypeAlias = Arrived | Left | Endpoints | Limited | TimePassed | Stopping


class Why(StrEnum):
    """Why a request is refused; the values are labels of metrics."""

    TIMEOUT = "hold_timeout"
    REQUESTS = "hold_requests_full"
    BYTES = "hold_bytes_full"
    OFF = "no_endpoint"
    STOPPING = "stopping"


class Hold(msgspec.Struct, frozen=True):
    """Keep the request; a later command names its key."""

    key: int


class Release(msgspec.Struct, frozen=True):
    """Decide again: there are endpoints."""

    key: int
    waited_seconds: float


class Refuse(msgspec.Struct, frozen=True):
    """A final answer."""

    key: int
    why: Why
    waited_seconds: float = 0.0


Command: TypeAlias = Hold | Release | Refuse


class _Door(Enum):
    UNKNOWN = "nobody has told of endpoints"
    SHUT = "no endpoint"
    OPENING = "endpoints that proxies may not know yet"
    OPEN = "endpoints"


class _Waiting(msgspec.Struct, frozen=True):
    size: int
    since: float


class HoldQueue:
    """One pool's queue. ``wake_at`` says when ``TimePassed`` is due, after each ``handle``."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.bytes = 0
        self._door = _Door.UNKNOWN
        self._open_at = 0.0
        self._waiting: dict[int, _Waiting] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def passing(self) -> bool:
        """Whether requests need not come here at all."""
        return self._door is _Door.OPEN or self.limits.seconds <= 0

    @property
    def wake_at(self) -> float | None:
        """The time at which something is due; None: only events change anything."""
        due = [self._open_at] if self._door is _Door.OPENING else []
        if self._waiting:
            due.append(self._oldest() + self.limits.seconds)
        return min(due) if due else None

    def oldest_seconds(self, now: float) -> float:
        """How long the first of the queue has waited."""
        return now - self._oldest() if self._waiting else 0.0

    def handle(self, event: Event, now: float) -> list[Command]:
        """What an event means for those that wait."""
        if isinstance(event, Arrived):
            return [self._arrived(event, now)]
        if isinstance(event, Left):
            self._take(event.key)
            return []
        if isinstance(event, Endpoints):
            self._told(event.count, now)
        elif isinstance(event, Limited):
            self.limits = event.limits
        elif isinstance(event, Stopping):
            return [self._refuse(key, Why.STOPPING, now) for key in list(self._waiting)]
        return self._due(now)

    def _arrived(self, event: Arrived, now: float) -> Command:
        limits = self.limits
        if limits.seconds <= 0:
            return Refuse(event.key, Why.OFF)
        if len(self._waiting) >= limits.requests:
            return Refuse(event.key, Why.REQUESTS)
        if self.bytes + event.size > limits.bytes:
            return Refuse(event.key, Why.BYTES)
        self._waiting[event.key] = _Waiting(event.size, now)
        self.bytes += event.size
        return Hold(event.key)

    def _told(self, count: int, now: float) -> None:
        if count == 0:
            self._door = _Door.SHUT
        elif self._door is _Door.SHUT:
            self._door = _Door.OPENING
            self._open_at = now + OPENING_SECONDS
        elif self._door is _Door.UNKNOWN:
            # Endpoints that were there before the picker are known to the proxies.
            self._door = _Door.OPEN

    def _due(self, now: float) -> list[Command]:
        if self._door is _Door.OPENING and now >= self._open_at:
            self._door = _Door.OPEN
        if self._door is _Door.OPEN:
            released = [(key, self._take(key)) for key in list(self._waiting)]
            return [Release(key, now - one.since) for key, one in released if one is not None]
        commands: list[Command] = []
        # Dictionaries keep their order, and one time limit holds for all.
        for key, one in list(self._waiting.items()):
            if now < one.since + self.limits.seconds:
                break
            commands.append(self._refuse(key, Why.TIMEOUT, now))
        return commands

    def _refuse(self, key: int, why: Why, now: float) -> Refuse:
        one = self._take(key)
        assert one is not None
        return Refuse(key, why, now - one.since)

    def _take(self, key: int) -> _Waiting | None:
        one = self._waiting.pop(key, None)
        if one is not None:
            self.bytes -= one.size
        return one

    def _oldest(self) -> float:
        return next(iter(self._waiting.values())).since
