"""The status of a Deployment: counts, and the conditions Available, Progressing, ReplicaFailure.

Pure. Types, reasons and messages are Kubernetes' own, because kubectl rollout status reads them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from inferway.base.clock import rfc3339
from inferway.cluster.client import Object
from inferway.local.controllers import objects as o
from inferway.local.controllers.objects import Raw

if TYPE_CHECKING:
    from inferway.local.controllers.deployment import View

# The server's default, for objects that were stored without it.
PROGRESS_DEADLINE_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Outcome:
    """A status, whether the rollout is over, and when its deadline wants another look."""

    status: Object
    complete: bool
    again_seconds: float | None


@dataclass(frozen=True, slots=True)
class _Counts:
    total: int
    updated: int
    ready: int
    available: int
    asked: int


def new_status(current: View) -> Outcome:
    """The status that a Deployment has with these ReplicaSets."""
    deployment = current.deployment
    counts = _count(current)
    complete = (
        counts.updated == counts.total == counts.available == current.replicas
        and current.new is not None
    )
    conditions = [dict(c) for c in o.status(deployment).get("conditions") or ()]
    conditions = _with(conditions, _available(current, counts), current.now)
    progressing = _progressing(current, counts, complete)
    if progressing is not None:
        conditions = _with(conditions, progressing, current.now)
    conditions = _failure(current, conditions)
    fields = {
        "replicas": counts.total,
        "updatedReplicas": counts.updated,
        "readyReplicas": counts.ready,
        "availableReplicas": counts.available,
        "unavailableReplicas": max(counts.asked - counts.available, 0),
        "collisionCount": o.status(deployment).get("collisionCount") or 0,
    }
    status: Object = {
        "observedGeneration": o.meta(deployment).get("generation", 1),
        **{key: value for key, value in fields.items() if value},
        "conditions": conditions,
    }
    return Outcome(status, complete, _deadline(current, conditions))


def _count(current: View) -> _Counts:
    def total(field: str, sets: list[Raw]) -> int:
        return sum(o.integer(o.status(s).get(field), 0) for s in sets)

    sets = current.sets
    new = [current.new] if current.new is not None else []
    return _Counts(
        total=total("replicas", sets),
        updated=total("replicas", new),
        ready=total("readyReplicas", sets),
        available=total("availableReplicas", sets),
        asked=sum(o.integer(o.spec(s).get("replicas"), 1) for s in sets),
    )


def _with(conditions: list[Object], new: Object, now: float) -> list[Object]:
    """Replaces a condition; one with the same status and reason keeps its times and message.

    That is Kubernetes' rule except for ``progressed``, which refreshes lastUpdateTime.
    """
    touched = bool(new.pop("touched", False))
    for old in conditions:
        same = all(old.get(key) == new[key] for key in ("type", "status", "reason"))
        if same and not touched:
            return conditions
    result = o.with_condition(conditions, new, now, touch="lastUpdateTime")
    if touched:
        for entry in result:
            if entry["type"] == new["type"]:
                entry["lastUpdateTime"] = rfc3339(now)
    return result


def _available(current: View, counts: _Counts) -> Object:
    enough = counts.available >= current.replicas - current.limits.unavailable
    return {
        "type": "Available",
        "status": "True" if enough else "False",
        "reason": "MinimumReplicasAvailable" if enough else "MinimumReplicasUnavailable",
        "message": "Deployment has minimum availability."
        if enough
        else "Deployment does not have minimum availability.",
    }


def _progressing(current: View, counts: _Counts, complete: bool) -> Object | None:
    """None where the condition stays as it is."""
    deployment = current.deployment
    before = o.condition(deployment, "Progressing")
    reason_before = before.get("reason") if before else ""
    if current.paused:
        if reason_before == "ProgressDeadlineExceeded":
            return None
        return _state("Unknown", "DeploymentPaused", "Deployment is paused")
    if reason_before == "DeploymentPaused":
        return _state("Unknown", "DeploymentResumed", "Deployment is resumed")
    name = o.name(current.new) if current.new is not None else ""
    what = f'ReplicaSet "{name}"' if name else f'Deployment "{o.name(deployment)}"'
    if complete:
        return _state("True", "NewReplicaSetAvailable", f"{what} has successfully progressed.")
    if before is None and name:
        return _state("True", "NewReplicaSetCreated", f'Created new replica set "{name}"')
    if _progressed(current, counts):
        state = _state("True", "ReplicaSetUpdated", f"{what} is progressing.")
        return {**state, "touched": True}
    if reason_before == "NewReplicaSetAvailable" and _template_is_new(current):
        return _state("True", "ReplicaSetUpdated", f"{what} is progressing.")
    if before is not None and _timed_out(current, before):
        return _state("False", "ProgressDeadlineExceeded", f"{what} has timed out progressing.")
    return None


def _state(status: str, reason: str, message: str) -> Object:
    return {"type": "Progressing", "status": status, "reason": reason, "message": message}


def _progressed(current: View, counts: _Counts) -> bool:
    """More of the new or fewer of the old Pods than the stored status says."""
    old = o.status(current.deployment)
    old_updated = o.integer(old.get("updatedReplicas"), 0)
    old_rest = o.integer(old.get("replicas"), 0) - old_updated
    return (
        counts.updated > old_updated
        or counts.total - counts.updated < old_rest
        or counts.ready > o.integer(old.get("readyReplicas"), 0)
        or counts.available > o.integer(old.get("availableReplicas"), 0)
    )


def _template_is_new(current: View) -> bool:
    seen = o.integer(o.status(current.deployment).get("observedGeneration"), 0)
    return seen < o.integer(o.meta(current.deployment).get("generation"), 1)


def _timed_out(current: View, before: Raw) -> bool:
    if before.get("reason") == "ProgressDeadlineExceeded":
        return True
    if before.get("reason") == "NewReplicaSetAvailable":
        # A finished rollout whose Pods fail later is not a rollout that failed.
        return False
    return current.now >= _expires(current, before)


def _expires(current: View, progressing: Raw) -> float:
    allowed = o.integer(
        o.spec(current.deployment).get("progressDeadlineSeconds"), PROGRESS_DEADLINE_SECONDS
    )
    return o.seconds(progressing.get("lastUpdateTime")) + allowed


def _deadline(current: View, conditions: list[Object]) -> float | None:
    for entry in conditions:
        if entry.get("type") == "Progressing" and entry.get("status") == "True":
            if entry.get("reason") == "NewReplicaSetAvailable" or current.paused:
                return None
            # A second more, because the times of conditions are whole seconds.
            return max(_expires(current, entry) - current.now, 0) + 1
    return None


def _failure(current: View, conditions: list[Object]) -> list[Object]:
    """Shows the ReplicaFailure condition of the new ReplicaSet, else of an old one."""
    for replica_set in [*([current.new] if current.new else []), *current.olds]:
        found = o.condition(replica_set, "ReplicaFailure")
        if found is not None:
            keys = ("type", "status", "reason", "message")
            return _with(conditions, {key: found.get(key) for key in keys}, current.now)
    return [c for c in conditions if c.get("type") != "ReplicaFailure"]
