"""The verbs: create, read, update, patch, delete of objects of any kind.

The order of steps in a write is the one of Kubernetes: shape, unknown fields, system fields,
defaults, strategy, validation, owners of fields, storage. Raises StatusError.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from inferway.base.clock import Clock, rfc3339
from inferway.base.ids import Ids
from inferway.local.apiserver.registry import errors, names
from inferway.local.apiserver.registry.kinds import Kind, KindTable, Object
from inferway.local.apiserver.registry.options import Target, WriteOptions, Written
from inferway.local.apiserver.registry.seam import Manager, Rules
from inferway.local.apiserver.storage.store import Store
from inferway.local.apiserver.storage.values import (
    ExistsError,
    Key,
    MissingError,
    StaleError,
    Stored,
    TooLargeError,
)

# A patch is computed again when another writer comes between; in one loop nobody does.
GENERATED_NAME_ATTEMPTS_MAX = 8

# Called after a write was stored: the kind, the new object (None if it is gone), the old one.
Hook = Callable[[Kind, Object | None, Object | None], None]


@dataclass(frozen=True, slots=True)
class Parts:
    """What the registry works with."""

    store: Store
    kinds: KindTable
    rules: Rules
    clock: Clock
    ids: Ids


class Registry:
    """Objects of all kinds over one store."""

    def __init__(self, parts: Parts) -> None:
        self.store = parts.store
        self.kinds = parts.kinds
        self.rules = parts.rules
        self.clock = parts.clock
        self.ids = parts.ids
        self.hooks: list[Hook] = []

    def key(self, target: Target) -> Key:
        namespace = target.namespace if target.kind.namespaced else ""
        return Key(target.kind.resource, namespace, target.name)

    def stored(self, target: Target) -> Stored:
        stored = self.store.get(self.key(target))
        if stored is None:
            raise errors.not_found(target.kind.subject(target.name))
        return stored

    def get(self, target: Target) -> Object:
        return load(target.kind, self.stored(target))

    def now(self) -> str:
        return rfc3339(self.clock.wall())

    def create(self, target: Target, obj: Object, options: WriteOptions) -> Written:
        manager = Manager(options.field_manager, "Update", self.now())
        return self._create(target, obj, options, manager)

    def create_applied(self, target: Target, obj: Object, options: WriteOptions) -> Written:
        """Creates the outcome of an apply; it has its managedFields."""
        return self._create(target, obj, options, None)

    def _create(
        self, target: Target, obj: Object, options: WriteOptions, manager: Manager | None
    ) -> Written:
        kind = target.kind
        obj = shaped(target, obj)
        metadata = obj["metadata"]
        if metadata.get("resourceVersion"):
            raise errors.bad_request("resourceVersion should not be set on objects to be created")
        self._check_namespace(kind, metadata)
        self.rules.check_types(kind, obj)
        self._check_account(kind, obj)
        warnings = self.unknown(kind, obj, options)
        for name in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"):
            metadata.pop(name, None)
        metadata["uid"] = self.ids.uid()
        metadata["creationTimestamp"] = self.now()
        metadata.pop("generation", None)
        if kind.strategy.generation:
            metadata["generation"] = 1
        if "status" in kind.subresources:
            obj.pop("status", None)
        generated = not metadata.get("name") and metadata.get("generateName")
        for attempt in range(GENERATED_NAME_ATTEMPTS_MAX):
            if generated:
                prefix = generated[: names.GENERATE_NAME_LENGTH_MAX]
                metadata["name"] = prefix + self.ids.suffix()
            target = Target(kind, target.namespace, metadata.get("name") or "")
            ready = self._judged(kind, obj, None)
            if manager is not None:
                ready = self.rules.track(kind, None, ready, manager)
            try:
                return self._store_new(target, ready, options, warnings)
            except errors.StatusError as error:
                last = attempt == GENERATED_NAME_ATTEMPTS_MAX - 1
                if error.reason != "AlreadyExists" or not generated or last:
                    raise
        raise AssertionError("the loop returns or raises")

    def _store_new(
        self, target: Target, obj: Object, options: WriteOptions, warnings: tuple[str, ...]
    ) -> Written:
        kind = target.kind
        if options.dry_run:
            if self.store.get(self.key(target)) is not None:
                raise errors.already_exists(kind.subject(target.name))
            return Written(obj, warnings, created=True)
        try:
            self.store.create(self.key(target), renderer(kind, obj))
        except ExistsError:
            raise errors.already_exists(kind.subject(target.name)) from None
        except TooLargeError as error:
            raise too_large(error) from None
        self._tell(kind, obj, None)
        return Written(self._again(target, obj), warnings, created=True)

    def _again(self, target: Target, obj: Object) -> Object:
        """The object as it is after the hooks, which may have written it too."""
        stored = self.store.get(self.key(target))
        return obj if stored is None else load(target.kind, stored)

    def update(self, target: Target, obj: Object, options: WriteOptions) -> Written:
        """PUT of an object, or of its status when the target names that subresource."""
        kind = target.kind
        stored = self.store.get(self.key(target))
        if stored is None:
            if kind.strategy.create_on_update and not target.subresource:
                return self.create(target, obj, options)
            raise errors.not_found(kind.subject(target.name))
        obj = shaped(target, obj)
        if obj["metadata"].get("name") != target.name:
            raise errors.bad_request(
                f"the name of the object ({obj['metadata'].get('name')}) does not match the name "
                f"on the URL ({target.name})"
            )
        if not obj["metadata"].get("resourceVersion") and not kind.strategy.unconditional_update:
            text = "Invalid value: 0: must be specified for an update"
            cause = errors.Cause("FieldValueInvalid", "metadata.resourceVersion", text)
            raise errors.invalid(kind.subject(target.name), [cause])
        manager = Manager(options.field_manager, "Update", self.now(), target.subresource)
        return self.replace(target, stored, obj, options, manager)

    def replace(
        self,
        target: Target,
        stored: Stored,
        obj: Object,
        options: WriteOptions,
        manager: Manager | None,
    ) -> Written:
        """Stores a changed object. ``manager`` is None if the object has its managedFields."""
        kind = target.kind
        old = load(kind, stored)
        self._check_versions(target, old, obj)
        status_only = target.subresource == "status" and not kind.custom
        given = own_part(target, obj) if status_only else obj
        self.rules.check_types(kind, given)
        warnings = self.unknown(kind, given, options)
        ready = carried_over(target, old, given)
        if status_only:
            # The rest of the object is stored, so it is complete and good.
            ready |= self.rules.tidy(kind, {"status": ready.get("status")})
            self._refuse(kind, ready, names.metadata_causes(kind, ready))
        else:
            ready = self._judged(kind, ready, old)
        if kind.strategy.generation and not target.subresource:
            count_generation(old, ready)
        if manager is not None:
            ready = self.rules.track(kind, old, ready, manager)
        if same(old, ready):
            return Written(old, warnings)
        if options.dry_run:
            return Written(ready, warnings)
        expected = stored.revision
        if finished(kind, ready):
            self.remove(target, ready, expected)
            return Written(ready, warnings)
        self.save(target, ready, expected)
        self._tell(kind, ready, old)
        return Written(self._again(target, ready), warnings)

    def save(self, target: Target, obj: Object, expected: int) -> None:
        """Writes an object that has passed all checks; its resourceVersion is set in place."""
        kind = target.kind
        try:
            self.store.update(self.key(target), renderer(kind, obj), expected)
        except MissingError:
            raise errors.not_found(kind.subject(target.name)) from None
        except StaleError:
            raise errors.modified(kind.subject(target.name)) from None
        except TooLargeError as error:
            raise too_large(error) from None

    def finalize(self, target: Target, stored: Stored, obj: Object) -> Object:
        """Stores an object whose finalizers have changed, or lets it go with the last one."""
        if finished(target.kind, obj):
            self.remove(target, obj, stored.revision)
        else:
            self.save(target, obj, stored.revision)
        return obj

    def remove(self, target: Target, obj: Object, expected: int) -> None:
        """Deletes an object for good."""
        self.store.delete(self.key(target), renderer(target.kind, obj), expected)
        self._tell(target.kind, None, obj)

    def _tell(self, kind: Kind, new: Object | None, old: Object | None) -> None:
        for hook in self.hooks:
            hook(kind, new, old)

    def _check_versions(self, target: Target, old: Object, obj: Object) -> None:
        subject = target.kind.subject(target.name)
        wanted, current = obj["metadata"], old["metadata"]
        if wanted.get("uid") and wanted["uid"] != current["uid"]:
            raise errors.conflict(
                subject,
                f"Precondition failed: UID in precondition: {wanted['uid']}, "
                f"UID in object meta: {current['uid']}",
            )
        version = wanted.get("resourceVersion")
        if version and version != "0" and version != current["resourceVersion"]:
            raise errors.modified(subject)

    def _check_namespace(self, kind: Kind, metadata: Object) -> None:
        if not kind.namespaced:
            return
        name = metadata["namespace"]
        stored = self.store.get(Key("namespaces.", "", name))
        if stored is None:
            raise errors.not_found(errors.Subject("", "namespaces", name))
        namespace = msgspec.json.decode(stored.body)
        if namespace["metadata"].get("deletionTimestamp"):
            why = f"unable to create new content in namespace {name} because it is being terminated"
            text = f"namespace {name} is being terminated"
            causes = [errors.Cause("NamespaceTerminating", "metadata.namespace", text)]
            subject = kind.subject(str(metadata.get("name") or ""))
            raise errors.forbidden(subject, why, causes)

    def _check_account(self, kind: Kind, obj: Object) -> None:
        """A Pod runs as a service account that exists."""
        spec = obj.get("spec")
        if kind.resource != "pods." or not isinstance(spec, dict):
            return
        namespace, name = obj["metadata"]["namespace"], spec.get("serviceAccountName") or "default"
        if self.store.get(Key("serviceaccounts.", namespace, name)) is None:
            raise errors.forbidden(
                kind.subject(str(obj["metadata"].get("name") or "")),
                f'error looking up service account {namespace}/{name}: serviceaccount "{name}" '
                "not found",
            )

    def unknown(self, kind: Kind, obj: Object, options: WriteOptions) -> tuple[str, ...]:
        if options.field_validation == "Ignore":
            return ()
        unknown = self.rules.unknown_fields(kind, obj)
        texts = [f'unknown field "{path}"' for path in unknown]
        if texts and options.field_validation == "Strict":
            raise errors.bad_request(
                f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: '
                f"strict decoding error: {', '.join(texts)}"
            )
        return tuple(texts)

    def _judged(self, kind: Kind, obj: Object, old: Object | None) -> Object:
        """The object with defaults, after all rules of its kind. Raises StatusError 422."""
        obj = self.rules.complete(kind, obj)
        kind.strategy.complete(obj, old)
        causes = names.metadata_causes(kind, obj)
        causes += self.rules.validate(kind, obj, old)
        causes += kind.strategy.validate(obj, old)
        self._refuse(kind, obj, causes)
        return obj

    def _refuse(self, kind: Kind, obj: Object, causes: list[errors.Cause]) -> None:
        if causes:
            raise errors.invalid(kind.subject(obj["metadata"].get("name") or ""), causes)


def load(kind: Kind, stored: Stored) -> Object:
    """An object of the kind's version, free to be changed."""
    obj: Object = msgspec.json.decode(stored.body)
    return kind.load(obj)


