"""What every controller gets, and how one is described.

Knows no kind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from typing import Any

from inferway.api.resources import ResourceType
from inferway.base.clock import Clock, SystemClock
from inferway.cluster.client import KubeClient, Object
from inferway.cluster.events import EventRecorder
from inferway.cluster.store import Change, Key
from inferway.cluster.workqueue import WORKERS, Reconcile, WorkQueue
from inferway.local.controllers.actions import Executor
from inferway.local.controllers.caches import BY_CONTROLLER, Caches
from inferway.local.controllers.objects import controller_of


@dataclass(frozen=True, slots=True)
class ControllerOptions:
    """What a stack decides about its controllers."""

    service_network: IPv4Network = field(default_factory=lambda: IPv4Network("127.77.128.0/17"))
    # Kubernetes' own default is 50 s since 1.32: five lost heartbeats.
    node_grace_seconds: float = 50.0
    # Kubernetes keeps 12 500 finished Pods; one machine's state file is smaller.
    finished_pods_max: int = 500
    # How long Pods of a Node that does not exist are left alone, as in Kubernetes.
    orphaned_pod_seconds: float = 40.0
    clock: Clock = field(default_factory=SystemClock)

    @classmethod
    def for_stack(cls, prefix: str) -> ControllerOptions:
        """The options of a stack that owns ``prefix``.0.0/16, such as ``127.77``."""
        return cls(service_network=IPv4Network(f"{prefix}.128.0/17"))


@dataclass(frozen=True, slots=True)
class Context:
    """The world of a controller."""

    client: KubeClient
    caches: Caches
    options: ControllerOptions
    recorders: Callable[[str], EventRecorder]

    def executor(self, component: str) -> Executor:
        return Executor(self.client, self.caches, self.recorders(component))

    def now(self) -> float:
        return self.options.clock.wall()

    def get(self, resource: ResourceType, key: Key) -> Object | None:
        return self.caches.of(resource).store.get(key)

    def owned(self, resource: ResourceType, owner_uid: str) -> list[Object]:
        """The objects of a kind that an owner controls."""
        return self.caches.of(resource).store.by(BY_CONTROLLER, owner_uid)

    def in_namespace(self, resource: ResourceType, namespace: str) -> list[Object]:
        return self.caches.of(resource).store.by("namespace", namespace)


@dataclass(frozen=True, slots=True)
class Controller:
    """A queue of keys and the function that brings one key to its wanted state."""

    name: str
    # Most keys are names; the garbage collector's keys have a kind too.
    queue: WorkQueue[Any]
    reconcile: Reconcile[Any]
    workers: int = WORKERS


def follow_owner(queue: WorkQueue[Key], kind: str) -> Callable[[Change[Object]], None]:
    """Queues the controlling owner of a changed object, before and after the change."""

    def callback(change: Change[Object]) -> None:
        for obj in (change.old, change.new):
            owner = controller_of(obj) if obj is not None else None
            if owner is not None and owner.get("kind") == kind:
                queue.add(Key(change.key.namespace, str(owner.get("name"))))

    return callback
