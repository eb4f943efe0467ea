"""The shared copies of the cluster: one informer for each kind, started when first wanted.

Knows informers and tasks. A controller asks ``of(resource)`` and subscribes; what it gets are raw
objects that it must not change.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from inferway.api.resources import ResourceType
from inferway.cluster.client import KubeClient, Object
from inferway.cluster.informer import Informer
from inferway.cluster.store import by_controller, by_namespace, by_owner

BY_CONTROLLER = "controller"
BY_NAMESPACE = "namespace"
BY_OWNER = "owner"


class Caches:
    """Informers of whole kinds with the indexes that all controllers need."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self._informers: dict[ResourceType, Informer[Object]] = {}
        self._tasks: dict[ResourceType, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._newcomers: list[Callable[[ResourceType, Informer[Object]], None]] = []

    def of(self, resource: ResourceType) -> Informer[Object]:
        """The informer of a kind; it begins to run at once if the caches run."""
        informer = self._informers.get(resource)
        if informer is None:
            informer = Informer(
                self._client,
                resource,
                indexers={
                    BY_CONTROLLER: by_controller,
                    BY_NAMESPACE: by_namespace,
                    BY_OWNER: by_owner,
                },
                optional=True,
            )
            self._informers[resource] = informer
            self._start(resource)
            for callback in self._newcomers:
                callback(resource, informer)
        return informer

    def has(self, resource: ResourceType) -> bool:
        return resource in self._informers

    def resources(self) -> list[ResourceType]:
        return list(self._informers)

    def drop(self, resource: ResourceType) -> None:
        """Ends the informer of a kind that the server does not have any more."""
        task = self._tasks.pop(resource, None)
        if task is not None:
            task.cancel()
        informer = self._informers.pop(resource, None)
        if informer is not None:
            informer.clear()

    def on_new_kind(self, callback: Callable[[ResourceType, Informer[Object]], None]) -> None:
        """Calls back for each informer that is here and that will come."""
        self._newcomers.append(callback)
        for resource, informer in list(self._informers.items()):
            callback(resource, informer)

    def start(self, group: asyncio.TaskGroup) -> None:
        """Runs all informers in ``group``, also those that come later."""
        self._group = group
        for resource in self._informers:
            self._start(resource)

    async def synced(self) -> None:
        """Waits until each informer has listed its kind once."""
        for informer in list(self._informers.values()):
            await informer.synced.wait()

    def _start(self, resource: ResourceType) -> None:
        if self._group is None or resource in self._tasks:
            return
        self._tasks[resource] = self._group.create_task(
            self._informers[resource].run(), name=f"informer-{resource.plural}"
        )
