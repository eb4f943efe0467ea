"""What the registry asks of schemas and patches: one protocol.

``Rules`` hides where schemas come from and how patches are merged.
"""

from __future__ import annotations

import copy
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

    def unknown_fields(self, kind: Kind, obj: Object) -> list[str]:
        """Paths of fields that the schema does not have."""
        ...

    def complete(self, kind: Kind, obj: Object) -> Object:
        """The object without unknown fields and with the schema's defaults."""
        ...

    def validate(self, kind: Kind, obj: Object, old: Object | None) -> list[Cause]: ...

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


def merge_patch(current: Any, patch: Any) -> Any:
    """RFC 7386: null removes, maps merge, everything else replaces."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(current) if isinstance(current, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


class PlainRules:
    """No schemas: everything is known, lists are replaced, nobody owns fields."""

    def unknown_fields(self, kind: Kind, obj: Object) -> list[str]:
        return []

    def complete(self, kind: Kind, obj: Object) -> Object:
        return copy.deepcopy(obj)

    def validate(self, kind: Kind, obj: Object, old: Object | None) -> list[Cause]:
        return []

    def merge(self, current: Object, patch: Any) -> Object:
        result: Object = merge_patch(current, patch)
        return result

    def strategic(self, kind: Kind, current: Object, patch: Object) -> Object:
        return self.merge(current, patch)

    def json_patch(self, current: Object, operations: Any) -> Object:
        import jsonpatch

        result: Object = jsonpatch.apply_patch(current, operations)
        return result

    def apply(
        self, kind: Kind, current: Object | None, applied: Object, manager: Manager, force: bool
    ) -> Object:
        return self.merge(current or {}, applied)

    def track(self, kind: Kind, old: Object | None, new: Object, manager: Manager) -> Object:
        return new
