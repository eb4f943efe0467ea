"""Reading objects as they are on the wire: metadata, selectors, conditions, Pods.

Pure. Knows Kubernetes' conventions that several controllers share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from inferway.api.resources import ResourceType
from inferway.base.clock import parse_rfc3339, rfc3339
from inferway.cluster.client import Object

Raw = Mapping[str, Any]


def meta(obj: Raw) -> Raw:
    value = obj.get("metadata")
    return value if isinstance(value, dict) else {}


def spec(obj: Raw) -> Raw:
    value = obj.get("spec")
    return value if isinstance(value, dict) else {}


def status(obj: Raw) -> Raw:
    value = obj.get("status")
    return value if isinstance(value, dict) else {}


def name(obj: Raw) -> str:
    return str(meta(obj).get("name") or "")


def namespace(obj: Raw) -> str:
    return str(meta(obj).get("namespace") or "")


def uid(obj: Raw) -> str:
    return str(meta(obj).get("uid") or "")


def labels(obj: Raw) -> Raw:
    return meta(obj).get("labels") or {}


def annotated(obj: Raw) -> Raw:
    return meta(obj).get("annotations") or {}


def deleting(obj: Raw) -> bool:
    return bool(meta(obj).get("deletionTimestamp"))


def created_at(obj: Raw) -> float:
    """Seconds since the epoch; 0 if the object has no time."""
    return seconds(meta(obj).get("creationTimestamp"))


def seconds(timestamp: object) -> float:
    """Seconds since the epoch of a Kubernetes time; 0 for none and for nonsense."""
    if not isinstance(timestamp, str) or not timestamp:
        return 0.0
    try:
        return parse_rfc3339(timestamp)
    except ValueError:
        return 0.0


def controller_of(obj: Raw) -> Raw | None:
    """The owner reference of the controlling owner."""
    for owner in meta(obj).get("ownerReferences") or ():
        if owner.get("controller"):
            return dict(owner)
    return None


def controller_reference(owner: Raw, resource: ResourceType) -> Object:
    """A reference to a controlling owner, as Kubernetes' controllers write it."""
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "name": name(owner),
        "uid": uid(owner),
        "controller": True,
        "blockOwnerDeletion": True,
    }


def selects(selector: Raw | None, values: Raw) -> bool:
    """Whether a LabelSelector matches labels. None matches nothing, an empty one everything."""
    if selector is None:
        return False
    for key, value in (selector.get("matchLabels") or {}).items():
        if values.get(key) != value:
            return False
    return all(expression_holds(e, values) for e in selector.get("matchExpressions") or ())


def expression_holds(expression: Raw, values: Raw) -> bool:
    """One requirement of a LabelSelector or of a node selector term."""
    present = values.get(str(expression.get("key")))
    wanted: Sequence[Any] = expression.get("values") or ()
    match expression.get("operator"):
        case "In":
            return present in wanted and present is not None
        case "NotIn":
            return present is None or present not in wanted
        case "Exists":
            return present is not None
        case "DoesNotExist":
            return present is None
        case "Gt" | "Lt" as operator:
            try:
                left, right = int(str(present)), int(str(wanted[0]))
            except (ValueError, IndexError):
                return False
            return left > right if operator == "Gt" else left < right
    return False


def condition(obj: Raw, kind: str) -> Raw | None:
    for entry in status(obj).get("conditions") or ():
        if entry.get("type") == kind:
            return dict(entry)
    return None


def with_condition(
    conditions: Sequence[Raw], new: Raw, now: float, *, touch: str = ""
) -> list[Object]:
    """The conditions with ``new`` in them, in their old order.

    lastTransitionTime changes with the status only. ``touch`` names a field that gets the time
    whenever anything about the condition changes (Deployments: lastUpdateTime).
    """
    result: list[Object] = []
    found = False
    for old in conditions:
        if old.get("type") != new["type"]:
            result.append(dict(old))
            continue
        found = True
        same_status = old.get("status") == new["status"]
        merged: Object = {**old, **new}
        if not same_status or not old.get("lastTransitionTime"):
            merged["lastTransitionTime"] = rfc3339(now)
        unchanged = all(old.get(key) == value for key, value in new.items())
        if touch and not unchanged:
            merged[touch] = rfc3339(now)
        result.append(merged)
    if not found:
        fresh: Object = {**new, "lastTransitionTime": rfc3339(now)}
        if touch:
            fresh[touch] = rfc3339(now)
        result.append(fresh)
    return result


def pod_phase(pod: Raw) -> str:
    return str(status(pod).get("phase") or "Pending")


def pod_finished(pod: Raw) -> bool:
    return pod_phase(pod) in ("Succeeded", "Failed")


def pod_active(pod: Raw) -> bool:
    """Neither finished nor on its way out."""
    return not pod_finished(pod) and not deleting(pod)


def pod_ready(pod: Raw) -> bool:
    found = condition(pod, "Ready")
    return found is not None and found.get("status") == "True"


def pod_ready_since(pod: Raw) -> float:
    found = condition(pod, "Ready")
    return seconds(found.get("lastTransitionTime")) if found else 0.0


def pod_available(pod: Raw, min_ready_seconds: int, now: float) -> bool:
    """Ready for at least ``min_ready_seconds``."""
    if not pod_ready(pod):
        return False
    return min_ready_seconds <= 0 or pod_ready_since(pod) + min_ready_seconds <= now


def restarts(pod: Raw) -> int:
    """The most restarts of any container."""
    entries = status(pod).get("containerStatuses") or ()
    return max((int(entry.get("restartCount") or 0) for entry in entries), default=0)


def integer(value: object, default: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else default
