"""Deployments: one ReplicaSet for each template, and a rollout from the old to the new.

``plan`` is pure. Knows ReplicaSets and their statuses; of Pods only whether old ones still run,
which Recreate waits for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from inferway.api.resources import DEPLOYMENTS, PODS, REPLICA_SETS
from inferway.cluster.client import Object
from inferway.cluster.errors import AlreadyExistsError
from inferway.cluster.store import Change, Key
from inferway.cluster.workqueue import WorkQueue
from inferway.local.controllers import objects as o
from inferway.local.controllers import revisions as r
from inferway.local.controllers.actions import Action, Again, Create, Delete, Note, Patch, Status
from inferway.local.controllers.deployment_status import new_status
from inferway.local.controllers.objects import Raw
from inferway.local.controllers.rollout import (
    Limits,
    new_set_size,
    old_set_sizes,
    proportional_sizes,
)
from inferway.local.controllers.runtime import Context, Controller, follow_owner

COMPONENT = "deployment-controller"


@dataclass(frozen=True, slots=True)
class View:
    """A Deployment and its ReplicaSets at one moment."""

    deployment: Raw
    new: Raw | None
    olds: Sequence[Raw]
    limits: Limits
    now: float

    @property
    def replicas(self) -> int:
        return r.replicas_of(self.deployment)

    @property
    def sets(self) -> list[Raw]:
        return [*self.olds, *([self.new] if self.new is not None else [])]

    @property
    def recreate(self) -> bool:
        return (o.spec(self.deployment).get("strategy") or {}).get("type") == "Recreate"

    @property
    def paused(self) -> bool:
        return bool(o.spec(self.deployment).get("paused"))


def view(deployment: Raw, sets: Sequence[Raw], now: float) -> View:
    """Tells the new ReplicaSet from the old ones."""
    new = r.find_new(deployment, sets)
    olds = [s for s in sets if s is not new]
    strategy = o.spec(deployment).get("strategy") or {}
    rolling = strategy.get("rollingUpdate") or {}
    if strategy.get("type") == "Recreate":
        limits = Limits(0, 0)
    else:
        limits = Limits.of(
            rolling.get("maxSurge", "25%"),
            rolling.get("maxUnavailable", "25%"),
            r.replicas_of(deployment),
        )
    return View(deployment, new, olds, limits, now)


def plan(deployment: Raw, sets: Sequence[Raw], old_pods_running: bool, now: float) -> list[Action]:
    """The next step of a Deployment, and the status that it has before the step."""
    current = view(deployment, sets, now)
    if o.deleting(deployment):
        return [Status(DEPLOYMENTS, deployment, new_status(current).status)]
    steps: list[Action] = []
    if current.paused or _scaled_meanwhile(current):
        steps = _scale(current)
    elif current.recreate:
        steps = _recreate(current, old_pods_running)
    else:
        steps = _roll(current)
    outcome = new_status(current)
    result = [*steps, Status(DEPLOYMENTS, deployment, outcome.status)]
    if outcome.complete and not current.paused and not steps:
        result += [Delete(REPLICA_SETS, old) for old in r.expired(deployment, current.olds)]
    if outcome.again_seconds is not None:
        result.append(Again(outcome.again_seconds))
    return result


def _scaled_meanwhile(current: View) -> bool:
    """The wanted number changed since the active sets were last sized."""
    return any(
        r.number_of(s, r.DESIRED) not in (None, current.replicas)
        for s in current.sets
        if r.replicas_of(s) > 0
    )


def _scale(current: View) -> list[Action]:
    """Follows the number of replicas without going on with the rollout."""
    active = [s for s in current.sets if r.replicas_of(s) > 0]
    if len(active) <= 1:
        only = active[0] if active else current.new or _latest(current.olds)
        return [] if only is None else _resize(current, only, current.replicas)
    if current.new is not None and _saturated(current, current.new):
        return [a for old in current.olds for a in _resize(current, old, 0)]
    if current.recreate:
        return []
    sizes = proportional_sizes([r.size_of(s) for s in active], current.replicas, current.limits)
    return [
        action
        for s in active
        for action in _resize(current, s, sizes.get(o.name(s), r.replicas_of(s)))
    ]


def _latest(sets: Sequence[Raw]) -> Raw | None:
    return max(sets, key=lambda s: (r.revision_of(s), o.created_at(s)), default=None)


def _saturated(current: View, new: Raw) -> bool:
    size = r.size_of(new)
    noted = r.number_of(new, r.DESIRED)
    return size.wanted == current.replicas == noted == size.available


def _roll(current: View) -> list[Action]:
    olds = [r.size_of(s) for s in current.olds]
    if current.new is None:
        total = sum(s.wanted for s in olds)
        room = max(current.replicas + current.limits.surge - total, 0)
        return _create(current, min(room, current.replicas))
    new = r.size_of(current.new)
    wanted = new_set_size(new, olds, current.replicas, current.limits)
    steps = [*_annotate(current), *_resize(current, current.new, wanted)]
    if wanted != new.wanted:
        return steps
    sizes = old_set_sizes(new, olds, current.replicas, current.limits)
    for old in current.olds:
        if o.name(old) in sizes:
            steps += _resize(current, old, sizes[o.name(old)])
    return steps


def _recreate(current: View, old_pods_running: bool) -> list[Action]:
    shrink = [a for old in current.olds if r.replicas_of(old) for a in _resize(current, old, 0)]
    if shrink:
        return shrink
    if old_pods_running:
        return []
    if current.new is None:
        return _create(current, current.replicas)
    return [*_annotate(current), *_resize(current, current.new, current.replicas)]


def _revision(current: View) -> int:
    return max((r.revision_of(old) for old in current.olds), default=0) + 1


def _create(current: View, replicas: int) -> list[Action]:
    deployment = current.deployment
    revision = _revision(current)
    notes = r.set_annotations(deployment, None, revision, current.limits.surge)
    new = r.new_set(deployment, replicas, notes)
    actions: list[Action] = [Create(REPLICA_SETS, new)]
    if replicas:
        what = f"Scaled up replica set {o.name(new)} from 0 to {replicas}"
        actions.append(Note(deployment, "Normal", "ScalingReplicaSet", what))
    return [*actions, *_note_revision(deployment, revision)]


def _annotate(current: View) -> list[Action]:
    """Gives the new set the highest revision, and its Deployment the same."""
    new = current.new
    assert new is not None
    revision = max(_revision(current), r.revision_of(new))
    wanted = r.set_annotations(current.deployment, new, revision, current.limits.surge)
    actions: list[Action] = []
    minimum = o.spec(current.deployment).get("minReadySeconds") or 0
    changes: Object = {}
    if wanted != dict(o.annotated(new)):
        changes["metadata"] = {"annotations": wanted}
    if (o.spec(new).get("minReadySeconds") or 0) != minimum:
        changes["spec"] = {"minReadySeconds": minimum}
    if changes:
        actions.append(Patch(REPLICA_SETS, new, changes))
    return [*actions, *_note_revision(current.deployment, revision)]


def _note_revision(deployment: Raw, revision: int) -> list[Action]:
    if o.annotated(deployment).get(r.REVISION) == str(revision):
        return []
    patch = {"metadata": {"annotations": {r.REVISION: str(revision)}}}
    return [Patch(DEPLOYMENTS, deployment, patch)]


def _resize(current: View, replica_set: Raw, wanted: int) -> list[Action]:
    """Sets the size and notes for which total it was chosen."""
    notes = r.size_annotations(current.deployment, current.limits.surge)
    before = r.replicas_of(replica_set)
    noted = all(o.annotated(replica_set).get(k) == v for k, v in notes.items())
    if wanted == before and (noted or before == 0):
        return []
    patch: Object = {"metadata": {"annotations": notes}, "spec": {"replicas": wanted}}
    actions: list[Action] = [Patch(REPLICA_SETS, replica_set, patch)]
    if wanted != before:
        direction = "up" if wanted > before else "down"
        what = f"Scaled {direction} replica set {o.name(replica_set)} from {before} to {wanted}"
        actions.append(Note(current.deployment, "Normal", "ScalingReplicaSet", what))
    return actions


def controller(context: Context) -> Controller:
    """The pump: Deployments, ReplicaSets and (for Recreate) Pods in, requests out."""
    queue: WorkQueue[Key] = WorkQueue("deployments")
    executor = context.executor(COMPONENT)
    context.caches.of(DEPLOYMENTS).subscribe(queue.add)
    context.caches.of(REPLICA_SETS).subscribe_changes(follow_owner(queue, DEPLOYMENTS.kind))

    def pod_gone(change: Change[Object]) -> None:
        """A Recreate rollout waits for the last old Pod."""
        if change.old is None or (change.new is not None and not o.pod_finished(change.new)):
            return
        owner = o.controller_of(change.old)
        if owner is None or owner.get("kind") != REPLICA_SETS.kind:
            return
        replica_set = context.get(REPLICA_SETS, Key(change.key.namespace, str(owner.get("name"))))
        above = o.controller_of(replica_set) if replica_set is not None else None
        if above is not None and above.get("kind") == DEPLOYMENTS.kind:
            queue.add(Key(change.key.namespace, str(above.get("name"))))

    context.caches.of(PODS).subscribe_changes(pod_gone)

    async def reconcile(key: Key) -> float | None:
        deployment = context.get(DEPLOYMENTS, key)
        if deployment is None:
            return None
        orphans = _adoptions(deployment, context.in_namespace(REPLICA_SETS, key.namespace))
        await executor.perform(orphans)
        sets = context.owned(REPLICA_SETS, o.uid(deployment))
        new = r.find_new(deployment, sets)
        running = any(
            not o.pod_finished(pod)
            for old in sets
            if old is not new
            for pod in context.owned(PODS, o.uid(old))
        )
        actions = plan(deployment, sets, running, context.now())
        try:
            return await executor.perform(actions)
        except AlreadyExistsError:
            return await _collision(context, deployment, actions)

    async def _collision(context: Context, deployment: Object, actions: list[Action]) -> float:
        """The name of the new set is taken by something that is not ours: another hash."""
        wanted = next(a.obj for a in actions if isinstance(a, Create))
        taken = await context.client.get(REPLICA_SETS, o.name(wanted), o.namespace(wanted))
        owner = o.controller_of(taken)
        if owner is not None and owner.get("uid") == o.uid(deployment):
            context.caches.of(REPLICA_SETS).absorb(taken)
            return 0.0
        count = o.integer(o.status(deployment).get("collisionCount"), 0) + 1
        status = {**o.status(deployment), "collisionCount": count}
        await executor.perform([Status(DEPLOYMENTS, deployment, status)])
        return 0.0

    return Controller("deployments", queue, reconcile)


def _adoptions(deployment: Raw, sets: Sequence[Raw]) -> list[Action]:
    """Takes over ReplicaSets without a controller that the selector matches."""
    if o.deleting(deployment):
        return []
    selector = o.spec(deployment).get("selector")
    reference = o.controller_reference(deployment, DEPLOYMENTS)
    return [
        Patch(
            REPLICA_SETS,
            s,
            {
                "metadata": {
                    "ownerReferences": [*(o.meta(s).get("ownerReferences") or ()), reference]
                }
            },
            guard=True,
        )
        for s in sets
        if o.controller_of(s) is None and not o.deleting(s) and o.selects(selector, o.labels(s))
    ]
