"""What the registry asks of schemas and patches: one protocol.

``Rules`` hides where schemas come from and how patches are merged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from inferway.local.apiserver.registry.errors import Cause
from inferway.local.apiserver.registry.kinds import Kind, Object


@dataclass(frozen=True, slots=True)
class Manager:
    """Who writes, how and when: an entry of managedFields."""

    name: str
    operation: str
    time: str
    subresource: str = ""


class Rules(Protocol):
    """Schemas and patches of a kind. Functions give new objects and leave their arguments alone."""

    def check_types(self, kind: Kind, obj: Object) -> None:
        """Raises StatusError 400 for what can not be decoded."""
        ...

    def unknown_fields(self, kind: Kind, obj: Object) -> list[str]:
        """Paths of fields that the schema does not have."""
        ...

    def prune(self, kind: Kind, obj: Object) -> Object:
        """The object without unknown fields."""
        ...

    def tidy(self, kind: Kind, obj: Object) -> Object:
        """A part of an object without unknown fields and without nulls."""
        ...

    def complete(self, kind: Kind, obj: Object) -> Object:
        """The object without unknown fields and with the schema's defaults."""
        ...

    def validate(self, kind: Kind, obj: Object, old: Object | None) -> list[Cause]:
        """What the object breaks of its kind's rules."""
        ...

    def merge(self, current: Object, patch: Any) -> Object:
        """RFC 7386."""
        ...

    def strategic(self, kind: Kind, current: Object, patch: Object) -> Object:
        """Kubernetes' strategic merge with the kind's merge keys. Raises StatusError."""
        ...

    def json_patch(self, current: Object, operations: Any) -> Object:
        """RFC 6902. Raises StatusError."""
        ...

    def apply(
        self, kind: Kind, current: Object | None, applied: Object, manager: Manager, force: bool
    ) -> Object:
        """Server-side apply, managedFields included. Raises StatusError for conflicts."""
        ...

    def track(self, kind: Kind, old: Object | None, new: Object, manager: Manager) -> Object:
        """``new`` with the managedFields that an update by ``manager`` gives it."""
        ...
