"""ReplicaSets: as many Pods as are wanted, the most dispensable ones deleted first.

``plan`` is pure. Knows Pods by their labels, owners, phase and readiness.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from inferway.api.resources import PODS, REPLICA_SETS
from inferway.cluster.client import Object
from inferway.cluster.store import Change, Key
from inferway.cluster.workqueue import RetryLater, WorkQueue
from inferway.local.controllers import objects as o
from inferway.local.controllers.actions import Action, Create, Delete, Executor, Note, Patch, Status
from inferway.local.controllers.objects import Raw
from inferway.local.controllers.pod_template import new_pod
from inferway.local.controllers.runtime import Context, Controller, follow_owner

COMPONENT = "replicaset-controller"
# As Kubernetes: one look changes at most so many Pods, the next look goes on.
BURST_PODS_MAX = 500
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"


@dataclass(frozen=True, slots=True)
class Plan:
    """What one look at a ReplicaSet wants; ``claims`` adopt or release Pods."""

    claims: Sequence[Patch]
    create: Sequence[Create]
    delete: Sequence[Delete]
    status: Object
    again_seconds: float | None = None


def plan(replica_set: Raw, candidates: Sequence[Raw], now: float) -> Plan:
    """Compares a ReplicaSet with the Pods of its namespace that may be its own."""
    claims: list[Patch] = []
    if o.deleting(replica_set):
        owned = [pod for pod in candidates if _owns(replica_set, pod)]
    else:
        owned, claims = claim(replica_set, candidates)
    active = [pod for pod in owned if o.pod_active(pod)]
    wanted = o.integer(o.spec(replica_set).get("replicas"), 1)
    create: list[Create] = []
    delete: list[Delete] = []
    if not o.deleting(replica_set):
        missing = wanted - len(active)
        if missing > 0:
            template = o.spec(replica_set).get("template") or {}
            pod = new_pod(replica_set, REPLICA_SETS, template)
            create = [Create(PODS, pod)] * min(missing, BURST_PODS_MAX)
        elif missing < 0:
            doomed = victims(active, min(-missing, BURST_PODS_MAX), now)
            delete = [Delete(PODS, pod) for pod in doomed]
    status = new_status(replica_set, active, now)
    return Plan(claims, create, delete, status, _next_available(replica_set, active, now))


def claim(replica_set: Raw, candidates: Sequence[Raw]) -> tuple[list[Raw], list[Patch]]:
    """The Pods that belong to the ReplicaSet, and the patches that make it so."""
    owned: list[Raw] = []
    patches: list[Patch] = []
    selector = o.spec(replica_set).get("selector")
    for pod in candidates:
        matches = o.selects(selector, o.labels(pod))
        references = list(o.meta(pod).get("ownerReferences") or ())
        if _owns(replica_set, pod):
            if matches:
                owned.append(pod)
            elif not o.deleting(pod):
                kept = [ref for ref in references if ref.get("uid") != o.uid(replica_set)]
                patches.append(_owners(pod, kept))
        elif matches and o.controller_of(pod) is None and o.pod_active(pod):
            owned.append(pod)
            reference = o.controller_reference(replica_set, REPLICA_SETS)
            patches.append(_owners(pod, [*references, reference]))
    return owned, patches


def _owners(pod: Raw, references: list[Any]) -> Patch:
    return Patch(PODS, pod, {"metadata": {"ownerReferences": references}}, guard=True)


def _owns(replica_set: Raw, pod: Raw) -> bool:
    owner = o.controller_of(pod)
    return owner is not None and owner.get("uid") == o.uid(replica_set)


def victims(active: Sequence[Raw], count: int, now: float) -> list[Raw]:
    """The Pods to delete first, in Kubernetes' order.

    Unassigned before assigned, pending before running, not ready before ready, lower deletion
    cost, more neighbours on the same node, ready for a shorter time, more restarts, younger.
    """
    neighbours = Counter(str(o.spec(pod).get("nodeName") or "") for pod in active)
    phases = {"Pending": 0, "Unknown": 1, "Running": 2}

    def rank(pod: Raw) -> tuple[float, ...]:
        node = str(o.spec(pod).get("nodeName") or "")
        ready = o.pod_ready(pod)
        return (
            1 if node else 0,
            phases.get(o.pod_phase(pod), 1),
            1 if ready else 0,
            _deletion_cost(pod),
            -neighbours[node],
            -o.pod_ready_since(pod) if ready else 0,
            -o.restarts(pod),
            -o.created_at(pod),
        )

    # The name makes the order total, so that a repeated look picks the same Pods.
    return sorted(active, key=lambda pod: (*rank(pod), o.name(pod)))[:count]


def _deletion_cost(pod: Raw) -> int:
    try:
        return int(o.annotated(pod).get(DELETION_COST) or 0)
    except ValueError:
        return 0


def new_status(replica_set: Raw, active: Sequence[Raw], now: float) -> Object:
    """The status of a ReplicaSet with these active Pods; conditions are kept."""
    spec = o.spec(replica_set)
    minimum = o.integer(spec.get("minReadySeconds"), 0)
    wanted_labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    labelled = [
        pod for pod in active if all(o.labels(pod).get(k) == v for k, v in wanted_labels.items())
    ]
    counts = {
        "fullyLabeledReplicas": len(labelled),
        "readyReplicas": sum(1 for pod in active if o.pod_ready(pod)),
        "availableReplicas": sum(1 for pod in active if o.pod_available(pod, minimum, now)),
    }
    status: Object = {
        "replicas": len(active),
        **{key: value for key, value in counts.items() if value},
        "observedGeneration": o.meta(replica_set).get("generation", 1),
    }
    conditions = o.status(replica_set).get("conditions")
    if conditions:
        status["conditions"] = conditions
    return status


def _next_available(replica_set: Raw, active: Sequence[Raw], now: float) -> float | None:
    minimum = o.integer(o.spec(replica_set).get("minReadySeconds"), 0)
    waits = [
        o.pod_ready_since(pod) + minimum - now
        for pod in active
        if o.pod_ready(pod) and not o.pod_available(pod, minimum, now)
    ]
    return max(min(waits), 0.01) if waits else None


def with_failure(status: Object, reason: str, message: str, now: float) -> Object:
    """The status with a ReplicaFailure condition, or without one if ``reason`` is empty."""
    conditions = [dict(c) for c in status.get("conditions") or ()]
    if reason:
        new = {"type": "ReplicaFailure", "status": "True", "reason": reason, "message": message}
        conditions = o.with_condition(conditions, new, now)
    else:
        conditions = [c for c in conditions if c.get("type") != "ReplicaFailure"]
    rest = {key: value for key, value in status.items() if key != "conditions"}
    return {**rest, "conditions": conditions} if conditions else rest


def controller(context: Context) -> Controller:
    """The pump: Pods and ReplicaSets in, requests out."""
    queue: WorkQueue[Key] = WorkQueue("replicasets")
    executor = context.executor(COMPONENT)
    sets = context.caches.of(REPLICA_SETS)
    pods = context.caches.of(PODS)
    sets.subscribe(queue.add)
    pods.subscribe_changes(follow_owner(queue, REPLICA_SETS.kind))

    def orphan_seen(change: Change[Object]) -> None:
        pod = change.new
        if pod is None or o.controller_of(pod) is not None:
            return
        for candidate in context.in_namespace(REPLICA_SETS, change.key.namespace):
            if o.selects(o.spec(candidate).get("selector"), o.labels(pod)):
                queue.add(Key(change.key.namespace, o.name(candidate)))

    pods.subscribe_changes(orphan_seen)

    async def reconcile(key: Key) -> float | None:
        replica_set = context.get(REPLICA_SETS, key)
        if replica_set is None:
            return None
        candidates = context.in_namespace(PODS, key.namespace)
        wanted = plan(replica_set, candidates, context.now())
        await executor.perform(wanted.claims)
        reason, message = await _manage(executor, replica_set, wanted)
        status = with_failure(wanted.status, reason, message, context.now())
        await executor.perform([Status(REPLICA_SETS, replica_set, status)])
        if reason:
            raise RetryLater(message)
        return wanted.again_seconds

    return Controller("replicasets", queue, reconcile)


async def _manage(executor: Executor, replica_set: Raw, wanted: Plan) -> tuple[str, str]:
    """Creates and deletes; returns the reason and message of the first failure."""
    notes: list[Action] = []
    reason, message = "", ""
    for result in await executor.create_in_batches(wanted.create):
        if isinstance(result, BaseException):
            text = getattr(result, "message", str(result))
            notes.append(Note(replica_set, "Warning", "FailedCreate", f"Error creating: {text}"))
            reason, message = "FailedCreate", text
        else:
            created = f"Created pod: {o.name(result)}"
            notes.append(Note(replica_set, "Normal", "SuccessfulCreate", created))
    for deletion in wanted.delete:
        await executor.delete(deletion)
        deleted = f"Deleted pod: {o.name(deletion.obj)}"
        notes.append(Note(replica_set, "Normal", "SuccessfulDelete", deleted))
    await executor.perform(notes)
    return reason, message
