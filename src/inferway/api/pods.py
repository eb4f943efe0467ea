"""Pods: everything that the node and the controllers interpret.

A typed view for reading. ``core.py`` exports these names too. Quantities stay as written
(``base.quantities`` reads them); ``securityContext`` and ``affinity`` stay raw.
"""

from __future__ import annotations

from typing import Any

from inferway.api.codec import ApiStruct
from inferway.api.meta import Condition, LabelSelector, ObjectMeta

Quantity = str | int | float
IntOrString = int | str


class ObjectFieldSelector(ApiStruct, frozen=True, kw_only=True):
    field_path: str
    api_version: str = "v1"


class ResourceFieldSelector(ApiStruct, frozen=True, kw_only=True):
    resource: str
    container_name: str = ""
    divisor: Quantity = "0"


class KeySelector(ApiStruct, frozen=True, kw_only=True):
    """A key of a ConfigMap or a Secret."""

    key: str
    name: str = ""
    optional: bool = False


class EnvVarSource(ApiStruct, frozen=True, kw_only=True):
    field_ref: ObjectFieldSelector | None = None
    resource_field_ref: ResourceFieldSelector | None = None
    config_map_key_ref: KeySelector | None = None
    secret_key_ref: KeySelector | None = None


class EnvVar(ApiStruct, frozen=True, kw_only=True):
    name: str
    value: str = ""
    value_from: EnvVarSource | None = None


class SourceReference(ApiStruct, frozen=True, kw_only=True):
    """A whole ConfigMap or Secret."""

    name: str = ""
    optional: bool = False


class EnvFromSource(ApiStruct, frozen=True, kw_only=True):
    prefix: str = ""
    config_map_ref: SourceReference | None = None
    secret_ref: SourceReference | None = None


class ContainerPort(ApiStruct, frozen=True, kw_only=True):
    container_port: int
    name: str = ""
    host_port: int = 0
    host_ip: str = ""
    protocol: str = "TCP"


class VolumeMount(ApiStruct, frozen=True, kw_only=True):
    name: str
    mount_path: str
    read_only: bool = False
    sub_path: str = ""
    sub_path_expr: str = ""


class ResourceRequirements(ApiStruct, frozen=True, kw_only=True):
    limits: dict[str, Quantity] = {}
    requests: dict[str, Quantity] = {}


class ExecAction(ApiStruct, frozen=True, kw_only=True):
    command: tuple[str, ...] = ()


class HTTPHeader(ApiStruct, frozen=True, kw_only=True):
    name: str
    value: str = ""


class HTTPGetAction(ApiStruct, frozen=True, kw_only=True):
    port: IntOrString
    path: str = "/"
    host: str = ""
    scheme: str = "HTTP"
    http_headers: tuple[HTTPHeader, ...] = ()


class TCPSocketAction(ApiStruct, frozen=True, kw_only=True):
    port: IntOrString
    host: str = ""


class GRPCAction(ApiStruct, frozen=True, kw_only=True):
    port: int
    service: str = ""


class SleepAction(ApiStruct, frozen=True, kw_only=True):
    seconds: int


class Probe(ApiStruct, frozen=True, kw_only=True):
    """Exactly one of the four actions. Times are in seconds."""

    exec: ExecAction | None = None
    http_get: HTTPGetAction | None = None
    tcp_socket: TCPSocketAction | None = None
    grpc: GRPCAction | None = None
    initial_delay_seconds: int = 0
    timeout_seconds: int = 1
    period_seconds: int = 10
    success_threshold: int = 1
    failure_threshold: int = 3
    termination_grace_period_seconds: int | None = None


class LifecycleHandler(ApiStruct, frozen=True, kw_only=True):
    exec: ExecAction | None = None
    http_get: HTTPGetAction | None = None
    tcp_socket: TCPSocketAction | None = None
    sleep: SleepAction | None = None


class Lifecycle(ApiStruct, frozen=True, kw_only=True):
    post_start: LifecycleHandler | None = None
    pre_stop: LifecycleHandler | None = None
    stop_signal: str = ""


class Container(ApiStruct, frozen=True, kw_only=True):
    """A container, an init container, or with ``restart_policy`` Always a sidecar."""

    name: str
    image: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    working_dir: str = ""
    ports: tuple[ContainerPort, ...] = ()
    env: tuple[EnvVar, ...] = ()
    env_from: tuple[EnvFromSource, ...] = ()
    resources: ResourceRequirements = ResourceRequirements()
    volume_mounts: tuple[VolumeMount, ...] = ()
    liveness_probe: Probe | None = None
    readiness_probe: Probe | None = None
    startup_probe: Probe | None = None
    lifecycle: Lifecycle | None = None
    restart_policy: str = ""
    image_pull_policy: str = ""
    termination_message_path: str = "/dev/termination-log"
    termination_message_policy: str = "File"
    security_context: dict[str, Any] = {}
    stdin: bool = False
    tty: bool = False

    @property
    def sidecar(self) -> bool:
        return self.restart_policy == "Always"


class KeyToPath(ApiStruct, frozen=True, kw_only=True):
    key: str
    path: str
    mode: int | None = None


class ConfigMapVolume(ApiStruct, frozen=True, kw_only=True):
    name: str = ""
    items: tuple[KeyToPath, ...] = ()
    default_mode: int = 0o644
    optional: bool = False


class SecretVolume(ApiStruct, frozen=True, kw_only=True):
    secret_name: str = ""
    items: tuple[KeyToPath, ...] = ()
    default_mode: int = 0o644
    optional: bool = False


class EmptyDirVolume(ApiStruct, frozen=True, kw_only=True):
    medium: str = ""
    size_limit: Quantity | None = None