def renderer(kind: Kind, obj: Object) -> Callable[[int], bytes]:
    """Sets the resourceVersion in place and gives the bytes to store."""

    def render(revision: int) -> bytes:
        obj["metadata"]["resourceVersion"] = str(revision)
        return msgspec.json.encode(kind.keep(obj))

    return render


def shaped(target: Target, given: Any) -> Object:
    """A copy of a request's object that has kind, apiVersion and a metadata map."""
    kind = target.kind
    if not isinstance(given, dict):
        raise errors.bad_request(f"the object provided is not a {kind.kind}")
    obj: Object = dict(given)
    got = (obj.get("apiVersion") or kind.api_version, obj.get("kind") or kind.kind)
    if got != (kind.api_version, kind.kind):
        raise errors.bad_request(
            f"the API version in the data ({got[0]}, Kind={got[1]}) does not match the expected "
            f"API version ({kind.api_version}, Kind={kind.kind})"
        )
    obj["apiVersion"], obj["kind"] = kind.api_version, kind.kind
    metadata = obj.get("metadata")
    if not isinstance(metadata, dict | None):
        raise errors.bad_request("metadata: expected a map")
    metadata = {key: value for key, value in (metadata or {}).items() if value is not None}
    wrong = names.shape_causes(metadata)
    if wrong:
        raise errors.bad_request(
            f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: '
            + ", ".join(wrong)
        )
    obj["metadata"] = metadata
    if kind.namespaced:
        namespace = metadata.get("namespace") or target.namespace
        if namespace != target.namespace:
            raise errors.bad_request(
                "the namespace of the provided object does not match the namespace sent on the "
                "request"
            )
        metadata["namespace"] = namespace
    else:
        metadata.pop("namespace", None)
    return obj


