"""Which requests are on which endpoint: reserved by a decision, released exactly once.

A reservation leaves by whichever comes first of an access-log entry, the death of the proxy that
holds it, and its deadline; whatever comes later finds nothing and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from inferway.scheduling.events import Event, PushedOut
from inferway.scheduling.reservation import Reservation

# No access-log entry after this time: the proxy lost it. Longer than any sensible stream, because
# releasing a running request early would make a busy server look free.
LEAK_SECONDS = 3600.0
# The same while no proxy has ever reported an end, as behind a gateway that sends no access log.
UNHEARD_SECONDS = 120.0
# The proxy closed the callout's connection right after the answer: most often the client had left
# and the request never went on. If it did, its log entry comes or this much later it is let go.
DOUBT_SECONDS = 30.0
# Memory of reservations stays bounded whatever the proxies do.
RESERVATIONS_MAX = 200_000


class Settled:
    """A request that has ended: what was thought of it and what it was."""

    __slots__ = ("address", "event", "reservation")

    def __init__(self, reservation: Reservation, event: Event | PushedOut, address: str) -> None:
        self.reservation = reservation
        self.event = event
        self.address = address


class Ledger:
    """Open reservations by pick id, oldest first."""

    def __init__(self) -> None:
        self._open: dict[str, Reservation] = {}
        self._doubted: dict[str, float] = {}
        # Whose room was needed, for those who count; taken at each tick.
        self.pushed_out: list[Settled] = []

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, pick: object) -> bool:
        return pick in self._open

    def __iter__(self) -> Iterator[Reservation]:
        return iter(self._open.values())

    @property
    def full(self) -> bool:
        """Whether a further reservation must push out the oldest one."""
        return len(self._open) >= RESERVATIONS_MAX

    def add(self, reservation: Reservation) -> None:
        """Opens a reservation; pick ids are not used twice."""
        assert reservation.pick not in self._open
        self._open[reservation.pick] = reservation

    def take(self, pick: str) -> Reservation | None:
        """Closes a reservation; None if it is closed already or was never ours."""
        return self._open.pop(pick, None)

    def doubt(self, pick: str, now: float) -> None:
        """The request has probably not gone on; waits a little for news of it."""
        reservation = self._open.get(pick)
        if reservation is not None:
            reservation.deadline = min(reservation.deadline, now + DOUBT_SECONDS)
            self._doubted[pick] = reservation.deadline

    def take_expired(self, now: float) -> list[Reservation]:
        """Closes all whose deadline has passed."""
        late = [pick for pick, deadline in self._doubted.items() if deadline <= now]
        for pick in late:
            del self._doubted[pick]
        for pick in [pick for pick in self._doubted if pick not in self._open]:
            del self._doubted[pick]
        # All ordinary deadlines are equally far from their start, so the oldest are first.
        for reservation in self._open.values():
            if reservation.deadline > now and reservation.pick not in self._doubted:
                break
            if reservation.deadline <= now:
                late.append(reservation.pick)
        return [found for pick in dict.fromkeys(late) if (found := self.take(pick)) is not None]

    def take_oldest(self) -> Reservation:
        """Closes the oldest one."""
        return self._open.pop(next(iter(self._open)))

    def take_of_proxy(self, proxy: str) -> list[Reservation]:
        """Closes all that a proxy held which is gone."""
        picks = [r.pick for r in self._open.values() if r.proxy == proxy]
        return [self._open.pop(pick) for pick in picks]
