"""What a request asks beside its object: options of reads and writes, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from inferway.local.apiserver.registry.kinds import Kind, Object
from inferway.local.apiserver.registry.selectors import Selector


@dataclass(frozen=True, slots=True)
class Target:
    """One object, or the collection if the name is empty."""

    kind: Kind
    namespace: str = ""
    name: str = ""
    subresource: str = ""


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """``field_validation`` is Ignore, Warn or Strict."""

    dry_run: bool = False
    field_validation: str = "Warn"
    field_manager: str = "unknown"
    force: bool = False


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """``grace_seconds`` and ``propagation`` are None when the client leaves them open."""

    dry_run: bool = False
    grace_seconds: int | None = None
    propagation: str | None = None
    uid: str = ""
    resource_version: str = ""


@dataclass(frozen=True, slots=True)
class ListOptions:
    """``revision`` is None for the newest state."""

    selector: Selector = field(default_factory=Selector)
    limit: int = 0
    continue_token: str = ""
    revision: int | None = None
    exact: bool = False


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """``revision`` is None for "from now, with the present objects first"."""

    selector: Selector = field(default_factory=Selector)
    revision: int | None = None
    bookmarks: bool = False
    initial_events: bool = False
    timeout_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Written:
    """The outcome of a write: the object in the request's version, and warnings for the client."""

    object: Object
    warnings: tuple[str, ...] = ()
    created: bool = False
    status: dict[str, Any] | None = None
    """The Status to answer with instead of the object."""
