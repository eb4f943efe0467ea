"""What goes into a placement plan and what comes out of it.

Times are seconds on one monotonic clock. ``demand`` is the average number of requests in flight:
by Little's law the rate of requests times the time they take, so it grows with tokens per second
and with waiting alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum
from typing import TypeAlias

import msgspec


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody wants of one adapter. ``replicas_max`` 0 means no limit."""

    adapter: str
    source: str
    # Empty: any base model will do.
    base_model: str = ""
    replicas_min: int = 0
    replicas_max: int = 0
    # A pinned adapter never makes room for another one.
    pinned: bool = False
    # Whether a request may bring the adapter in.
    on_demand: bool = True
    # A copy stays at least this long.
    residency_seconds: float = 3.0

    @property
    def least(self) -> int:
        """The minimum, which never is more than the maximum."""
        return min(self.replicas_min, self.replicas_max) if self.replicas_max else self.replicas_min


class CopyState(StrEnum):
    """The life of a copy that we placed; the values are words of the object's status."""

    LOADING = "Loading"
    LOADED = "Loaded"
    # Not chosen for new requests; unloaded in a moment.
    DRAINING = "Draining"
    UNLOADING = "Unloading"


LEAVING = (CopyState.DRAINING, CopyState.UNLOADING)


class Copy(msgspec.Struct, frozen=True):
    """One adapter on one server, placed by us. ``since`` is when it got its state."""

    adapter: str
    address: str
    state: CopyState
    source: str
    since: float
    in_flight: int = 0


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """One ready server.

    No adapter is both in ``foreign`` and a copy of ours.

    ``slots`` are the adapters that it keeps at hand, on its device or in host memory; ``foreign``
    are the adapters there that somebody else has loaded, which use slots and are not ours to
    unload. ``load`` is the number of requests in flight.
    """

    address: str
    slots: int
    base_models: frozenset[str] = frozenset()
    foreign: frozenset[str] = frozenset()
    load: float = 0.0


class Usage(msgspec.Struct, frozen=True):
    """How much an adapter is asked for. ``waiting_since`` is finite while requests wait for it."""

    demand: float = 0.0
    last_used: float = -math.inf
    waiting_since: float = math.inf


UNUSED = Usage()


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The rules of a plan that no adapter may choose for itself."""

    # A load stops the engine between two steps; two at once would stop it twice as long.
    loads_per_server_max: int = 1
    # Not asked for in this time: cold, and the first to make room.
    idle_seconds: float = 60.0
    # A server with fewer requests than this is not busy enough that a second copy would help.
    busy_requests: float = 4.0
    # Copies are wanted for this much more than an even share of the load, because routing
    # can balance only between servers that have the adapter.
    headroom: float = 1.5
    # A further copy is given up only when demand is this far (in copies) under what it carries.
    band_copies: float = 0.5


class View(msgspec.Struct, frozen=True, kw_only=True):
    """All that a plan is made of."""

    wishes: Mapping[str, Wish]
    servers: Mapping[str, Server]
    copies: tuple[Copy, ...] = ()
    usage: Mapping[str, Usage] = {}
    # (adapter, address) that failed, until when it is not tried again.
    blocked: Mapping[tuple[str, str], float] = {}
    # Requests in flight of the pool, base models included.
    load: float = 0.0


class Load(msgspec.Struct, frozen=True):
    """Bring an adapter to a server."""

    adapter: str
    address: str
    source: str
    base_model: str = ""


class Evict(msgspec.Struct, frozen=True):
    """Take an adapter that we loaded from a server; its requests may end first."""

    adapter: str
    address: str
    reason: str


Command: TypeAlias = Load | Evict


class Shortage(StrEnum):
    """Why an adapter has fewer copies than wanted; the values are reasons of a condition."""

    NO_SERVER = "NoServer"
    TOO_FEW_SERVERS = "TooFewServers"
    NO_SLOT = "NoSlot"
    BACKING_OFF = "LoadFailed"
    WAITING = "Loading"


class Plan(msgspec.Struct, frozen=True):
    """Commands, and for people what is wanted of each adapter and what it lacks."""

    commands: tuple[Command, ...]
    wanted: Mapping[str, int]
    short: Mapping[str, Shortage]
