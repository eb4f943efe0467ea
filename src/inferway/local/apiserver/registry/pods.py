"""Subresources of Pods that are writes: binding to a node and eviction."""

from __future__ import annotations

from typing import Any

from inferway.local.apiserver.registry import deleting, errors
from inferway.local.apiserver.registry.kinds import Object
from inferway.local.apiserver.registry.options import DeleteOptions, Target, WriteOptions
from inferway.local.apiserver.registry.registry import Registry, load
from inferway.local.apiserver.registry.scaling import selector_text
from inferway.local.apiserver.registry.selectors import Requirement, parse_labels

SUCCESS: dict[str, Any] = {
    "kind": "Status",
    "apiVersion": "v1",
    "metadata": {},
    "status": "Success",
    "code": 201,
}
# A budget that says no is asked again after this time, as in Kubernetes.
EVICTION_RETRY_SECONDS = 10


def bind(registry: Registry, target: Target, binding: Any, options: WriteOptions) -> Object:
    """Assigns a Pod to a node, once."""
    node = ((binding or {}).get("target") or {}).get("name") if isinstance(binding, dict) else None
    if not node or not isinstance(node, str):
        subject = errors.Subject("", "bindings", target.name, "Binding")
        text = "Required value"
        raise errors.invalid(subject, [errors.Cause("FieldValueRequired", "target.name", text)])
    stored = registry.stored(target)
    pod = load(target.kind, stored)
    subject = target.kind.subject(target.name)
    uid = (binding.get("metadata") or {}).get("uid")
    if uid and uid != pod["metadata"]["uid"]:
        raise errors.conflict(subject, f"Precondition failed: UID in precondition: {uid}")
    if pod["metadata"].get("deletionTimestamp"):
        raise errors.conflict(
            subject, f"pod {target.name} is being deleted, cannot be assigned to a host"
        )
    bound = (pod.get("spec") or {}).get("nodeName")
    if bound:
        raise errors.conflict(subject, f'pod {target.name} is already assigned to node "{bound}"')
    if options.dry_run:
        return SUCCESS
    pod["spec"]["nodeName"] = node
    annotations = (binding.get("metadata") or {}).get("annotations")
    if isinstance(annotations, dict):
        merged = (pod["metadata"].get("annotations") or {}) | annotations
        pod["metadata"]["annotations"] = merged
    status = pod.setdefault("status", {})
    conditions = [c for c in status.get("conditions") or () if c.get("type") != "PodScheduled"]
    condition = {
        "type": "PodScheduled",
        "status": "True",
        "lastProbeTime": None,
        "lastTransitionTime": registry.now(),
    }
    status["conditions"] = [*conditions, condition]
    registry.save(target, pod, stored.revision)
    return SUCCESS


def evict(registry: Registry, target: Target, eviction: Any, options: DeleteOptions) -> Object:
    """Deletes a Pod unless a PodDisruptionBudget forbids it."""
    pod = registry.get(target)
    blocking = _budget_without_room(registry, target, pod)
    if blocking:
        error = errors.too_many_requests(
            "Cannot evict pod as it would violate the pod's disruption budget.",
            EVICTION_RETRY_SECONDS,
        )
        text = f"The disruption budget {blocking} needs more healthy pods"
        error.details["causes"] = [{"reason": "DisruptionBudget", "message": text}]
        raise error
    deleting.delete(registry, target, options)
    return SUCCESS


def _budget_without_room(registry: Registry, target: Target, pod: Object) -> str:
    """The name of a budget that allows no disruption of this Pod."""
    kind = registry.kinds.find("policy", "v1", "poddisruptionbudgets")
    assert kind is not None
    labels = pod["metadata"].get("labels") or {}
    if (pod.get("status") or {}).get("phase") in ("Pending", "Succeeded", "Failed"):
        return ""
    for stored in registry.store.objects(kind.resource, target.namespace):
        budget = load(kind, stored)
        selector = (budget.get("spec") or {}).get("selector")
        terms: tuple[Requirement, ...] = parse_labels(selector_text(selector))
        if selector is None or not all(term.matches(labels) for term in terms):
            continue
        if not (budget.get("status") or {}).get("disruptionsAllowed", 0):
            return str(budget["metadata"]["name"])
    return ""
