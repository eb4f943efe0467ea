"""Revisions of a Deployment: which ReplicaSet is the new one, and what it is annotated with.

Pure. Knows the annotations that kubectl rollout reads.
"""

from __future__ import annotations

from collections.abc import Sequence

from inferway.api.resources import DEPLOYMENTS, REPLICA_SETS
from inferway.cluster.client import Object
from inferway.local.controllers import objects as o
from inferway.local.controllers.objects import Raw
from inferway.local.controllers.pod_template import HASH_LABEL, template_hash, without_hash
from inferway.local.controllers.rollout import SetSize

REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MAXIMUM = "deployment.kubernetes.io/max-replicas"
# Annotations of the Deployment that are its own affair and are not copied to ReplicaSets.
_NOT_COPIED = frozenset(
    {
        "kubectl.kubernetes.io/last-applied-configuration",
        REVISION,
        REVISION_HISTORY,
        DESIRED,
        MAXIMUM,
        "deprecated.deployment.rollback.to",
    }
)


def replicas_of(obj: Raw) -> int:
    return o.integer(o.spec(obj).get("replicas"), 1)


def revision_of(obj: Raw) -> int:
    text = str(o.annotated(obj).get(REVISION) or "0")
    return int(text) if text.isdigit() else 0


def number_of(obj: Raw, annotation: str) -> int | None:
    text = str(o.annotated(obj).get(annotation) or "")
    return int(text) if text.isdigit() else None


def find_new(deployment: Raw, sets: Sequence[Raw]) -> Raw | None:
    """The ReplicaSet with the Deployment's template; of several the oldest, as in Kubernetes."""
    wanted = without_hash(o.spec(deployment).get("template") or {})
    for candidate in sorted(sets, key=lambda s: (o.created_at(s), o.name(s))):
        if without_hash(o.spec(candidate).get("template") or {}) == wanted:
            return candidate
    return None


def size_of(replica_set: Raw) -> SetSize:
    return SetSize(
        name=o.name(replica_set),
        wanted=replicas_of(replica_set),
        available=o.integer(o.status(replica_set).get("availableReplicas"), 0),
        running=o.integer(o.status(replica_set).get("replicas"), 0),
        created_at=o.created_at(replica_set),
        noted_max=number_of(replica_set, MAXIMUM) or 0,
    )


def set_annotations(deployment: Raw, existing: Raw | None, revision: int, surge: int) -> Object:
    """The annotations of the new ReplicaSet; ``revision`` is what it should have."""
    before = dict(o.annotated(existing)) if existing is not None else {}
    copied = {k: v for k, v in o.annotated(deployment).items() if k not in _NOT_COPIED}
    result = {**before, **copied}
    old_revision = revision_of(existing) if existing is not None else 0
    if old_revision < revision:
        if old_revision:
            # A rollback uses an old set again; kubectl lists under which numbers it ran.
            history = str(before.get(REVISION_HISTORY) or "")
            result[REVISION_HISTORY] = f"{history},{old_revision}" if history else f"{old_revision}"
        result[REVISION] = str(revision)
    return {**result, **size_annotations(deployment, surge)}


def size_annotations(deployment: Raw, surge: int) -> Object:
    replicas = replicas_of(deployment)
    return {DESIRED: str(replicas), MAXIMUM: str(replicas + surge)}


def new_set(deployment: Raw, replicas: int, annotations: Raw) -> Object:
    """The ReplicaSet of the Deployment's template."""
    spec = o.spec(deployment)
    template = spec.get("template") or {}
    suffix = template_hash(template, o.integer(o.status(deployment).get("collisionCount"), 0))
    meta = template.get("metadata") or {}
    labels = {**(meta.get("labels") or {}), HASH_LABEL: suffix}
    selector = spec.get("selector") or {}
    own_selector = {
        **selector,
        "matchLabels": {**(selector.get("matchLabels") or {}), HASH_LABEL: suffix},
    }
    new_spec: Object = {
        "replicas": replicas,
        "selector": own_selector,
        "template": {**template, "metadata": {**meta, "labels": labels}},
    }
    if spec.get("minReadySeconds"):
        new_spec["minReadySeconds"] = spec["minReadySeconds"]
    return {
        "apiVersion": REPLICA_SETS.api_version,
        "kind": REPLICA_SETS.kind,
        "metadata": {
            "name": f"{o.name(deployment)}-{suffix}",
            "namespace": o.namespace(deployment),
            "labels": labels,
            "annotations": dict(annotations),
            "ownerReferences": [o.controller_reference(deployment, DEPLOYMENTS)],
        },
        "spec": new_spec,
    }


def expired(deployment: Raw, olds: Sequence[Raw]) -> list[Raw]:
    """Old ReplicaSets beyond revisionHistoryLimit that have no Pods, the oldest revisions."""
    limit = o.integer(o.spec(deployment).get("revisionHistoryLimit"), 10)
    kept = [s for s in olds if not o.deleting(s)]
    surplus = len(kept) - limit
    if surplus <= 0:
        return []
    by_revision = sorted(kept, key=lambda s: (revision_of(s), o.created_at(s)))
    return [
        s
        for s in by_revision[:surplus]
        if replicas_of(s) == 0
        and o.integer(o.status(s).get("replicas"), 0) == 0
        and o.integer(o.status(s).get("observedGeneration"), 0) >= o.meta(s).get("generation", 0)
    ]
