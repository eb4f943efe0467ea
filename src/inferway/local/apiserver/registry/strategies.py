"""Strategies of the built-in kinds that are more than stored: Namespace, Pod, Service, Secret.

Knows defaults and rules that the schemas do not carry. Pure functions on objects.
"""

from __future__ import annotations

import base64

from inferway.local.apiserver.registry.errors import Cause
from inferway.local.apiserver.registry.kinds import Object, Strategy


def _complete_namespace(obj: Object, old: Object | None) -> None:
    """Every namespace carries its name as a label, and the finalizer that empties it."""
    metadata = obj["metadata"]
    metadata["labels"] = (metadata.get("labels") or {}) | {
        "kubernetes.io/metadata.name": metadata["name"]
    }
    if old is None:
        obj["spec"] = {"finalizers": ["kubernetes"]}
        obj["status"] = {"phase": "Active"}
    else:
        # Only the finalize subresource takes finalizers of the spec away.
        obj["spec"] = old.get("spec") or {}


def _complete_pod(obj: Object, old: Object | None) -> None:
    spec = obj.setdefault("spec", {})
    if old is None:
        obj["status"] = {"phase": "Pending", "qosClass": qos_class(spec)}
        spec.setdefault("serviceAccountName", "default")
        spec.setdefault("serviceAccount", spec["serviceAccountName"])


def qos_class(spec: Object) -> str:
    """Kubernetes' quality of service class, by requests and limits of CPU and memory."""
    containers = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    some, guaranteed = False, True
    for container in containers:
        resources = container.get("resources") or {}
        limits = resources.get("limits") or {}
        requests = resources.get("requests") or {}
        for name in ("cpu", "memory"):
            request, limit = requests.get(name, limits.get(name)), limits.get(name)
            some = some or request is not None or limit is not None
            guaranteed = guaranteed and limit is not None and str(request) == str(limit)
    if not some:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


# What may change in the spec of an existing Pod.
_POD_MUTABLE = ("activeDeadlineSeconds", "terminationGracePeriodSeconds", "tolerations")
_POD_FIXED_TEXT = (
    "Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
    "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only "
    "additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set "
    "to 1 if it was previously negative)"
)


def _validate_pod(obj: Object, old: Object | None) -> list[Cause]:
    if old is None or _fixed_pod_spec(obj["spec"]) == _fixed_pod_spec(old["spec"]):
        return []
    return [Cause("FieldValueForbidden", "spec", _POD_FIXED_TEXT)]


def _fixed_pod_spec(spec: Object) -> Object:
    fixed = {key: value for key, value in spec.items() if key not in _POD_MUTABLE}
    for name in ("containers", "initContainers"):
        fixed[name] = [{**container, "image": ""} for container in spec.get(name) or ()]
    return fixed


def _complete_service(obj: Object, old: Object | None) -> None:
    """An update that leaves an allocated address or node port out keeps it."""
    spec = obj.setdefault("spec", {})
    if old is None:
        return
    before = old.get("spec") or {}
    if spec.get("type") == "ExternalName":
        return
    for name in ("clusterIP", "clusterIPs"):
        if not spec.get(name) and before.get(name):
            spec[name] = before[name]


def _validate_service(obj: Object, old: Object | None) -> list[Cause]:
    if old is None:
        return []
    was, wanted = (o.get("spec") or {} for o in (old, obj))
    address = was.get("clusterIP")
    if not address or wanted.get("type") == "ExternalName" or wanted.get("clusterIP") == address:
        return []
    return [
        Cause(
            "FieldValueInvalid",
            "spec.clusterIPs[0]",
            f'Invalid value: ["{wanted.get("clusterIP")}"]: may not change once set',
        )
    ]


def _complete_secret(obj: Object, old: Object | None) -> None:
    obj.setdefault("type", "Opaque")
    texts = obj.pop("stringData", None)
    if isinstance(texts, dict):
        data = obj.get("data") or {}
        obj["data"] = data | {
            key: base64.b64encode(str(value).encode()).decode() for key, value in texts.items()
        }


def _validate_secret(obj: Object, old: Object | None) -> list[Cause]:
    if old is None or old.get("type") == obj.get("type"):
        return []
    return [
        Cause("FieldValueInvalid", "type", f'Invalid value: "{obj["type"]}": field is immutable')
    ]


NAMESPACE = Strategy(complete=_complete_namespace)
POD = Strategy(
    complete=_complete_pod,
    validate=_validate_pod,
    graceful=True,
    generation=True,
    returns_deleted=True,
    status_keeps_metadata=True,
)
SERVICE = Strategy(complete=_complete_service, validate=_validate_service, returns_deleted=True)
SECRET = Strategy(complete=_complete_secret, validate=_validate_secret)
EVENT = Strategy(create_on_update=True)
