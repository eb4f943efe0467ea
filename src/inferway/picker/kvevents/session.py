"""One server's stream of KV events, as a machine: sequence numbers, gaps, replays.

vLLM numbers its messages from 0 and keeps the last ones; a socket of its own sends them again from
a number on, and an empty payload under number -1 as the end. A subscriber comes late, and loses
what its queue can not hold, so gaps are ordinary. While a replay runs, what is live waits. Where
messages can not be had again nobody knows what the server has, so what is known of it is cleared.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from enum import StrEnum
from typing import TypeAlias

import msgspec

from inferway.picker.kvevents import codec
from inferway.scheduling.events import BlockEvent, BlocksCleared

# Live messages that wait for a replay, as many as vLLM itself keeps.
WAITING_MESSAGES_MAX = 10_000
# A replay sends up to 10 000 messages from memory.
REPLAY_SECONDS_MAX = 5.0
# A server is not asked again and again for what it does not have.
REPLAY_AGAIN_SECONDS = 10.0
_SEQUENCE_BYTES = 8
_END = (1 << 64) - 1


class Live(msgspec.Struct, frozen=True):
    """A message of the subscription: topic, sequence number, payload."""

    frames: Sequence[bytes]


class Replayed(msgspec.Struct, frozen=True):
    """A message of the replay socket; what stands before the last two frames has no meaning."""

    frames: Sequence[bytes]


class Time(msgspec.Struct, frozen=True):
    """Time has passed."""


class Apply(msgspec.Struct, frozen=True):
    """These events have happened, in this order."""

    events: Sequence[BlockEvent]


class Replay(msgspec.Struct, frozen=True):
    """Ask for all messages from this number on."""

    start: int


Event: TypeAlias = Live | Replayed | Time
Command: TypeAlias = Apply | Replay


class Skip(StrEnum):
    """Why a message or an event was passed over; the values are labels of a metric."""

    MALFORMED = "malformed"
    UNKNOWN_EVENT = "unknown_event"
    LOST = "lost"
    OVERFLOW = "overflow"


class Session:
    """The stream of one server. ``replays``: whether it can be asked for a replay."""

    def __init__(self, *, replays: bool) -> None:
        self._replays = replays
        self._next: int | None = None
        # Until when a replay is waited for; None: none is under way.
        self._replay_until: float | None = None
        self._asked_at = -REPLAY_AGAIN_SECONDS
        self._waiting: deque[tuple[int, bytes]] = deque()
        self.messages = 0
        self.gaps = 0
        self.skipped: dict[Skip, int] = dict.fromkeys(Skip, 0)

    @property
    def replaying(self) -> bool:
        """Whether a replay is waited for, so that time matters."""
        return self._replay_until is not None

    def handle(self, event: Event, now: float) -> list[Command]:
        """What follows from it."""
        commands: list[Command] = []
        if isinstance(event, Live):
            found = _message(event.frames)
            if found is None or found[0] == _END:
                self.skipped[Skip.MALFORMED] += 1
            else:
                self.messages += 1
                self._live(found, commands, now)
        elif isinstance(event, Replayed):
            self._replayed(_message(event.frames), commands)
        elif self._replay_until is not None and now >= self._replay_until:
            self._end_replay(commands)
        return commands

    def _live(self, found: tuple[int, bytes], commands: list[Command], now: float) -> None:
        number, payload = found
        if self._replay_until is not None:
            if len(self._waiting) >= WAITING_MESSAGES_MAX:
                self.skipped[Skip.OVERFLOW] += 1
                return
            self._waiting.append(found)
            return
        if self._next is not None and number < self._next:
            # Numbers begin again: another engine stands there, with an empty cache.
            commands.append(Apply([BlocksCleared()]))
            self._next = 0
        if number == self._next or (self._next is None and number == 0):
            self._apply(number, payload, commands)
            return
        self.gaps += self._next is not None
        if self._replays and now >= self._asked_at + REPLAY_AGAIN_SECONDS:
            self._asked_at = now
            self._replay_until = now + REPLAY_SECONDS_MAX
            self._waiting.append(found)
            commands.append(Replay(self._next or 0))
            return
        self._lost(number, payload, commands)

    def _replayed(self, found: tuple[int, bytes] | None, commands: list[Command]) -> None:
        if self._replay_until is None:
            return
        if found is None:
            self.skipped[Skip.MALFORMED] += 1
            return
        number, payload = found
        if number == _END or not payload:
            self._end_replay(commands)
        elif self._next is None or number == self._next:
            self._apply(number, payload, commands)
        elif number > self._next:
            self._lost(number, payload, commands)

    def _end_replay(self, commands: list[Command]) -> None:
        self._replay_until = None
        waiting, self._waiting = self._waiting, deque()
        for number, payload in waiting:
            if self._next is None or number == self._next:
                self._apply(number, payload, commands)
            elif number > self._next:
                self._lost(number, payload, commands)

    def _lost(self, number: int, payload: bytes, commands: list[Command]) -> None:
        """Goes on behind a gap that stays."""
        if self._next is not None:
            self.skipped[Skip.LOST] += number - self._next
            commands.append(Apply([BlocksCleared()]))
        self._apply(number, payload, commands)

    def _apply(self, number: int, payload: bytes, commands: list[Command]) -> None:
        self._next = number + 1
        batch = codec.decode(payload)
        if batch is None:
            self.skipped[Skip.MALFORMED] += 1
            return
        self.skipped[Skip.UNKNOWN_EVENT] += batch.skipped
        if batch.events:
            commands.append(Apply(batch.events))


def _message(frames: Sequence[bytes]) -> tuple[int, bytes] | None:
    if len(frames) < 2 or len(frames[-2]) != _SEQUENCE_BYTES:
        return None
    return int.from_bytes(frames[-2], "big"), frames[-1]
