"""The kinds that Inferway's own parts read and write, as data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ResourceType:
    """Where objects of one kind live under the Kubernetes API."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """``v1`` or ``apps/v1``, as in an object's apiVersion."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None) -> str:
        """The URL path of the collection, or of one object."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        scope = f"/namespaces/{namespace}" if namespace and self.namespaced else ""
        return f"{root}{scope}/{self.plural}" + (f"/{name}" if name else "")


NAMESPACES = ResourceType("", "v1", "Namespace", "namespaces", namespaced=False)
NODES = ResourceType("", "v1", "Node", "nodes", namespaced=False)
PODS = ResourceType("", "v1", "Pod", "pods")
SERVICES = ResourceType("", "v1", "Service", "services")
CONFIG_MAPS = ResourceType("", "v1", "ConfigMap", "configmaps")
SECRETS = ResourceType("", "v1", "Secret", "secrets")
SERVICE_ACCOUNTS = ResourceType("", "v1", "ServiceAccount", "serviceaccounts")
EVENTS = ResourceType("", "v1", "Event", "events")
ENDPOINT_SLICES = ResourceType("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices")
DEPLOYMENTS = ResourceType("apps", "v1", "Deployment", "deployments")
REPLICA_SETS = ResourceType("apps", "v1", "ReplicaSet", "replicasets")
JOBS = ResourceType("batch", "v1", "Job", "jobs")
LEASES = ResourceType("coordination.k8s.io", "v1", "Lease", "leases")
CUSTOM_RESOURCE_DEFINITIONS = ResourceType(
    "apiextensions.k8s.io",
    "v1",
    "CustomResourceDefinition",
    "customresourcedefinitions",
    namespaced=False,
)
GATEWAY_CLASSES = ResourceType(
    "gateway.networking.k8s.io", "v1", "GatewayClass", "gatewayclasses", namespaced=False
)
GATEWAYS = ResourceType("gateway.networking.k8s.io", "v1", "Gateway", "gateways")
HTTP_ROUTES = ResourceType("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes")
REFERENCE_GRANTS = ResourceType(
    "gateway.networking.k8s.io", "v1beta1", "ReferenceGrant", "referencegrants"
)
INFERENCE_POOLS = ResourceType(
    "inference.networking.k8s.io", "v1", "InferencePool", "inferencepools"
)
GATEWAY_PARAMETERS = ResourceType(
    "inferway.dev", "v1alpha1", "GatewayParameters", "gatewayparameters"
)
LORA_ADAPTERS = ResourceType("inferway.dev", "v1alpha1", "LoRAAdapter", "loraadapters")
GRPC_ROUTES = ResourceType("gateway.networking.k8s.io", "v1", "GRPCRoute", "grpcroutes")
LEGACY_INFERENCE_POOLS = ResourceType(
    "inference.networking.x-k8s.io", "v1alpha2", "InferencePool", "inferencepools"
)
INFERENCE_POOL_IMPORTS = ResourceType(
    "inference.networking.x-k8s.io", "v1alpha1", "InferencePoolImport", "inferencepoolimports"
)
INFERENCE_OBJECTIVES = ResourceType(
    "llm-d.ai", "v1alpha2", "InferenceObjective", "inferenceobjectives"
)
LEGACY_INFERENCE_OBJECTIVES = ResourceType(
    "inference.networking.x-k8s.io", "v1alpha2", "InferenceObjective", "inferenceobjectives"
)
INFERENCE_MODEL_REWRITES = ResourceType(
    "llm-d.ai", "v1alpha2", "InferenceModelRewrite", "inferencemodelrewrites"
)
LEGACY_INFERENCE_MODEL_REWRITES = ResourceType(
    "inference.networking.x-k8s.io", "v1alpha2", "InferenceModelRewrite", "inferencemodelrewrites"
)
