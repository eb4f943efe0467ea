"""Kinds of the core group besides Pods, whose names are exported here too."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from inferway.api.codec import ApiStruct
from inferway.api.meta import Condition, LabelSelector, ObjectMeta
from inferway.api.pods import (
    ConfigMapVolume,
    Container,
    ContainerPort,
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerStatus,
    DownwardAPIFile,
    DownwardAPIVolume,
    EmptyDirVolume,
    EnvFromSource,
    EnvVar,
    EnvVarSource,
    ExecAction,
    GRPCAction,
    HostAlias,
    HostPathVolume,
    HTTPGetAction,
    HTTPHeader,
    IntOrString,
    KeySelector,
    KeyToPath,
    Lifecycle,
    LifecycleHandler,
    ObjectFieldSelector,
    PersistentVolumeClaimVolume,
    Pod,
    PodIP,
    PodReadinessGate,
    PodSpec,
    PodStatus,
    Probe,
    ProjectedVolume,
    Quantity,
    ResourceFieldSelector,
    ResourceRequirements,
    SecretProjection,
    SecretVolume,
    ServiceAccountTokenProjection,
    SleepAction,
    SourceReference,
    TCPSocketAction,
    Toleration,
    Volume,
    VolumeMount,
    VolumeProjection,
)


class ObjectReference(ApiStruct, frozen=True, kw_only=True):
    """An object that another one is about."""

    api_version: str = ""
    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    resource_version: str = ""
    field_path: str = ""


class ServicePort(ApiStruct, frozen=True, kw_only=True):
    port: int
    name: str = ""
    protocol: str = "TCP"
    app_protocol: str = ""
    target_port: IntOrString | None = None
    node_port: int = 0


class ServiceSpec(ApiStruct, frozen=True, kw_only=True):
    """``cluster_ip`` is ``None`` as a text for a headless Service."""

    type: str = "ClusterIP"
    selector: dict[str, str] = {}
    ports: tuple[ServicePort, ...] = ()
    cluster_ip: str = ""
    cluster_ips: tuple[str, ...] = ()
    external_ips: tuple[str, ...] = ()
    external_name: str = ""
    load_balancer_ip: str = ""
    load_balancer_class: str = ""
    external_traffic_policy: str = ""
    session_affinity: str = "None"
    publish_not_ready_addresses: bool = False
    ip_families: tuple[str, ...] = ()
    ip_family_policy: str = ""


class LoadBalancerIngress(ApiStruct, frozen=True, kw_only=True):
    ip: str = ""
    hostname: str = ""


class LoadBalancerStatus(ApiStruct, frozen=True, kw_only=True):
    ingress: tuple[LoadBalancerIngress, ...] = ()


class ServiceStatus(ApiStruct, frozen=True, kw_only=True):
    load_balancer: LoadBalancerStatus = LoadBalancerStatus()
    conditions: tuple[Condition, ...] = ()


class Service(ApiStruct, frozen=True, kw_only=True):
    api_version: str = "v1"
    kind: str = "Service"
    metadata: ObjectMeta = ObjectMeta()
    spec: ServiceSpec = ServiceSpec()
    status: ServiceStatus = ServiceStatus()


class ConfigMap(ApiStruct, frozen=True, kw_only=True):
    """``binary_data`` is base64."""

    api_version: str = "v1"
    kind: str = "ConfigMap"
    metadata: ObjectMeta = ObjectMeta()
    data: dict[str, str] = {}
    binary_data: dict[str, str] = {}
    immutable: bool = False


class Secret(ApiStruct, frozen=True, kw_only=True):
    """``data`` is base64; ``value`` decodes it."""

    api_version: str = "v1"
    kind: str = "Secret"
    metadata: ObjectMeta = ObjectMeta()
    type: str = "Opaque"
    data: dict[str, str] = {}
    immutable: bool = False

    def value(self, key: str) -> bytes | None:
        """The bytes behind a key; None if it is missing or is not base64."""
        try:
            return base64.b64decode(self.data[key], validate=True)
        except (KeyError, binascii.Error):
            return None


class Taint(ApiStruct, frozen=True, kw_only=True):
    key: str
    effect: str = ""
    value: str = ""
    time_added: str = ""


class NodeSpec(ApiStruct, frozen=True, kw_only=True):
    pod_cidr: str = ""
    provider_id: str = ""
    unschedulable: bool = False
    taints: tuple[Taint, ...] = ()


class NodeAddress(ApiStruct, frozen=True, kw_only=True):
    type: str
    address: str


class DaemonEndpoint(ApiStruct, frozen=True, kw_only=True, rename={"port": "Port"}):
    port: int = 0


class NodeDaemonEndpoints(ApiStruct, frozen=True, kw_only=True):
    kubelet_endpoint: DaemonEndpoint = DaemonEndpoint()


class NodeStatus(ApiStruct, frozen=True, kw_only=True):
    capacity: dict[str, Quantity] = {}
    allocatable: dict[str, Quantity] = {}
    conditions: tuple[Condition, ...] = ()
    addresses: tuple[NodeAddress, ...] = ()
    daemon_endpoints: NodeDaemonEndpoints = NodeDaemonEndpoints()
    node_info: dict[str, Any] = {}


class Node(ApiStruct, frozen=True, kw_only=True):
    api_version: str = "v1"
    kind: str = "Node"
    metadata: ObjectMeta = ObjectMeta()
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


class NamespaceSpec(ApiStruct, frozen=True, kw_only=True):
    finalizers: tuple[str, ...] = ()


class NamespaceStatus(ApiStruct, frozen=True, kw_only=True):
    phase: str = ""
    conditions: tuple[Condition, ...] = ()


class Namespace(ApiStruct, frozen=True, kw_only=True):
    api_version: str = "v1"
    kind: str = "Namespace"
    metadata: ObjectMeta = ObjectMeta()
    spec: NamespaceSpec = NamespaceSpec()
    status: NamespaceStatus = NamespaceStatus()


class ServiceAccount(ApiStruct, frozen=True, kw_only=True):
    api_version: str = "v1"
    kind: str = "ServiceAccount"
    metadata: ObjectMeta = ObjectMeta()
    automount_service_account_token: bool | None = None


class EventSource(ApiStruct, frozen=True, kw_only=True):
    component: str = ""
    host: str = ""


class Event(ApiStruct, frozen=True, kw_only=True):
    """``type`` is Normal or Warning."""

    api_version: str = "v1"
    kind: str = "Event"
    metadata: ObjectMeta = ObjectMeta()
    involved_object: ObjectReference = ObjectReference()
    type: str = ""
    reason: str = ""
    message: str = ""
    count: int = 0
    source: EventSource = EventSource()
    first_timestamp: str = ""
    last_timestamp: str = ""
    event_time: str = ""
    reporting_component: str = ""
    reporting_instance: str = ""


__all__ = [
    "Condition",
    "ConfigMap",
    "ConfigMapVolume",
    "Container",
    "ContainerPort",
    "ContainerState",
    "ContainerStateRunning",
    "ContainerStateTerminated",
    "ContainerStateWaiting",
    "ContainerStatus",
    "DaemonEndpoint",
    "DownwardAPIFile",
    "DownwardAPIVolume",
    "EmptyDirVolume",
    "EnvFromSource",
    "EnvVar",
    "EnvVarSource",
    "Event",
    "EventSource",
    "ExecAction",
    "GRPCAction",
    "HTTPGetAction",
    "HTTPHeader",
    "HostAlias",
    "HostPathVolume",
    "IntOrString",
    "KeySelector",
    "KeyToPath",
    "LabelSelector",
    "Lifecycle",
    "LifecycleHandler",
    "LoadBalancerIngress",
    "LoadBalancerStatus",
    "Namespace",
    "NamespaceSpec",
    "NamespaceStatus",
    "Node",
    "NodeAddress",
    "NodeDaemonEndpoints",
    "NodeSpec",
    "NodeStatus",
    "ObjectFieldSelector",
    "ObjectMeta",
    "ObjectReference",
    "PersistentVolumeClaimVolume",
    "Pod",
    "PodIP",
    "PodReadinessGate",
    "PodSpec",
    "PodStatus",
    "Probe",
    "ProjectedVolume",
    "Quantity",
    "ResourceFieldSelector",
    "ResourceRequirements",
    "Secret",
    "SecretProjection",
    "SecretVolume",
    "Service",
    "ServiceAccount",
    "ServiceAccountTokenProjection",
    "ServicePort",
    "ServiceSpec",
    "ServiceStatus",
    "SleepAction",
    "SourceReference",
    "TCPSocketAction",
    "Taint",
    "Toleration",
    "Volume",
    "VolumeMount",
    "VolumeProjection",
]
