"""Deployments and ReplicaSets."""

from __future__ import annotations

from inferway.api.codec import Object
from inferway.api.defaults import pod


def complete(deployment: Object) -> None:
    """A Deployment rolls by a quarter, and is given ten minutes."""
    spec = deployment.setdefault("spec", {})
    spec.setdefault("replicas", 1)
    spec.setdefault("revisionHistoryLimit", 10)
    spec.setdefault("progressDeadlineSeconds", 600)
    strategy = spec.setdefault("strategy", {})
    strategy.setdefault("type", "RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxUnavailable", "25%")
        rolling.setdefault("maxSurge", "25%")
    pod.complete_template(spec.setdefault("template", {}))


def complete_replica_set(replica_set: Object) -> None:
    spec = replica_set.setdefault("spec", {})
    spec.setdefault("replicas", 1)
    pod.complete_template(spec.setdefault("template", {}))
