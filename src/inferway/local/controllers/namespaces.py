"""Deletes what is in a namespace that was deleted, and then lets the namespace go.

``remaining`` and ``conditions`` are pure. Knows kinds from the inventory only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from inferway.api.resources import EVENTS, NAMESPACES, PODS, ResourceType
from inferway.cluster.client import Object
from inferway.cluster.errors import NotFoundError
from inferway.cluster.informer import Informer
from inferway.cluster.store import Change, Key
from inferway.cluster.workqueue import RetryLater, WorkQueue
from inferway.local.controllers import objects as o
from inferway.local.controllers.actions import Delete, Patch
from inferway.local.controllers.discovery import UNWATCHED, Inventory
from inferway.local.controllers.objects import Raw
from inferway.local.controllers.runtime import Context, Controller

COMPONENT = "namespace-controller"
FINALIZER = "kubernetes"


def conditions(namespace: Raw, left: Mapping[ResourceType, Sequence[Raw]], now: float) -> Object:
    """The status of a namespace that ends, in Kubernetes' words."""
    counts = [
        f"{_full_name(kind)} has {len(objects)} resource instances"
        for kind, objects in sorted(left.items(), key=lambda item: _full_name(item[0]))
        if objects
    ]
    held: dict[str, int] = {}
    for objects in left.values():
        for obj in objects:
            for finalizer in o.meta(obj).get("finalizers") or ():
                held[finalizer] = held.get(finalizer, 0) + 1
    finalizers = [f"{name} in {count} resource instances" for name, count in sorted(held.items())]
    entries = (
        (
            "NamespaceContentRemaining",
            "SomeResourcesRemain" if counts else "ContentRemoved",
            f"Some resources are remaining: {', '.join(counts)}"
            if counts
            else "All content successfully removed",
            bool(counts),
        ),
        (
            "NamespaceFinalizersRemaining",
            "SomeFinalizersRemain" if finalizers else "ContentHasNoFinalizers",
            f"Some content in the namespace has finalizers remaining: {', '.join(finalizers)}"
            if finalizers
            else "All content-preserving finalizers finished",
            bool(finalizers),
        ),
    )
    result = [dict(c) for c in o.status(namespace).get("conditions") or ()]
    for kind, reason, message, remains in entries:
        new = {
            "type": kind,
            "status": "True" if remains else "False",
            "reason": reason,
            "message": message,
        }
        result = o.with_condition(result, new, now)
    return {"phase": "Terminating", "conditions": result}


def _full_name(kind: ResourceType) -> str:
    return f"{kind.plural}.{kind.group}" if kind.group else f"{kind.plural}."


def controller(context: Context, inventory: Inventory) -> Controller:
    """The pump: a look follows each object that leaves an ending namespace."""
    queue: WorkQueue[Key] = WorkQueue("namespaces")
    executor = context.executor(COMPONENT)
    namespaces = context.caches.of(NAMESPACES)

    def ending(key: Key) -> bool:
        namespace = context.get(NAMESPACES, key)
        return namespace is not None and o.deleting(namespace)

    def namespace_changed(change: Change[Object]) -> None:
        if change.new is not None and o.deleting(change.new):
            queue.add(change.key)

    def follow(resource: ResourceType, informer: Informer[Object]) -> None:
        if resource.namespaced:
            informer.subscribe(lambda key: _maybe(Key("", key.namespace)))

    def _maybe(key: Key) -> None:
        if ending(key):
            queue.add(key)

    namespaces.subscribe_changes(namespace_changed)
    context.caches.on_new_kind(follow)

    async def reconcile(key: Key) -> float | None:
        namespace = context.get(NAMESPACES, key)
        if namespace is None or not o.deleting(namespace):
            return None
        await inventory.known.wait()
        await context.caches.synced()
        left = remaining(context, inventory, key.name)
        for kind, objects in left.items():
            for obj in objects:
                if not o.deleting(obj):
                    # Unbound Pods have nobody who would end them with grace.
                    unbound = kind == PODS and not o.spec(obj).get("nodeName")
                    await executor.delete(Delete(kind, obj, grace_seconds=0 if unbound else None))
        left = remaining(context, inventory, key.name)
        if any(left.values()):
            status = conditions(namespace, left, context.now())
            patch = Patch(NAMESPACES, namespace, {"status": status}, subresource="status")
            if dict(o.status(namespace)) != status:
                await executor.perform([patch])
            return None
        if await _missed(context, inventory, key.name):
            # A cache was behind; what it missed is in it by the next look.
            raise RetryLater
        await _delete_events(context, key.name)
        await _finalize(context, namespace)
        return None

    return Controller("namespaces", queue, reconcile, workers=2)


def remaining(
    context: Context, inventory: Inventory, namespace: str
) -> dict[ResourceType, list[Object]]:
    """Everything in a namespace that the caches show."""
    running = context.caches.resources()
    return {
        kind: list(context.in_namespace(kind, namespace))
        for kind in inventory.kinds
        if kind.namespaced and kind in running
    }


async def _missed(context: Context, inventory: Inventory, namespace: str) -> bool:
    """Asks the server itself whether the namespace is empty; Events do not count."""
    for kind in inventory.kinds:
        if not kind.namespaced or (kind.group, kind.plural) in UNWATCHED:
            continue
        try:
            found = await context.client.list(kind, namespace)
        except NotFoundError:
            # The kind went meanwhile, and its objects with it.
            continue
        if found.items:
            return True
    return False


async def _delete_events(context: Context, namespace: str) -> None:
    for event in (await context.client.list(EVENTS, namespace)).items:
        try:
            await context.client.delete(EVENTS, o.name(event), namespace)
        except NotFoundError:
            continue


async def _finalize(context: Context, namespace: Object) -> None:
    rest = [f for f in o.spec(namespace).get("finalizers") or () if f != FINALIZER]
    body = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": o.name(namespace), "uid": o.uid(namespace)},
        "spec": {"finalizers": rest},
    }
    path = NAMESPACES.path(None, o.name(namespace)) + "/finalize"
    try:
        await context.client.request("PUT", path, body)
    except NotFoundError:
        return
