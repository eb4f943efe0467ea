"""The objects that a translation looks at, at one moment, with the indexes that it needs.

Knows typed objects. A Pod is reduced to what matters here, so that the many changes of a Pod's
status that nobody asks for are no change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from inferway.api.core import Namespace, Pod, Service
from inferway.api.discovery import EndpointSlice
from inferway.api.gateway import Gateway, GatewayClass, HTTPRoute, ReferenceGrant
from inferway.api.inference import INFERENCE_GROUP, InferenceModelRewrite, InferencePool
from inferway.api.inferway import GatewayParameters

Key = tuple[str, str]
"""Namespace (empty for cluster-scoped kinds) and name."""

CONTROLLER_NAME = "inferway.dev/gateway-controller"
PICK_SOCKET_ANNOTATION = "inferway.dev/pick-socket"
# The newest name first; both are in use.
ACTIVE_PORTS_ANNOTATIONS = (
    "llm-d.ai/active-ports",
    "inference.networking.k8s.io/active-ports",
)


@dataclass(frozen=True, slots=True)
class PodView:
    """What a translation knows of a Pod. ``ready`` is False for one that is being deleted."""

    namespace: str
    name: str
    address: str
    ready: bool
    labels: Mapping[str, str] = field(default_factory=dict)
    pick_socket: str = ""
    active_ports: str = ""


def pod_view(pod: Pod) -> PodView:
    """The view of a Pod."""
    meta = pod.metadata
    active = (meta.annotations.get(name, "") for name in ACTIVE_PORTS_ANNOTATIONS)
    return PodView(
        namespace=meta.namespace,
        name=meta.name,
        address=pod.status.pod_ip,
        ready=pod.status.ready and not meta.deleting and bool(pod.status.pod_ip),
        labels=meta.labels,
        pick_socket=meta.annotations.get(PICK_SOCKET_ANNOTATION, ""),
        active_ports=next((text for text in active if text), ""),
    )


@dataclass(frozen=True)
class Snapshot:
    """All objects by key. Not slotted, because the indexes are made when they are first used."""

    gateway_classes: Mapping[Key, GatewayClass] = field(default_factory=dict)
    gateways: Mapping[Key, Gateway] = field(default_factory=dict)
    http_routes: Mapping[Key, HTTPRoute] = field(default_factory=dict)
    reference_grants: Mapping[Key, ReferenceGrant] = field(default_factory=dict)
    inference_pools: Mapping[Key, InferencePool] = field(default_factory=dict)
    model_rewrites: Mapping[Key, InferenceModelRewrite] = field(default_factory=dict)
    # The same kind in the group that it had first; both count.
    legacy_model_rewrites: Mapping[Key, InferenceModelRewrite] = field(default_factory=dict)
    gateway_parameters: Mapping[Key, GatewayParameters] = field(default_factory=dict)
    namespaces: Mapping[Key, Namespace] = field(default_factory=dict)
    services: Mapping[Key, Service] = field(default_factory=dict)
    endpoint_slices: Mapping[Key, EndpointSlice] = field(default_factory=dict)
    pods: Mapping[Key, PodView] = field(default_factory=dict)

    @cached_property
    def slices_by_service(self) -> Mapping[Key, list[EndpointSlice]]:
        found: dict[Key, list[EndpointSlice]] = {}
        for item in self.endpoint_slices.values():
            if item.service:
                found.setdefault((item.metadata.namespace, item.service), []).append(item)
        return found

    @cached_property
    def rewritten_pools(self) -> frozenset[Key]:
        """Pools whose picker may ask for another model in a request's body."""
        found = (*self.model_rewrites.values(), *self.legacy_model_rewrites.values())
        return frozenset(
            (item.metadata.namespace, item.spec.pool_ref.name)
            for item in found
            if item.spec is not None and item.spec.pool_ref.group in ("", INFERENCE_GROUP)
        )

    @cached_property
    def ready_pods_by_namespace(self) -> Mapping[str, list[PodView]]:
        found: dict[str, list[PodView]] = {}
        for pod in self.pods.values():
            if pod.ready:
                found.setdefault(pod.namespace, []).append(pod)
        return found

    def namespace_labels(self, name: str) -> Mapping[str, str]:
        """Labels of a namespace; its name is always one of them."""
        found = self.namespaces.get(("", name))
        labels = found.metadata.labels if found is not None else {}
        return {"kubernetes.io/metadata.name": name, **labels}
