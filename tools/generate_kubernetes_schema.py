"""Writes src/inferway/api/_gen/kubernetes.json: facts about the built-in kinds of Kubernetes.

Source: the OpenAPI definitions in the development dependency kubernetes-validate. Kept are types,
references, required fields, formats, list and merge keys of what is reachable from KINDS; texts are
left out. Run it after raising the dependency's version; ``--check`` only compares.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

VERSION = "v1.37.0"
TARGET = Path(__file__).resolve().parent.parent / "src/inferway/api/_gen/kubernetes.json"

_API = "io.k8s.api"
_META = "io.k8s.apimachinery.pkg.apis.meta.v1"
_EXTENSIONS = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1"
KINDS = (
    *(
        f"{_API}.core.v1.{kind}"
        for kind in (
            "Binding",
            "ConfigMap",
            "Endpoints",
            "Event",
            "Namespace",
            "Node",
            "PersistentVolumeClaim",
            "Pod",
            "Secret",
            "Service",
            "ServiceAccount",
        )
    ),
    *(
        f"{_API}.apps.v1.{kind}"
        for kind in ("DaemonSet", "Deployment", "ReplicaSet", "StatefulSet")
    ),
    *(f"{_API}.batch.v1.{kind}" for kind in ("CronJob", "Job")),
    f"{_API}.autoscaling.v1.Scale",
    f"{_API}.autoscaling.v2.HorizontalPodAutoscaler",
    *(
        f"{_API}.authentication.v1.{k}"
        for k in ("SelfSubjectReview", "TokenRequest", "TokenReview")
    ),
    *(
        f"{_API}.authorization.v1.{kind}"
        for kind in (
            "LocalSubjectAccessReview",
            "SelfSubjectAccessReview",
            "SelfSubjectRulesReview",
            "SubjectAccessReview",
        )
    ),
    f"{_API}.coordination.v1.Lease",
    f"{_API}.discovery.v1.EndpointSlice",
    f"{_API}.events.v1.Event",
    f"{_API}.networking.v1.NetworkPolicy",
    f"{_API}.policy.v1.Eviction",
    f"{_API}.policy.v1.PodDisruptionBudget",
    *(
        f"{_API}.rbac.v1.{kind}"
        for kind in ("ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")
    ),
    f"{_EXTENSIONS}.CustomResourceDefinition",
    *(
        f"{_META}.{kind}"
        for kind in ("APIResourceList", "DeleteOptions", "ObjectMeta", "Status", "WatchEvent")
    ),
)
# Definitions that are values of their own and not objects with fields.
SPECIAL: dict[str, dict[str, Any]] = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {
        "format": "quantity",
        "x-kubernetes-int-or-string": True,
    },
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {
        "format": "int-or-string",
        "x-kubernetes-int-or-string": True,
    },
    "io.k8s.apimachinery.pkg.apis.meta.v1.Time": {"type": "string", "format": "date-time"},
    "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime": {"type": "string", "format": "date-time"},
    "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1": {
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": True,
    },
    "io.k8s.apimachinery.pkg.runtime.RawExtension": {
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": True,
    },
}
# Defaults of list keys, which this source does not carry.
KEY_DEFAULTS = {
    (f"{_API}.core.v1.ContainerPort", "protocol"): "TCP",
    (f"{_API}.core.v1.ServicePort", "protocol"): "TCP",
}
KEPT = (
    "format",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-map-type",
    "x-kubernetes-patch-strategy",
    "x-kubernetes-patch-merge-key",
)
_REFERENCE = "#/$defs/"


def source() -> dict[str, Any]:
    """The package's definitions."""
    spec = importlib.util.find_spec("kubernetes_validate")
    assert spec is not None
    assert spec.origin is not None, "install the development dependencies"
    folder = Path(spec.origin).parent / "kubernetes-json-schema" / f"{VERSION}-local"
    definitions: dict[str, Any] = json.loads((folder / "_definitions.json").read_text())["$defs"]
    return definitions


def facts(schema: dict[str, Any]) -> dict[str, Any]:
    """The facts of one schema."""
    result: dict[str, Any] = {}
    if "$ref" in schema:
        result["$ref"] = schema["$ref"].removeprefix(_REFERENCE)
    type_ = schema.get("type")
    if type_ is not None:
        named = [t for t in ([type_] if isinstance(type_, str) else type_) if t != "null"]
        assert len(named) == 1, schema
        result["type"] = named[0]
    for key in KEPT:
        if key in schema:
            result[key] = schema[key]
    if "items" in schema:
        result["items"] = facts(schema["items"])
    if isinstance(schema.get("additionalProperties"), dict):
        result["additionalProperties"] = facts(schema["additionalProperties"])
    return result


def definition(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """The facts of one definition."""
    if name in SPECIAL:
        return SPECIAL[name]
    result = facts(schema)
    properties = {key: facts(value) for key, value in schema.get("properties", {}).items()}
    for (owner, key), default in KEY_DEFAULTS.items():
        if owner == name:
            properties[key]["default"] = default
    if properties:
        result["properties"] = properties
    if schema.get("required"):
        result["required"] = sorted(schema["required"])
    kinds = schema.get("x-kubernetes-group-version-kind") or []
    if len(kinds) == 1:
        result["x-kubernetes-group-version-kind"] = kinds
    if result.get("type") == "object" and not properties and "additionalProperties" not in result:
        result["x-kubernetes-preserve-unknown-fields"] = True
    return result


def references(schema: Any) -> set[str]:
    """Names of the definitions that a schema refers to."""
    if isinstance(schema, dict):
        own = {schema["$ref"]} if isinstance(schema.get("$ref"), str) else set()
        return own.union(*(references(value) for value in schema.values()))
    if isinstance(schema, list):
        return set().union(*(references(item) for item in schema))
    return set()


def generate(definitions: dict[str, Any]) -> str:
    """The file's text."""
    result: dict[str, Any] = {}
    waiting = list(KINDS)
    while waiting:
        name = waiting.pop()
        if name in result:
            continue
        result[name] = definition(name, definitions[name])
        waiting += references(result[name])
    document = {"version": VERSION, "definitions": dict(sorted(result.items()))}
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def main(arguments: list[str]) -> int:
    text = generate(source())
    if "--check" in arguments:
        fresh = TARGET.exists() and TARGET.read_text() == text
        print("fresh" if fresh else f"stale: run python tools/{Path(__file__).name}")
        return 0 if fresh else 1
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(text)
    print(f"{TARGET.name}: {len(text)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
