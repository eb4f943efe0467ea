"""What goes into the syncer's machine (events) and what comes out of it (commands).

Times are seconds of a clock that never runs backwards; addresses have no path.
"""

from __future__ import annotations

import msgspec

from inferway.lora.config import Config
from inferway.lora.reasons import Answer, Problem
from inferway.lora.source import Adapter


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """The published flags, in seconds."""

    health_timeout_seconds: float = 300.0
    health_interval_seconds: float = 2.0
    trigger_seconds: float = 5.0


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where the syncer runs: what stands in for localhost, and the folder for fetched adapters."""

    localhost: str = ""
    store: str = "/adapters/inferway"


class Model(msgspec.Struct, frozen=True):
    """A line of the server's list. What has a parent is an adapter."""

    root: str
    parent: str = ""


# Events


class Configured(msgspec.Struct, frozen=True):
    """A valid configuration was read."""

    now: float
    config: Config


class Woken(msgspec.Struct, frozen=True):
    """The time of the last Wake has come."""

    now: float


class Answered(msgspec.Struct, frozen=True):
    """The end of CheckHealth, Load or Unload.

    With a ``problem`` the server was not asked: the adapter's folder cannot be right.
    """

    now: float
    answer: Answer
    problem: Problem | None = None


class Listed(msgspec.Struct, frozen=True):
    """The end of ListModels: the models by id; None where it failed."""

    now: float
    models: dict[str, Model] | None
    text: str = ""


class Slots(msgspec.Struct, frozen=True):
    """The end of ReadSlots: how many adapters fit in a batch, 0 where it is not known."""

    now: float
    slots: int


class Prepared(msgspec.Struct, frozen=True):
    """The end of a Prepare: the adapter's folder is in the store, or a problem."""

    now: float
    adapter: Adapter
    problem: Problem | None = None


Event = Configured | Woken | Answered | Listed | Slots | Prepared

# Commands


class CheckHealth(msgspec.Struct, frozen=True):
    url: str


class ListModels(msgspec.Struct, frozen=True):
    url: str


class ReadSlots(msgspec.Struct, frozen=True):
    url: str


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """Load ``path`` under the adapter's id. ``base_root`` is the served base model's own root."""

    url: str
    adapter: Adapter
    path: str
    in_place: bool = False
    base_root: str = ""


class Unload(msgspec.Struct, frozen=True):
    url: str
    name: str


class Prepare(msgspec.Struct, frozen=True):
    """Fetch and unpack an adapter into the folder ``path``, unless it is there. In its own time."""

    adapter: Adapter
    path: str


class Tidy(msgspec.Struct, frozen=True):
    """Remove folders of the store that are not among ``keep``."""

    keep: frozenset[str]


class Wake(msgspec.Struct, frozen=True):
    """Send Woken at ``at``; replaces an earlier Wake."""

    at: float


class Say(msgspec.Struct, frozen=True):
    """A line of log."""

    level: str
    message: str
    data: dict[str, object]


class Note(msgspec.Struct, frozen=True):
    """A Kubernetes Event about the Pod."""

    warning: bool
    reason: str
    message: str


class AdapterState(msgspec.Struct, frozen=True):
    """One adapter that the configuration names. ``root`` is what the server has, empty for
    nothing; ``reason`` is empty where all is well.
    """

    root: str = ""
    reason: str = ""

    @property
    def loaded(self) -> bool:
        return self.root != ""


class Report(msgspec.Struct, frozen=True):
    """The state of everything, whole, each time that it has changed."""

    healthy: bool
    slots: int
    adapters: dict[str, AdapterState]


Request = CheckHealth | ListModels | ReadSlots | Load | Unload
Command = Request | Prepare | Tidy | Wake | Say | Note | Report
