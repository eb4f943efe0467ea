"""What the store keeps beside an object's bytes for selectors.

Knows which fields Kubernetes lets a selector name, for each resource.
"""

from __future__ import annotations

from typing import Any

from inferway.local.apiserver.storage.values import Index

# Field selectors beyond metadata.name and metadata.namespace, as Kubernetes has them.
SELECTABLE: dict[str, tuple[str, ...]] = {
    "pods.": (
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    ),
    "nodes.": ("spec.unschedulable",),
    "namespaces.": ("status.phase", "name"),
    "secrets.": ("type",),
    "services.": ("spec.clusterIP", "spec.type"),
    "events.": (
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ),
    "replicasets.apps": ("status.replicas",),
    "jobs.batch": ("status.successful",),
}


def index_of(resource: str, obj: dict[str, Any]) -> Index:
    """The index of an object. Objects on disk have passed validation, so shapes are trusted."""
    metadata = obj["metadata"]
    fields = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata.get("namespace", ""),
    }
    for path in SELECTABLE.get(resource, ()):
        fields[path] = _field(resource, obj, path)
    return Index(metadata.get("labels") or {}, fields)


def _field(resource: str, obj: dict[str, Any], path: str) -> str:
    if path == "name":
        return str(obj["metadata"]["name"])
    if path == "source":
        source = obj.get("source") or {}
        return str(source.get("component") or obj.get("reportingComponent") or "")
    if path == "status.successful":
        return str((obj.get("status") or {}).get("succeeded", 0))
    value: Any = obj
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if value is None:
        # Kubernetes shows absent booleans as false and absent numbers as 0.
        if path in ("spec.unschedulable", "spec.hostNetwork"):
            return "false"
        return "0" if path == "status.replicas" else ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
