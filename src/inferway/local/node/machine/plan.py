"""What the machine needs of a Pod's specification."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from inferway.api import pods

FieldPath = str


@dataclass(frozen=True, slots=True)
class Container:
    """One container. ``sidecar`` is an init container with restartPolicy Always."""

    spec: pods.Container
    is_init: bool = False

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def image(self) -> str:
        return self.spec.image

    @property
    def sidecar(self) -> bool:
        return self.is_init and self.spec.sidecar

    @property
    def checked(self) -> bool:
        """Ordinary init containers have neither probes nor hooks."""
        return self.sidecar or not self.is_init

    @property
    def startup(self) -> pods.Probe | None:
        return self.spec.startup_probe if self.checked else None

    @property
    def liveness(self) -> pods.Probe | None:
        return self.spec.liveness_probe if self.checked else None

    @property
    def readiness(self) -> pods.Probe | None:
        return self.spec.readiness_probe if self.checked else None

    @property
    def post_start(self) -> pods.LifecycleHandler | None:
        lifecycle = self.spec.lifecycle if self.checked else None
        return lifecycle.post_start if lifecycle else None

    @property
    def pre_stop(self) -> pods.LifecycleHandler | None:
        lifecycle = self.spec.lifecycle if self.checked else None
        return lifecycle.pre_stop if lifecycle else None

    @property
    def field_path(self) -> FieldPath:
        """Where Events point to."""
        kind = "initContainers" if self.is_init else "containers"
        return f"spec.{kind}{{{self.name}}}"


@dataclass(frozen=True, slots=True)
class PodPlan:
    """One Pod. Restart policy: Always, OnFailure or Never."""

    name: str
    namespace: str
    uid: str
    containers: tuple[Container, ...]
    init_containers: tuple[Container, ...] = ()
    restart_policy: str = "Always"
    grace_seconds: float = 30.0
    deadline_seconds: float | None = None
    readiness_gates: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """How a kubelet writes a Pod in messages."""
        return f"{self.name}_{self.namespace}({self.uid})"


def read_plan(pod: pods.Pod) -> PodPlan:
    """The plan of a Pod."""
    spec = pod.spec
    deadline = spec.active_deadline_seconds
    return PodPlan(
        name=pod.metadata.name,
        namespace=pod.metadata.namespace,
        uid=pod.metadata.uid,
        containers=tuple(Container(container) for container in spec.containers),
        init_containers=tuple(
            Container(container, is_init=True) for container in spec.init_containers
        ),
        restart_policy=spec.restart_policy,
        grace_seconds=float(spec.termination_grace_period_seconds),
        deadline_seconds=None if deadline is None else float(deadline),
        readiness_gates=tuple(gate.condition_type for gate in spec.readiness_gates),
    )


def restart_counts(raw: Mapping[str, Any]) -> dict[str, int]:
    """Restarts so far; a container that ran under an earlier node begins with one more."""
    status = raw.get("status") or {}
    counts: dict[str, int] = {}
    for name in ("containerStatuses", "initContainerStatuses"):
        for item in status.get(name) or ():
            ran = bool(item.get("containerID"))
            counts[str(item.get("name"))] = int(item.get("restartCount") or 0) + int(ran)
    return counts