_SYSTEM_FIELDS = (
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "resourceVersion",
)


def carried_over(target: Target, old: Object, obj: Object) -> Object:
    """The new object with everything that this request may not change taken from the old one."""
    kind = target.kind
    if target.subresource == "status":
        result = copy.copy(old)
        result.pop("status", None)
        if "status" in obj:
            result["status"] = obj["status"]
        metadata = dict(old["metadata"])
        if kind.strategy.status_keeps_metadata:
            for name in ("labels", "annotations"):
                metadata[name] = obj["metadata"].get(name) or {}
        managed = obj["metadata"].get("managedFields")
        if managed is not None:
            metadata["managedFields"] = managed
        result["metadata"] = metadata
        return result
    result = dict(obj)
    if "status" in kind.subresources:
        result.pop("status", None)
        if "status" in old:
            result["status"] = old["status"]
    metadata = dict(obj["metadata"])
    for name in _SYSTEM_FIELDS:
        metadata.pop(name, None)
        if name in old["metadata"]:
            metadata[name] = old["metadata"][name]
    if "managedFields" not in metadata and "managedFields" in old["metadata"]:
        metadata["managedFields"] = old["metadata"]["managedFields"]
    result["metadata"] = metadata
    return result


def own_part(target: Target, obj: Object) -> Object:
    """What a request is about: the status on that subresource, everything else without it."""
    if target.subresource == "status":
        part = ("apiVersion", "kind", "metadata", "status")
        return {name: obj[name] for name in part if name in obj}
    if "status" in target.kind.subresources:
        return {name: value for name, value in obj.items() if name != "status"}
    return obj


