"""Carries placement plans out: which copies are ours, what is under way, what failed.

A machine: observations and outcomes come in, loads and unloads go out, and whoever runs it does
them. An adapter on a server is ours only if we loaded it; everything else there is foreign and
stays. A load whose end is not known (time-out, lost connection) leaves a claim: if the adapter
appears after all, it is ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import TypeAlias

import msgspec

from inferway.scheduling.placement.plan import plan
from inferway.scheduling.placement.values import (
    LEAVING,
    Copy,
    CopyState,
    Evict,
    Limits,
    Load,
    Plan,
    Server,
    Shortage,
    Usage,
    View,
    Wish,
)

RETRY_SECONDS_BASE = 1.0
RETRY_SECONDS_MAX = 60.0
# A list of models that was asked for before a load can arrive this much after it.
STALE_LIST_SECONDS = 3.0
# Requests that run are not waited for longer, because vLLM lets them end after the unload; those
# that were sent just now must have arrived.
DRAIN_SECONDS_MAX = 0.5
# A server that is away for longer comes back as another one.
AWAY_SECONDS_MAX = 3600.0
# A load that was begun before us, or whose end is not known, may end within this time.
CLAIM_SECONDS = 600.0
# A copy of our predecessor that no list of models shows within this time is lost.
ADOPT_SECONDS = 15.0
# A plan's reasons for people; more are dropped until they are read.
NOTES_MAX = 1000

Place: TypeAlias = tuple[str, str]
"""(adapter, address)"""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One ready server as it was observed. ``adapters`` None: it has not told yet.

    ``in_flight`` counts requests by adapter, whoever sent them. ``told_at`` is when the list of
    models came.
    """

    address: str
    name: str = ""
    slots: int
    base_models: frozenset[str] = frozenset()
    adapters: frozenset[str] | None = None
    told_at: float = 0.0
    in_flight: Mapping[str, int] = {}
    load: float = 0.0


class Unload(msgspec.Struct, frozen=True):
    """Take an adapter off a server."""

    adapter: str
    address: str


Action: TypeAlias = Load | Unload


class Outcome(StrEnum):
    """How an action ended."""

    DONE = "done"
    FAILED = "failed"
    # The server has the adapter already (load), or has not got it (unload).
    ALREADY = "already"
    # No answer: it may or may not have happened.
    UNSURE = "unsure"


class Failure(msgspec.Struct, frozen=True):
    """The last failure of one adapter on one server."""

    message: str
    count: int
    until: float


class Note(msgspec.Struct, frozen=True):
    """Something that people may want to know of an adapter."""

    adapter: str
    warning: bool
    reason: str
    message: str


