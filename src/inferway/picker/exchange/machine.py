"""What pickers tell each other means, without input and output.

``Announcer`` collects what happens here into numbered batches. ``Heard`` keeps what others have
open: a batch that comes twice changes nothing, one that is missing ends the connection, and the
next one begins with all that is open. What a picker had open that is gone is let go after a while.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from inferway.picker.exchange.messages import Batch, End, Hello, Message
from inferway.scheduling.announced import Announced

# The requests of a picker that is gone still run, and nobody will tell how they end. As long as
# for a proxy that is gone; what the servers' metrics say is not affected.
GONE_SECONDS = 30.0
# As many as a picker itself keeps.
HEARD_MAX = 200_000


@dataclass(frozen=True, slots=True)
class Reserve:
    """Another picker has sent a request to a server."""

    pool: str
    announced: Announced
    picker: str


@dataclass(frozen=True, slots=True)
class Release:
    """It is over, or nothing will be heard of it."""

    pool: str
    pick: str


@dataclass(frozen=True, slots=True)
class Finish:
    """It is over, and this is how it went."""

    pool: str
    end: End


@dataclass(frozen=True, slots=True)
class Told:
    """A report about a request that is none of its speaker's."""

    end: End


@dataclass(frozen=True, slots=True)
class Disconnect:
    """The connection is of no use."""

    why: str


Command: TypeAlias = Reserve | Release | Finish | Told | Disconnect


class Announcer:
    """What happens here, in batches."""

    def __init__(self, picker: str) -> None:
        self._picker = picker
        self._number = 0
        self._opened: list[tuple[str, Announced]] = []
        self._closed: list[str] = []
        self._ended: list[End] = []

    @property
    def pending(self) -> int:
        """How much waits for the next batch."""
        return len(self._opened) + len(self._closed) + len(self._ended)

    def opened(self, pool: str, announced: Announced) -> None:
        """A request was sent to a server."""
        self._opened.append((pool, announced))

    def closed(self, pick: str) -> None:
        """Nobody will tell how a request went."""
        self._closed.append(pick)

    def ended(self, end: End) -> None:
        """A report, of this picker's own request or of another's."""
        self._ended.append(end)

    def batch(self) -> Batch:
        """All that waits; nothing does afterwards."""
        self._number += 1
        made = Batch(self._number, self._opened, self._closed, self._ended)
        self._opened, self._closed, self._ended = [], [], []
        return made

    def hello(self, open_now: dict[str, list[Announced]]) -> Hello:
        """For one who begins to hear. Nothing may be pending, or it would be told twice."""
        assert not self.pending
        return Hello(self._picker, self._number, open_now)


@dataclass(slots=True)
class _Picker:
    """One process that has been heard. ``gone_at`` None: it is connected."""

    connection: object
    number: int
    gone_at: float | None = None
    # Pick -> pool.
    open: dict[str, str] = field(default_factory=dict)


class Heard:
    """What other pickers have open. ``own`` is this picker's name."""

    def __init__(self, own: str) -> None:
        self._own = own
        self._pickers: dict[str, _Picker] = {}
        self._by_connection: dict[object, str] = {}

    def __len__(self) -> int:
        return sum(len(picker.open) for picker in self._pickers.values())

    @property
    def connected(self) -> int:
        """Pickers that are heard at this time."""
        return len(self._by_connection)

    def handle(self, connection: object, message: Message) -> list[Command]:
        """One message of a connection, in whatever order and however often it comes."""
        if isinstance(message, Hello):
            return self._hello(connection, message)
        name = self._by_connection.get(connection)
        if name is None:
            return [Disconnect("a batch before the greeting")]
        picker = self._pickers[name]
        if message.number <= picker.number:
            return []
        if message.number != picker.number + 1:
            return [Disconnect(f"batch {message.number} after {picker.number}")]
        picker.number = message.number
        commands: list[Command] = []
        for pool, announced in message.opened:
            commands += self._opened(picker, name, pool, announced)
        for pick in message.closed:
            commands += self._closed(picker, pick)
        for end in message.ended:
            known = picker.open.pop(end.pick, None)
            commands.append(Told(end) if known is None else Finish(known, end))
        return commands

    def lost(self, connection: object, now: float) -> bool:
        """The connection is over; whether a picker was at its other end."""
        name = self._by_connection.pop(connection, None)
        if name is not None:
            self._pickers[name].gone_at = now
        return name is not None

    def ended_here(self, pick: str) -> list[Command]:
        """A report of another picker's request came here, and will be passed on."""
        for picker in self._pickers.values():
            if pick in picker.open:
                return self._closed(picker, pick)
        return []

    def tick(self, now: float) -> list[Command]:
        """Lets go of what belonged to pickers that are gone for long."""
        commands: list[Command] = []
        for name, picker in list(self._pickers.items()):
            if picker.gone_at is not None and now - picker.gone_at >= GONE_SECONDS:
                commands += _release(picker, list(picker.open))
                del self._pickers[name]
        return commands

    def _hello(self, connection: object, hello: Hello) -> list[Command]:
        name = hello.picker
        if name == self._own:
            return [Disconnect("this is the picker itself")]
        known = self._by_connection.get(connection)
        if known is not None and known != name:
            return [Disconnect(f"picker {known} calls itself {name}")]
        picker = self._pickers.get(name)
        if picker is None:
            picker = self._pickers[name] = _Picker(connection, hello.number)
        elif picker.connection is not connection:
            # Whatever else the connection before may bring is older than this.
            self._by_connection.pop(picker.connection, None)
        elif hello.number < picker.number:
            return []
        picker.connection, picker.number, picker.gone_at = connection, hello.number, None
        self._by_connection[connection] = name
        told = {a.pick: (pool, a) for pool, all_of in hello.open.items() for a in all_of}
        commands: list[Command] = []
        commands += _release(picker, [pick for pick in picker.open if pick not in told])
        for pool, announced in told.values():
            commands += self._opened(picker, name, pool, announced)
        return commands

    def _opened(
        self, picker: _Picker, name: str, pool: str, announced: Announced
    ) -> Iterable[Command]:
        if announced.pick in picker.open or len(picker.open) >= HEARD_MAX:
            return ()
        picker.open[announced.pick] = pool
        return (Reserve(pool, announced, name),)

    def _closed(self, picker: _Picker, pick: str) -> list[Command]:
        return _release(picker, [pick]) if pick in picker.open else []


def _release(picker: _Picker, picks: Iterable[str]) -> list[Command]:
    return [Release(picker.open.pop(pick), pick) for pick in picks]
