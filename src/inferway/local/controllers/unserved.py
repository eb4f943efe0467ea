"""Tells people about kinds that are stored here and acted on by nobody.

``advice`` is pure. Silence would look like a fault: a Warning Event says what to do instead.
"""

from __future__ import annotations

from inferway.api.resources import ResourceType
from inferway.cluster.client import Object
from inferway.cluster.informer import Informer
from inferway.cluster.store import Change, Key
from inferway.cluster.workqueue import WorkQueue
from inferway.local.controllers.actions import Note
from inferway.local.controllers.objects import Raw, deleting
from inferway.local.controllers.runtime import Context, Controller

COMPONENT = "inferway-local"
REASON = "NotSupportedLocally"

# (group, plural) -> what to do instead.
_INSTEAD = {
    ("apps", "daemonsets"): "use a Deployment with one replica",
    ("apps", "statefulsets"): "use a Deployment, with an emptyDir volume for data",
    ("batch", "cronjobs"): "create a Job when it is due",
    ("autoscaling", "horizontalpodautoscalers"): "use kubectl scale",
    ("", "persistentvolumeclaims"): "use an emptyDir volume",
}


def advice(resource: ResourceType) -> str:
    """The message about an object of this kind; empty if the kind is served or only data."""
    instead = _INSTEAD.get((resource.group, resource.plural))
    if instead is None:
        return ""
    return f"The local stack stores {resource.kind} objects and does not act on them; {instead}"


def controller(context: Context) -> Controller:
    """The pump: each new object of such a kind gets one Event."""
    queue: WorkQueue[tuple[ResourceType, Key]] = WorkQueue("unserved")
    executor = context.executor(COMPONENT)

    def follow(resource: ResourceType, informer: Informer[Object]) -> None:
        if not advice(resource):
            return

        def changed(change: Change[Object]) -> None:
            if change.old is None:
                queue.add((resource, change.key))

        informer.subscribe_changes(changed)

    context.caches.on_new_kind(follow)

    async def reconcile(target: tuple[ResourceType, Key]) -> float | None:
        resource, key = target
        obj: Raw | None = context.get(resource, key) if context.caches.has(resource) else None
        if obj is not None and not deleting(obj):
            await executor.perform([Note(obj, "Warning", REASON, advice(resource))])
        return None

    return Controller("unserved", queue, reconcile, workers=1)
