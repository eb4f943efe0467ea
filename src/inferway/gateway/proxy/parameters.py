"""Parameters of proxies: those of the class, and over them those of the Gateway."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from inferway.api.gateway import Gateway, GatewayClass
from inferway.gateway.translate.snapshot import Snapshot

IMAGE = "envoyproxy/envoy:v1.40.0"


def _default_resources() -> Mapping[str, Any]:
    # An idle Envoy takes 65 MB; requests that wait are held in memory.
    return {"requests": {"cpu": "100m", "memory": "128Mi"}}


@dataclass(frozen=True, slots=True)
class Parameters:
    """How the proxies of one Gateway run. ``pod_labels`` are added to the proxies' Pods."""

    replicas: int = 1
    image: str = IMAGE
    resources: Mapping[str, Any] = field(default_factory=_default_resources)
    service_type: str = "LoadBalancer"
    pod_labels: Mapping[str, str] = field(default_factory=dict)


def parameters(snapshot: Snapshot, gateway_class: GatewayClass, gateway: Gateway) -> Parameters:
    """What holds for a Gateway; references that lead nowhere are reported elsewhere."""
    keys = []
    class_ref = gateway_class.spec.parameters_ref
    if class_ref is not None:
        keys.append((class_ref.namespace or "", class_ref.name))
    infrastructure = gateway.spec.infrastructure
    if infrastructure is not None and infrastructure.parameters_ref is not None:
        keys.append((gateway.metadata.namespace, infrastructure.parameters_ref.name))
    result = Parameters()
    for key in keys:
        found = snapshot.gateway_parameters.get(key)
        if found is None:
            continue
        spec = found.spec
        result = Parameters(
            replicas=result.replicas if spec.replicas is None else spec.replicas,
            image=spec.image or result.image,
            resources=_resources(spec.resources) or result.resources,
            service_type=spec.service_type or result.service_type,
            pod_labels={**result.pod_labels, **(spec.pod_labels or {})},
        )
    return result


def _resources(value: Any) -> Mapping[str, Any]:
    if value is None:
        return {}
    return {
        name: dict(amounts)
        for name in ("requests", "limits")
        if (amounts := getattr(value, name, None))
    }
