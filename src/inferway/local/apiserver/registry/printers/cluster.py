"""Columns of the kinds that a cluster is made of: nodes, services, configuration, events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inferway.base.clock import parse_rfc3339, rfc3339
from inferway.local.apiserver.registry.kinds import Cells, Object
from inferway.local.apiserver.registry.printers.cells import (
    NONE,
    UNKNOWN,
    items,
    joined,
    name_of,
    part,
    printer,
    selector,
)
from inferway.local.apiserver.registry.table import age, since

# Longer lists of addresses and ports are cut with "+ N more...", as in Kubernetes.
_LISTED_MAX = 3
_ROLE_LABEL = "node-role.kubernetes.io/"


def _namespace(obj: Object, now: float) -> Cells:
    return [name_of(obj), str(part(obj, "status").get("phase") or ""), age(obj, now)]


def _node(obj: Object, now: float) -> Cells:
    status = part(obj, "status")
    conditions = {c.get("type"): c.get("status") for c in items(status.get("conditions"))}
    words = ["Unknown"]
    if "Ready" in conditions:
        words = ["Ready" if conditions["Ready"] == "True" else "NotReady"]
    if part(obj, "spec").get("unschedulable"):
        words.append("SchedulingDisabled")
    labels = obj["metadata"].get("labels") or {}
    roles = sorted(key[len(_ROLE_LABEL) :] for key in labels if key.startswith(_ROLE_LABEL))
    addresses = {a.get("type"): a.get("address") for a in items(status.get("addresses"))}
    info = part(obj, "status", "nodeInfo")
    return [
        name_of(obj),
        ",".join(words),
        joined(roles),
        str(info.get("kubeletVersion") or ""),
        age(obj, now),
        str(addresses.get("InternalIP") or NONE),
        str(addresses.get("ExternalIP") or NONE),
        str(info.get("osImage") or UNKNOWN),
        str(info.get("kernelVersion") or UNKNOWN),
        str(info.get("containerRuntimeVersion") or UNKNOWN),
    ]


def _service(obj: Object, now: float) -> Cells:
    spec = part(obj, "spec")
    kind = str(spec.get("type") or "ClusterIP")
    ports = [
        f"{port.get('port')}"
        + (f":{port['nodePort']}" if port.get("nodePort") else "")
        + f"/{port.get('protocol') or 'TCP'}"
        for port in items(spec.get("ports"))
    ]
    address = spec.get("clusterIP") or NONE
    return [
        name_of(obj),
        kind,
        str(address),
        _external(obj, kind),
        joined(ports),
        age(obj, now),
        selector(spec.get("selector") or {}),
    ]


def _external(obj: Object, kind: str) -> str:
    spec = part(obj, "spec")
    fixed = list(spec.get("externalIPs") or ())
    if kind == "ExternalName":
        return str(spec.get("externalName") or "")
    if kind != "LoadBalancer":
        return joined(fixed)
    ingress = items(part(obj, "status", "loadBalancer").get("ingress"))
    given = [str(entry.get("ip") or entry.get("hostname") or "") for entry in ingress]
    return joined([*given, *fixed], "<pending>")


def _config_map(obj: Object, now: float) -> Cells:
    count = len(obj.get("data") or ()) + len(obj.get("binaryData") or ())
    return [name_of(obj), count, age(obj, now)]


def _secret(obj: Object, now: float) -> Cells:
    return [name_of(obj), str(obj.get("type") or ""), len(obj.get("data") or ()), age(obj, now)]


def _service_account(obj: Object, now: float) -> Cells:
    return [name_of(obj), len(obj.get("secrets") or ()), age(obj, now)]


def _slice(obj: Object, now: float) -> Cells:
    ports = [str(port.get("port", "*")) for port in items(obj.get("ports"))]
    addresses = [
        address for end in items(obj.get("endpoints")) for address in end.get("addresses") or ()
    ]
    return [
        name_of(obj),
        str(obj.get("addressType") or ""),
        _cut(ports, "<unset>"),
        _cut(addresses, "<unset>"),
        age(obj, now),
    ]


def _cut(values: list[str], empty: str) -> str:
    more = len(values) - _LISTED_MAX
    text = joined(values[:_LISTED_MAX], empty)
    return f"{text} + {more} more..." if more > 0 else text


def _event(obj: Object, now: float) -> Cells:
    core = _core_event(obj)
    subject = part(core, "involvedObject")
    first = core.get("firstTimestamp") or core.get("eventTime")
    last = core.get("lastTimestamp") or core.get("eventTime")
    series = part(core, "series")
    count = core.get("count") or 1
    if series:
        last, count = series.get("lastObservedTime") or last, series.get("count") or count
    seen = since(last or obj["metadata"].get("creationTimestamp"), now)
    source = part(core, "source")
    words = [source.get("component") or core.get("reportingComponent"), source.get("host")]
    return [
        seen,
        str(core.get("type") or ""),
        str(core.get("reason") or ""),
        f"{str(subject.get('kind') or '').lower()}/{subject.get('name') or ''}",
        str(core.get("message") or "").strip(),
        str(subject.get("fieldPath") or ""),
        ", ".join(str(word) for word in words if word),
        since(first, now) if first else seen,
        count,
        name_of(obj),
    ]


def _core_event(obj: Object) -> Mapping[str, Any]:
    """The v1 words for an Event of either API."""
    if "regarding" not in obj and "note" not in obj:
        return obj
    return {
        **obj,
        "involvedObject": obj.get("regarding"),
        "message": obj.get("note"),
        "firstTimestamp": obj.get("deprecatedFirstTimestamp"),
        "lastTimestamp": obj.get("deprecatedLastTimestamp"),
        "count": obj.get("deprecatedCount"),
        "source": obj.get("deprecatedSource"),
        "reportingComponent": obj.get("reportingController"),
    }


def _lease(obj: Object, now: float) -> Cells:
    return [name_of(obj), str(part(obj, "spec").get("holderIdentity") or ""), age(obj, now)]


def _definition(obj: Object, now: float) -> Cells:
    created = obj["metadata"].get("creationTimestamp")
    # Kubernetes shows the moment itself here, not how long ago it was.
    return [name_of(obj), rfc3339(parse_rfc3339(created)) if created else UNKNOWN]


def _role(obj: Object, now: float) -> Cells:
    return [name_of(obj), str(obj["metadata"].get("creationTimestamp") or UNKNOWN)]


def _role_binding(obj: Object, now: float) -> Cells:
    reference = part(obj, "roleRef")
    subjects: dict[str, list[str]] = {"User": [], "Group": [], "ServiceAccount": []}
    for subject in items(obj.get("subjects")):
        name = str(subject.get("name") or "")
        if subject.get("kind") == "ServiceAccount":
            name = f"{subject.get('namespace') or ''}/{name}"
        subjects.setdefault(str(subject.get("kind")), []).append(name)
    return [
        name_of(obj),
        f"{reference.get('kind', '')}/{reference.get('name', '')}",
        age(obj, now),
        *(", ".join(subjects[kind]) for kind in ("User", "Group", "ServiceAccount")),
    ]


def _network_policy(obj: Object, now: float) -> Cells:
    return [name_of(obj), selector(part(obj, "spec").get("podSelector")), age(obj, now)]


def _claim(obj: Object, now: float) -> Cells:
    spec, status = part(obj, "spec"), part(obj, "status")
    return [
        name_of(obj),
        str(status.get("phase") or "Pending"),
        str(spec.get("volumeName") or ""),
        str(part(obj, "status", "capacity").get("storage") or ""),
        joined(spec.get("accessModes") or (), ""),
        str(spec.get("storageClassName") or ""),
        age(obj, now),
    ]


NAMESPACE = printer("Name Status Age", _namespace)
NODE = printer(
    "Name Status Roles Version Age | Internal-IP External-IP OS-Image Kernel-Version "
    "Container-Runtime",
    _node,
)
SERVICE = printer("Name Type Cluster-IP External-IP Port(s) Age | Selector", _service)
CONFIG_MAP = printer("Name Data:integer Age", _config_map)
SECRET = printer("Name Type Data:integer Age", _secret)
SERVICE_ACCOUNT = printer("Name Secrets:integer Age", _service_account)
ENDPOINT_SLICE = printer("Name AddressType Ports Endpoints Age", _slice)
EVENT = printer(
    "Last_Seen Type Reason Object Message | Subobject Source First_Seen Count:integer Name",
    _event,
)
LEASE = printer("Name Holder Age", _lease)
DEFINITION = printer("Name Created_At", _definition)
ROLE = printer("Name Created_At", _role)
ROLE_BINDING = printer("Name Role Age | Users Groups ServiceAccounts", _role_binding)
NETWORK_POLICY = printer("Name Pod-Selector Age", _network_policy)
CLAIM = printer("Name Status Volume Capacity Access_Modes StorageClass Age", _claim)