class Placement:
    """The placed copies of one pool."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.wishes: dict[str, Wish] = {}
        self.copies: dict[Place, Copy] = {}
        self.failures: dict[Place, Failure] = {}
        self.names: dict[str, str] = {}
        self.foreign: dict[str, frozenset[str]] = {}
        # What the ready servers list, for people who wonder about a name.
        self.base_models: frozenset[str] = frozenset()
        self.last = Plan((), {}, {})
        # How long other pickers may go on choosing a copy after it was said that it leaves.
        self.settle_seconds = 0.0
        self._claims: dict[Place, tuple[float, str]] = {}
        self._away: dict[str, float] = {}
        # Copies that were unloaded, until when an old list of models may still show them.
        self._gone: dict[Place, float] = {}
        self._notes: list[Note] = []

    # -- what comes in ---------------------------------------------------------------------

    def set_wishes(self, wishes: Iterable[Wish]) -> None:
        """Makes these the wishes; a changed one is tried anew at once."""
        wanted = {wish.adapter: wish for wish in wishes}
        for place in list(self.failures):
            if wanted.get(place[0]) != self.wishes.get(place[0]):
                del self.failures[place]
        self.wishes = wanted

    def adopt(self, place: Place, name: str, source: str, loaded: bool, now: float) -> None:
        """A copy that somebody before us has placed, or was about to."""
        seconds = ADOPT_SECONDS if loaded else CLAIM_SECONDS
        self._claims[place] = (now + seconds, source)
        self.names.setdefault(place[1], name)

    def done(self, action: Action, outcome: Outcome, message: str, now: float) -> None:
        """How an action of ``tick`` ended."""
        place = (action.adapter, action.address)
        copy = self.copies.get(place)
        if copy is None:
            return
        if isinstance(action, Unload):
            self._unloaded(copy, outcome, message, now)
            return
        if outcome is Outcome.DONE or (outcome is Outcome.ALREADY and place in self._claims):
            self.copies[place] = _in_state(copy, CopyState.LOADED, now)
            self.failures.pop(place, None)
            self._claims.pop(place, None)
            self._note(copy, "Loaded", f"Loaded on {self._named(copy.address)}.")
            return
        del self.copies[place]
        if outcome is Outcome.ALREADY:
            # Somebody else was quicker, and it is theirs.
            self.failures.pop(place, None)
            return
        if outcome is Outcome.UNSURE:
            self._claims[place] = (now + CLAIM_SECONDS, copy.source)
        self._failed(place, message, now)
        said = f"Loading on {self._named(copy.address)} failed: {message}"
        self._note(copy, "LoadFailed", said, warning=True)

    def _unloaded(self, copy: Copy, outcome: Outcome, message: str, now: float) -> None:
        place = (copy.adapter, copy.address)
        if outcome in (Outcome.DONE, Outcome.ALREADY):
            del self.copies[place]
            self._gone[place] = now + STALE_LIST_SECONDS
            self.failures.pop(place, None)
            self._note(copy, "Unloaded", f"Unloaded from {self._named(copy.address)}.")
            return
        self.copies[place] = _in_state(copy, CopyState.DRAINING, now)
        self._failed(place, message, now)
        said = f"Unloading from {self._named(copy.address)} failed: {message}"
        self._note(copy, "UnloadFailed", said, warning=True)

    # -- what goes out ---------------------------------------------------------------------

    def tick(
        self, seen: Sequence[Seen], usage: Mapping[str, Usage], load: float, now: float
    ) -> list[Action]:
        """What to do now. Each action must be answered by ``done``."""
        self._observe(seen, now)
        servers = {s.address: self._server(s) for s in seen if s.adapters is not None}
        in_flight = {s.address: s.in_flight for s in seen}
        view = View(
            wishes=self.wishes,
            servers=servers,
            copies=tuple(
                msgspec.structs.replace(
                    copy, in_flight=in_flight.get(copy.address, {}).get(copy.adapter, 0)
                )
                for copy in self.copies.values()
            ),
            usage=usage,
            blocked={place: failure.until for place, failure in self.failures.items()},
            load=load,
        )
        self.last = plan(view, self.limits, now)
        actions: list[Action] = []
        for command in self.last.commands:
            place = (command.adapter, command.address)
            if isinstance(command, Evict):
                self.copies[place] = _in_state(self.copies[place], CopyState.DRAINING, now)
                where = self._named(command.address)
                said = f"Leaves {where}: {command.reason}."
                self._note(self.copies[place], "Evicted", said)
            else:
                self.copies[place] = Copy(*place, CopyState.LOADING, command.source, now)
                actions.append(command)
        return actions + self._unloads(servers, in_flight, now)

    def _unloads(
        self, servers: Mapping[str, Server], in_flight: Mapping[str, Mapping[str, int]], now: float
    ) -> list[Action]:
        actions: list[Action] = []
        for place, copy in self.copies.items():
            if copy.state is not CopyState.DRAINING or copy.address not in servers:
                continue
            waited = now - copy.since
            failure = self.failures.get(place)
            if waited < self.settle_seconds or (failure is not None and now < failure.until):
                continue
            if in_flight[copy.address].get(copy.adapter, 0) and waited < DRAIN_SECONDS_MAX:
                continue
            actions.append(Unload(*place))
        for action in actions:
            place = (action.adapter, action.address)
            self.copies[place] = _in_state(self.copies[place], CopyState.UNLOADING, now)
        return actions

    @property
    def claims(self) -> frozenset[Place]:
        """Places where a load may have happened without our hearing of it."""
        return frozenset(self._claims)

    @property
    def hidden(self) -> frozenset[Place]:
        """Copies that no new request may be sent to."""
        leaving = [place for place, copy in self.copies.items() if copy.state in LEAVING]
        return frozenset([*leaving, *(p for p in self._gone if p not in self.copies)])

    def take_notes(self) -> list[Note]:
        """What happened since this was asked before."""
        notes, self._notes = self._notes, []
        return notes

    def hopeless(self, adapter: str) -> str:
        """Why no request can be served by the adapter for now; empty if there is hope."""
        shortage = self.last.short.get(adapter)
        if shortage is Shortage.NO_SERVER:
            wish = self.wishes.get(adapter)
            if wish is None or not wish.base_model or not self.base_models:
                return "the pool has no ready server"
            have = ", ".join(sorted(self.base_models))
            return f"no server has the base model {wish.base_model}; the servers have {have}"
        if shortage is not Shortage.BACKING_OFF:
            return ""
        found = [f for (name, _), f in self.failures.items() if name == adapter]
        return max(found, key=lambda f: f.until).message if found else ""

    # -- observing -------------------------------------------------------------------------

    def _observe(self, seen: Sequence[Seen], now: float) -> None:
        present = {s.address: s for s in seen}
        self.base_models = frozenset().union(*(s.base_models for s in seen))
        for address, server in present.items():
            self._away.pop(address, None)
            if self.names.get(address, server.name) != server.name:
                self._drop_server(address)
            self.names[address] = server.name
        for address in [a for a in self.names if a not in present]:
            if now - self._away.setdefault(address, now) > AWAY_SECONDS_MAX:
                self._drop_server(address)
        self._claims = {p: claim for p, claim in self._claims.items() if claim[0] > now}
        self._gone = {p: until for p, until in self._gone.items() if until > now}
        self.foreign = {
            address: self._reconcile(server, server.adapters, now)
            for address, server in present.items()
            if server.adapters is not None
        }

    def _reconcile(self, seen: Seen, adapters: frozenset[str], now: float) -> frozenset[str]:
        """Compares what is there with what we placed; returns what is there and not ours."""
        address = seen.address
        for place, copy in list(self.copies.items()):
            lost = place[1] == address and place[0] not in adapters
            settled = copy.state in (CopyState.LOADED, CopyState.DRAINING)
            if lost and settled and seen.told_at > copy.since + STALE_LIST_SECONDS:
                del self.copies[place]
                self._note(copy, "Lost", f"{self._named(address)} does not have it any more.")
        for adapter in adapters:
            place = (adapter, address)
            claim = self._claims.get(place)
            if claim is not None and place not in self.copies:
                self.copies[place] = Copy(*place, CopyState.LOADED, claim[1], now)
                del self._claims[place]
        ours = {place[0] for place in (*self.copies, *self._gone) if place[1] == address}
        return adapters - ours

    def _drop_server(self, address: str) -> None:
        """Forgets a server that is gone, or that another one has taken the address of."""
        self.names.pop(address, None)
        self._away.pop(address, None)
        self.foreign.pop(address, None)
        for table in (self.copies, self.failures, self._claims, self._gone):
            for place in [place for place in table if place[1] == address]:
                del table[place]

    def _server(self, seen: Seen) -> Server:
        return Server(
            address=seen.address,
            slots=seen.slots,
            base_models=seen.base_models,
            foreign=self.foreign[seen.address],
            load=seen.load,
        )

    # -- small things ----------------------------------------------------------------------

    def _failed(self, place: Place, message: str, now: float) -> None:
        before = self.failures.get(place)
        count = before.count + 1 if before else 1
        pause = min(RETRY_SECONDS_BASE * 2 ** min(count - 1, 10), RETRY_SECONDS_MAX)
        self.failures[place] = Failure(message, count, now + pause)

    def _named(self, address: str) -> str:
        return self.names.get(address) or address

    def _note(self, copy: Copy, reason: str, message: str, *, warning: bool = False) -> None:
        if len(self._notes) < NOTES_MAX:
            self._notes.append(Note(copy.adapter, warning, reason, message))


def _in_state(copy: Copy, state: CopyState, now: float) -> Copy:
    return msgspec.structs.replace(copy, state=state, since=now)