def count_generation(old: Object, new: Object) -> None:
    """Counts up if anything but metadata and status changed."""
    before, after = (
        {key: value for key, value in obj.items() if key not in ("metadata", "status")}
        for obj in (old, new)
    )
    if before != after:
        new["metadata"]["generation"] = int(old["metadata"].get("generation") or 0) + 1


def same(old: Object, new: Object) -> bool:
    """Whether a write changes nothing; the times in managedFields do not count."""
    if {k: v for k, v in old.items() if k != "metadata"} != {
        k: v for k, v in new.items() if k != "metadata"
    }:
        return False
    return _without_times(old["metadata"]) == _without_times(new["metadata"])


def _without_times(metadata: Object) -> Object:
    managed = [
        {key: value for key, value in entry.items() if key != "time"}
        for entry in metadata.get("managedFields") or ()
    ]
    return {key: value for key, value in metadata.items() if value and key != "resourceVersion"} | {
        "managedFields": managed
    }


def finished(kind: Kind, obj: Object) -> bool:
    """Whether nothing holds a deleted object any more."""
    metadata = obj["metadata"]
    if not metadata.get("deletionTimestamp") or metadata.get("finalizers"):
        return False
    if kind.kind == "Namespace" and not kind.group:
        return not (obj.get("spec") or {}).get("finalizers")
    return not metadata.get("deletionGracePeriodSeconds")


def too_large(error: TooLargeError) -> errors.StatusError:
    return errors.request_too_large(f"the object is too large: {error.args[0]} bytes")
