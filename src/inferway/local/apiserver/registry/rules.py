"""Schemas and patches of every kind, from the api room and the patching package.

Turns their errors into Status answers. Schemas are made once for each kind and kept while the
definition of the kind stays the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from inferway.api.codec import without_nulls
from inferway.api.defaults import table as defaults
from inferway.api.judging import table as judging
from inferway.api.schema import decoding, defaulting, fields, load, validation
from inferway.api.schema.catalog import Catalog
from inferway.api.schema.cel.rules import check_rules
from inferway.api.schema.model import FREE_FORM, Schema
from inferway.local.apiserver.registry import errors
from inferway.local.apiserver.registry.errors import Cause
from inferway.local.apiserver.registry.kinds import Kind, Object
from inferway.local.apiserver.registry.patching import managed, mergepatch, strategic
from inferway.local.apiserver.registry.patching.managed import ApplyConflictError, Writer
from inferway.local.apiserver.registry.patching.mergepatch import PatchError
from inferway.local.apiserver.registry.patching.schemashape import SchemaShape
from inferway.local.apiserver.registry.seam import Manager


class SchemaRules:
    """The rules that schemas give; see ``seam.Rules``."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._made: dict[tuple[str, str], tuple[Any, Schema]] = {}

    def schema(self, kind: Kind) -> Schema:
        """The schema of a kind; free form if nobody has described it."""
        if not kind.custom:
            return self._catalog.kind(kind.group, kind.version, kind.kind) or FREE_FORM
        key = (kind.api_version, kind.kind)
        kept = self._made.get(key)
        if kept is None or kept[0] is not kind.schema:
            made = load.load_kind(kind.schema or {}, self._catalog.object_meta)
            kept = (kind.schema, made)
            self._made[key] = kept
        return kept[1]

    def check_types(self, kind: Kind, obj: Object) -> None:
        """Raises StatusError 400 for a built-in kind's field of a wrong JSON type."""
        if not kind.custom:
            wrong = decoding.decoding_error(self.schema(kind), obj, kind.kind, kind.version)
            if wrong is not None:
                raise errors.bad_request(wrong)

    def unknown_fields(self, kind: Kind, obj: Object) -> list[str]:
        return fields.unknown_fields(self.schema(kind), obj)

    def prune(self, kind: Kind, obj: Object) -> Object:
        pruned: Object = fields.prune(self.schema(kind), obj)
        return pruned

    def tidy(self, kind: Kind, obj: Object) -> Object:
        tidied: Object = without_nulls(self.prune(kind, obj))
        return tidied

    def complete(self, kind: Kind, obj: Object) -> Object:
        pruned = self.prune(kind, obj)
        if not kind.custom:
            return defaults.complete(kind.group, kind.kind, pruned)
        completed: Object = defaulting.apply_defaults(self.schema(kind), pruned)
        return completed

    def validate(self, kind: Kind, obj: Object, old: Object | None) -> list[Cause]:
        if kind.custom:
            found = validation.validate(self.schema(kind), obj, old, check_rules=check_rules)
        else:
            found = judging.judge(kind.group, kind.kind, obj, old)
        return [Cause(error.reason, error.field, error.message) for error in found]

    def merge(self, current: Object, patch: Any) -> Object:
        return _object(mergepatch.merge_patch(current, patch))

    def strategic(self, kind: Kind, current: Object, patch: Object) -> Object:
        shape = SchemaShape(self.schema(kind))
        return _patched(lambda: strategic.strategic_merge(current, patch, shape), 400)

    def json_patch(self, current: Object, operations: Any) -> Object:
        return _patched(lambda: mergepatch.json_patch(current, operations), 422)

    def apply(
        self, kind: Kind, current: Object | None, applied: Object, manager: Manager, force: bool
    ) -> Object:
        shape, writer = SchemaShape(self.schema(kind)), _writer(kind, manager)
        try:
            return managed.apply(current, applied, shape, writer, force=force)
        except ApplyConflictError as error:
            causes = [
                Cause("FieldManagerConflict", conflict.path, f"conflict with {conflict.owner}")
                for conflict in error.conflicts
            ]
            raise errors.apply_conflict(str(error), causes) from None

    def track(self, kind: Kind, old: Object | None, new: Object, manager: Manager) -> Object:
        return managed.track(old, new, SchemaShape(self.schema(kind)), _writer(kind, manager))


def _writer(kind: Kind, manager: Manager) -> Writer:
    return Writer(manager.name, kind.api_version, manager.time, manager.subresource)


def _patched(patch: Callable[[], Any], code: int) -> Object:
    try:
        return _object(patch())
    except PatchError as error:
        reason = "BadRequest" if code == 400 else "Invalid"
        raise errors.StatusError(code, reason, str(error)) from None


def _object(value: Any) -> Object:
    if not isinstance(value, dict):
        raise errors.bad_request("the patch does not leave an object")
    return value