class HostPathVolume(ApiStruct, frozen=True, kw_only=True):
    path: str
    type: str = ""


class DownwardAPIFile(ApiStruct, frozen=True, kw_only=True):
    path: str
    field_ref: ObjectFieldSelector | None = None
    resource_field_ref: ResourceFieldSelector | None = None
    mode: int | None = None


class DownwardAPIVolume(ApiStruct, frozen=True, kw_only=True):
    items: tuple[DownwardAPIFile, ...] = ()
    default_mode: int = 0o644


class SecretProjection(ApiStruct, frozen=True, kw_only=True):
    name: str = ""
    items: tuple[KeyToPath, ...] = ()
    optional: bool = False


class ServiceAccountTokenProjection(ApiStruct, frozen=True, kw_only=True):
    path: str
    audience: str = ""
    expiration_seconds: int = 3600


class VolumeProjection(ApiStruct, frozen=True, kw_only=True):
    config_map: SecretProjection | None = None
    secret: SecretProjection | None = None
    downward_api: DownwardAPIVolume | None = None
    service_account_token: ServiceAccountTokenProjection | None = None


class ProjectedVolume(ApiStruct, frozen=True, kw_only=True):
    sources: tuple[VolumeProjection, ...] = ()
    default_mode: int = 0o644


class PersistentVolumeClaimVolume(ApiStruct, frozen=True, kw_only=True):
    claim_name: str
    read_only: bool = False


class Volume(ApiStruct, frozen=True, kw_only=True):
    """One of the sources; none of them is an emptyDir."""

    name: str
    config_map: ConfigMapVolume | None = None
    secret: SecretVolume | None = None
    empty_dir: EmptyDirVolume | None = None
    host_path: HostPathVolume | None = None
    downward_api: DownwardAPIVolume | None = None
    projected: ProjectedVolume | None = None
    persistent_volume_claim: PersistentVolumeClaimVolume | None = None


class Toleration(ApiStruct, frozen=True, kw_only=True):
    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""
    toleration_seconds: int | None = None


class HostAlias(ApiStruct, frozen=True, kw_only=True):
    ip: str
    hostnames: tuple[str, ...] = ()


class PodReadinessGate(ApiStruct, frozen=True, kw_only=True):
    condition_type: str


class PodSpec(ApiStruct, frozen=True, kw_only=True):
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    volumes: tuple[Volume, ...] = ()
    restart_policy: str = "Always"
    termination_grace_period_seconds: int = 30
    active_deadline_seconds: int | None = None
    dns_policy: str = "ClusterFirst"
    node_selector: dict[str, str] = {}
    node_name: str = ""
    service_account_name: str = ""
    automount_service_account_token: bool = True
    host_network: bool = False
    hostname: str = ""
    subdomain: str = ""
    host_aliases: tuple[HostAlias, ...] = ()
    tolerations: tuple[Toleration, ...] = ()
    priority_class_name: str = ""
    priority: int | None = None
    scheduler_name: str = "default-scheduler"
    scheduling_gates: tuple[dict[str, Any], ...] = ()
    readiness_gates: tuple[PodReadinessGate, ...] = ()
    overhead: dict[str, Quantity] = {}
    enable_service_links: bool = True
    share_process_namespace: bool = False
    affinity: dict[str, Any] = {}
    security_context: dict[str, Any] = {}
    topology_spread_constraints: tuple[dict[str, Any], ...] = ()


class ContainerStateWaiting(ApiStruct, frozen=True, kw_only=True):
    reason: str = ""
    message: str = ""


class ContainerStateRunning(ApiStruct, frozen=True, kw_only=True):
    started_at: str = ""


class ContainerStateTerminated(ApiStruct, frozen=True, kw_only=True, omit_defaults=False):
    exit_code: int = 0
    signal: int = 0
    reason: str = ""
    message: str = ""
    started_at: str = ""
    finished_at: str = ""
    container_id: str = ""


class ContainerState(ApiStruct, frozen=True, kw_only=True):
    waiting: ContainerStateWaiting | None = None
    running: ContainerStateRunning | None = None
    terminated: ContainerStateTerminated | None = None


class ContainerStatus(ApiStruct, frozen=True, kw_only=True, omit_defaults=False):
    """All fields are written, because the API demands most of them."""

    name: str
    state: ContainerState = ContainerState()
    last_state: ContainerState = ContainerState()
    ready: bool = False
    started: bool = False
    restart_count: int = 0
    image: str = ""
    image_id: str = ""
    container_id: str = ""


class PodIP(ApiStruct, frozen=True, kw_only=True):
    ip: str = ""


class PodStatus(ApiStruct, frozen=True, kw_only=True):
    phase: str = ""
    conditions: tuple[Condition, ...] = ()
    message: str = ""
    reason: str = ""
    host_ip: str = ""
    pod_ip: str = ""
    pod_ips: tuple[PodIP, ...] = ()
    start_time: str = ""
    qos_class: str = ""
    observed_generation: int = 0
    init_container_statuses: tuple[ContainerStatus, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()

    @property
    def ready(self) -> bool:
        return any(c.type == "Ready" and c.status == "True" for c in self.conditions)


class Pod(ApiStruct, frozen=True, kw_only=True):
    api_version: str = "v1"
    kind: str = "Pod"
    metadata: ObjectMeta = ObjectMeta()
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class PodAffinityTerm(ApiStruct, frozen=True, kw_only=True):
    """A term of ``affinity.podAffinity``, for those who read it."""

    topology_key: str
    label_selector: LabelSelector | None = None
    namespaces: tuple[str, ...] = ()
