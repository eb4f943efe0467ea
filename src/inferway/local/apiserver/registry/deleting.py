"""DELETE: grace for Pods, finalizers, propagation, preconditions, and collections.

Dependents are collected by a controller through the API; here only the finalizers
``foregroundDeletion`` and ``orphan`` are set for it. Raises StatusError.
"""

from __future__ import annotations

from inferway.base.clock import rfc3339
from inferway.local.apiserver.registry import errors
from inferway.local.apiserver.registry.kinds import Kind, Object
from inferway.local.apiserver.registry.options import DeleteOptions, Target, Written
from inferway.local.apiserver.registry.registry import Registry, finished, load
from inferway.local.apiserver.registry.selectors import Selector
from inferway.local.apiserver.storage.values import Stored

POD_GRACE_SECONDS = 30
_PROPAGATION_FINALIZERS = {"Foreground": "foregroundDeletion", "Orphan": "orphan"}
# Kubernetes keeps these; taking them away would take the cluster's own ground away.
_PROTECTED_NAMESPACES = frozenset({"default", "kube-system", "kube-public"})


def delete(registry: Registry, target: Target, options: DeleteOptions) -> Written:
    """Deletes one object, or marks it for those who have to let it go first."""
    stored = registry.stored(target)
    kind = target.kind
    old = load(kind, stored)
    if kind.resource == "namespaces." and target.name in _PROTECTED_NAMESPACES:
        raise errors.forbidden(kind.subject(target.name), "this namespace may not be deleted")
    _check_preconditions(target, old, options)
    obj = marked(registry, kind, old, options)
    if options.dry_run:
        return _answer(kind, old, obj)
    if finished(kind, obj):
        registry.remove(target, obj, stored.revision)
        return _answer(kind, old, obj)
    if obj != old:
        registry.save(target, obj, stored.revision)
        for hook in registry.hooks:
            hook(kind, obj, old)
    return Written(obj)


def _check_preconditions(target: Target, old: Object, options: DeleteOptions) -> None:
    subject = target.kind.subject(target.name)
    uid = old["metadata"]["uid"]
    if options.uid and options.uid != uid:
        raise errors.conflict(
            subject,
            f"Precondition failed: UID in precondition: {options.uid}, UID in object meta: {uid}",
        )
    version = old["metadata"]["resourceVersion"]
    if options.resource_version and options.resource_version != version:
        raise errors.conflict(
            subject,
            f"Precondition failed: ResourceVersion in precondition: {options.resource_version}, "
            f"ResourceVersion in object meta: {version}",
        )


def marked(registry: Registry, kind: Kind, old: Object, options: DeleteOptions) -> Object:
    """The object with its deletion marks; ``finished`` tells whether anything holds it."""
    metadata = dict(old["metadata"])
    finalizers = [
        name
        for name in metadata.get("finalizers") or ()
        if options.propagation is None or name not in _PROPAGATION_FINALIZERS.values()
    ]
    wanted = _PROPAGATION_FINALIZERS.get(options.propagation or "")
    if wanted:
        finalizers.append(wanted)
    metadata.pop("finalizers", None)
    if finalizers:
        metadata["finalizers"] = finalizers
    grace = _grace_seconds(kind, old, options)
    before = metadata.get("deletionGracePeriodSeconds")
    if "deletionTimestamp" not in metadata or (before is not None and grace < before):
        if "deletionTimestamp" not in metadata and metadata.get("generation"):
            metadata["generation"] += 1
        metadata["deletionTimestamp"] = rfc3339(registry.clock.wall() + grace)
        metadata["deletionGracePeriodSeconds"] = grace
    result = {**old, "metadata": metadata}
    if kind.resource == "namespaces.":
        result["status"] = {**(old.get("status") or {}), "phase": "Terminating"}
    return result


def _grace_seconds(kind: Kind, old: Object, options: DeleteOptions) -> int:
    """Zero unless a node has to end the Pod's processes first."""
    if not kind.strategy.graceful:
        return 0
    spec = old.get("spec") or {}
    phase = (old.get("status") or {}).get("phase")
    if not spec.get("nodeName") or phase in ("Succeeded", "Failed"):
        return 0
    if options.grace_seconds is not None:
        return max(0, options.grace_seconds)
    grace = spec.get("terminationGracePeriodSeconds")
    return max(0, grace) if isinstance(grace, int) else POD_GRACE_SECONDS


def _answer(kind: Kind, old: Object, obj: Object) -> Written:
    if kind.strategy.returns_deleted:
        return Written(obj)
    details = {
        "name": old["metadata"]["name"],
        "group": kind.group,
        "kind": kind.plural,
        "uid": old["metadata"]["uid"],
    }
    status = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {key: value for key, value in details.items() if value},
    }
    return Written(obj, status=status)


def delete_collection(
    registry: Registry, target: Target, selector: Selector, options: DeleteOptions
) -> list[Object]:
    """Deletes every object that matches; returns what was deleted or marked."""
    chosen: list[Stored] = [
        stored
        for stored in registry.store.objects(target.kind.resource, target.namespace)
        if selector.matches(stored.index)
    ]
    if target.kind.resource == "namespaces.":
        raise errors.method_not_allowed()
    deleted = []
    for stored in chosen:
        one = Target(target.kind, stored.key.namespace, stored.key.name)
        if registry.store.get(stored.key) is not None:
            deleted.append(delete(registry, one, options).object)
    return deleted
