"""Deletes Pods that nobody will end: too many finished ones, and those of nodes that are gone.

``plan`` is pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from inferway.api.resources import NODES, PODS
from inferway.cluster.client import Object
from inferway.cluster.store import Change, Key
from inferway.cluster.workqueue import WorkQueue
from inferway.local.controllers import objects as o
from inferway.local.controllers.actions import Action, Again, Delete, Note
from inferway.local.controllers.objects import Raw
from inferway.local.controllers.runtime import Context, Controller

COMPONENT = "pod-garbage-collector"
_ALL = Key("", "pods")


@dataclass(frozen=True, slots=True)
class Limits:
    """How many finished Pods are kept, and how long Pods of a missing node are."""

    finished_max: int
    orphaned_seconds: float


def plan(
    pods: Sequence[Raw],
    nodes: Set[str],
    missing_since: Mapping[str, float],
    now: float,
    limits: Limits,
) -> list[Action]:
    """``missing_since`` says since when (monotonic seconds) a node name is not to be found."""
    actions: list[Action] = []
    finished = [pod for pod in pods if o.pod_finished(pod) and not o.deleting(pod)]
    surplus = len(finished) - limits.finished_max
    if surplus > 0:
        finished.sort(key=lambda pod: (o.created_at(pod), o.name(pod)))
        actions += [Delete(PODS, pod, grace_seconds=0) for pod in finished[:surplus]]
    waits: list[float] = []
    for pod in pods:
        node = str(o.spec(pod).get("nodeName") or "")
        if not node:
            if o.deleting(pod):
                actions.append(Delete(PODS, pod, grace_seconds=0))
        elif node not in nodes:
            left = missing_since.get(node, now) + limits.orphaned_seconds - now
            if left > 0:
                waits.append(left)
                continue
            what = f"PodGC: node {node} no longer exists"
            actions.append(Note(pod, "Normal", "DeletionByPodGC", what))
            actions.append(Delete(PODS, pod, grace_seconds=0))
    return actions + ([Again(max(min(waits), 0.01))] if waits else [])


def controller(context: Context) -> Controller:
    """The pump: one look at all Pods, when a Pod ends or a node goes."""
    queue: WorkQueue[Key] = WorkQueue("pod-gc")
    executor = context.executor(COMPONENT)
    limits = Limits(context.options.finished_pods_max, context.options.orphaned_pod_seconds)
    missing: dict[str, float] = {}

    def pod_changed(change: Change[Object]) -> None:
        pod = change.new
        if pod is None:
            return
        node = str(o.spec(pod).get("nodeName") or "")
        lost = node and Key("", node) not in context.caches.of(NODES).store
        if o.pod_finished(pod) or lost or (o.deleting(pod) and not node):
            queue.add(_ALL)

    context.caches.of(PODS).subscribe_changes(pod_changed)
    context.caches.of(NODES).subscribe_changes(
        lambda change: queue.add(_ALL) if (change.old is None) != (change.new is None) else None
    )

    async def reconcile(_: Key) -> float | None:
        pods = list(context.caches.of(PODS).store.values())
        nodes = {key.name for key in context.caches.of(NODES).store}
        now = context.options.clock.monotonic()
        named = {str(o.spec(pod).get("nodeName") or "") for pod in pods} - nodes - {""}
        for name in named:
            missing.setdefault(name, now)
        for name in [name for name in missing if name not in named]:
            del missing[name]
        return await executor.perform(plan(pods, nodes, missing, now, limits))

    return Controller("pod-gc", queue, reconcile, workers=1)
