"""Deployments and ReplicaSets. Their Pod template stays raw: it is copied, never interpreted."""

from __future__ import annotations

from inferway.api.codec import ApiStruct, Object
from inferway.api.meta import Condition, LabelSelector, ObjectMeta
from inferway.api.pods import IntOrString


class RollingUpdate(ApiStruct, frozen=True, kw_only=True):
    max_unavailable: IntOrString = "25%"
    max_surge: IntOrString = "25%"


class DeploymentStrategy(ApiStruct, frozen=True, kw_only=True):
    type: str = "RollingUpdate"
    rolling_update: RollingUpdate = RollingUpdate()


class DeploymentSpec(ApiStruct, frozen=True, kw_only=True):
    selector: LabelSelector = LabelSelector()
    template: Object = {}
    replicas: int = 1
    strategy: DeploymentStrategy = DeploymentStrategy()
    min_ready_seconds: int = 0
    revision_history_limit: int = 10
    progress_deadline_seconds: int = 600
    paused: bool = False


class DeploymentStatus(ApiStruct, frozen=True, kw_only=True):
    observed_generation: int = 0
    replicas: int = 0
    updated_replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    unavailable_replicas: int = 0
    collision_count: int = 0
    conditions: tuple[Condition, ...] = ()


class Deployment(ApiStruct, frozen=True, kw_only=True):
    api_version: str = "apps/v1"
    kind: str = "Deployment"
    metadata: ObjectMeta = ObjectMeta()
    spec: DeploymentSpec = DeploymentSpec()
    status: DeploymentStatus = DeploymentStatus()


class ReplicaSetSpec(ApiStruct, frozen=True, kw_only=True):
    selector: LabelSelector = LabelSelector()
    template: Object = {}
    replicas: int = 1
    min_ready_seconds: int = 0


class ReplicaSetStatus(ApiStruct, frozen=True, kw_only=True):
    observed_generation: int = 0
    replicas: int = 0
    fully_labeled_replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    conditions: tuple[Condition, ...] = ()


class ReplicaSet(ApiStruct, frozen=True, kw_only=True):
    api_version: str = "apps/v1"
    kind: str = "ReplicaSet"
    metadata: ObjectMeta = ObjectMeta()
    spec: ReplicaSetSpec = ReplicaSetSpec()
    status: ReplicaSetStatus = ReplicaSetStatus()
