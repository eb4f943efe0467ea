"""Nodes that stop their heartbeat: marked, tainted, and their Pods not ready.

``plan`` is pure. A heartbeat is a change of the node's Lease in kube-node-lease; how long ago it
was is measured with the controller's own clock.
"""

from __future__ import annotations

from collections.abc import Sequence

from inferway.api.resources import LEASES, NODES, PODS
from inferway.base.clock import rfc3339
from inferway.cluster.client import Object
from inferway.cluster.store import Change, Key
from inferway.cluster.workqueue import WorkQueue
from inferway.local.controllers import objects as o
from inferway.local.controllers.actions import Action, Note, Patch
from inferway.local.controllers.objects import Raw
from inferway.local.controllers.runtime import Context, Controller

COMPONENT = "node-controller"
LEASE_NAMESPACE = "kube-node-lease"
UNREACHABLE = "node.kubernetes.io/unreachable"
NOT_READY = "node.kubernetes.io/not-ready"
_SILENT = ("NodeStatusUnknown", "Kubelet stopped posting node status.")
# A timer that rings so late means that this program itself stood still (a busy or sleeping
# machine), and heartbeats wait to be read: the node gets its time again.
STALL_SECONDS = 5.0
_CONDITIONS = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")


def plan(node: Raw, pods: Sequence[Raw], silent: bool, now: float) -> list[Action]:
    """What a node's silence, or its return, means for it and its Pods."""
    actions: list[Action] = []
    ready = o.condition(node, "Ready")
    if silent and (ready is None or ready.get("status") != "Unknown"):
        actions += _mark_silent(node, now)
    # A node that never told its state is new, and not ill.
    state = "Unknown" if silent else str(ready.get("status")) if ready else "True"
    actions += _taint(node, state, now)
    if state != "True":
        for pod in pods:
            if o.pod_ready(pod) and not o.pod_finished(pod):
                actions += _not_ready(pod, now)
    return actions


def _mark_silent(node: Raw, now: float) -> list[Action]:
    conditions = [dict(c) for c in o.status(node).get("conditions") or ()]
    present = {c.get("type") for c in conditions} | {"Ready"}
    reason, message = _SILENT
    for kind in _CONDITIONS:
        if kind in present:
            new = {"type": kind, "status": "Unknown", "reason": reason, "message": message}
            conditions = o.with_condition(conditions, new, now)
    note = f"Node {o.name(node)} status is now: NodeNotReady"
    return [
        Patch(NODES, node, {"status": {"conditions": conditions}}, subresource="status"),
        Note(node, "Normal", "NodeNotReady", note),
    ]


def _taint(node: Raw, state: str, now: float) -> list[Action]:
    """Keeps new Pods away from a node that is not ready."""
    wanted = {"Unknown": UNREACHABLE, "False": NOT_READY}.get(state)
    taints = list(o.spec(node).get("taints") or ())
    kept = [t for t in taints if t.get("key") not in (UNREACHABLE, NOT_READY)]
    present = {t.get("key") for t in taints} & {UNREACHABLE, NOT_READY}
    if present == ({wanted} if wanted else set()):
        return []
    if wanted:
        kept.append({"key": wanted, "effect": "NoSchedule", "timeAdded": rfc3339(now)})
    return [Patch(NODES, node, {"spec": {"taints": kept or None}}, guard=True)]


def _not_ready(pod: Raw, now: float) -> list[Action]:
    new = {"type": "Ready", "status": "False"}
    conditions = o.with_condition(o.status(pod).get("conditions") or (), new, now)
    return [
        Patch(PODS, pod, {"status": {"conditions": conditions}}, subresource="status"),
        Note(pod, "Warning", "NodeNotReady", "Node is not ready"),
    ]


def controller(context: Context) -> Controller:
    """The pump: nodes and leases in; one timer for each node."""
    queue: WorkQueue[Key] = WorkQueue("nodes")
    executor = context.executor(COMPONENT)
    monotonic = context.options.clock.monotonic
    grace = context.options.node_grace_seconds
    heard: dict[str, float] = {}
    silent: set[str] = set()

    def lease_changed(change: Change[Object]) -> None:
        if change.key.namespace != LEASE_NAMESPACE or change.new is None:
            return
        name = change.key.name
        heard[name] = monotonic()
        # Heartbeats move the time only; the timer that runs asks for it when it ends.
        if name in silent:
            silent.discard(name)
            queue.add(Key("", name))

    def node_changed(change: Change[Object]) -> None:
        if change.new is None:
            heard.pop(change.key.name, None)
            silent.discard(change.key.name)
            return
        heard.setdefault(change.key.name, monotonic())
        queue.add(change.key)

    context.caches.of(LEASES).subscribe_changes(lease_changed)
    context.caches.of(NODES).subscribe_changes(node_changed)

    async def reconcile(key: Key) -> float | None:
        node = context.get(NODES, key)
        if node is None or o.deleting(node):
            return None
        since = monotonic() - heard.setdefault(key.name, monotonic())
        if since > grace + STALL_SECONDS and key.name not in silent:
            heard[key.name] = monotonic()
            return grace
        quiet = since >= grace
        if quiet:
            silent.add(key.name)
        pods = [
            pod
            for pod in context.caches.of(PODS).store.values()
            if o.spec(pod).get("nodeName") == key.name
        ]
        await executor.perform(plan(node, pods, quiet, context.now()))
        return None if quiet else max(grace - since, 0.01)

    return Controller("nodes", queue, reconcile, workers=1)
