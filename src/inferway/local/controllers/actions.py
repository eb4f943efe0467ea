"""What controllers want done, as values, and the one place that does it.

Plans return actions; ``Executor.perform`` sends them and puts the answers into the caches, so that
the next plan sees them. Knows the client, the caches and the event recorder.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from inferway.api.resources import ResourceType
from inferway.cluster.client import KubeClient, Object, PatchType, Propagation
from inferway.cluster.errors import NotFoundError
from inferway.cluster.events import EventLevel, EventRecorder
from inferway.cluster.status import write_status
from inferway.cluster.store import key_of
from inferway.local.controllers.caches import Caches
from inferway.local.controllers.objects import Raw, uid


@dataclass(frozen=True, slots=True)
class Create:
    """Creates an object in its own namespace."""

    resource: ResourceType
    obj: Object


@dataclass(frozen=True, slots=True)
class Delete:
    """Deletes exactly this object, not a namesake."""

    resource: ResourceType
    obj: Raw
    propagation: Propagation = "Background"
    grace_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class Patch:
    """Merges fields into exactly this object; with ``guard`` only if nobody changed it."""

    resource: ResourceType
    obj: Raw
    patch: Object
    guard: bool = False
    subresource: str | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """Makes the whole status equal to ``status``."""

    resource: ResourceType
    obj: Raw
    status: Object


@dataclass(frozen=True, slots=True)
class Note:
    """An Event for people."""

    about: Raw
    level: EventLevel
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Again:
    """Look at the same key after some seconds."""

    seconds: float


Action = Create | Delete | Patch | Status | Note | Again


@dataclass(frozen=True, slots=True)
class Executor:
    """Performs actions in order."""

    client: KubeClient
    caches: Caches
    recorder: EventRecorder

    async def perform(self, actions: Sequence[Action]) -> float | None:
        """The seconds after which to look again. Raises what the server refuses."""
        again: float | None = None
        for action in actions:
            if isinstance(action, Again):
                again = action.seconds if again is None else min(again, action.seconds)
            elif isinstance(action, Note):
                self.recorder.event(action.about, action.level, action.reason, action.message)
            elif isinstance(action, Create):
                await self.create(action)
            elif isinstance(action, Delete):
                await self.delete(action)
            elif isinstance(action, Patch):
                await self.patch(action)
            else:
                await self.status(action)
        return again

    async def create(self, action: Create) -> Object:
        created = await self.client.create(action.resource, action.obj)
        self.caches.of(action.resource).absorb(created)
        return created

    async def delete(self, action: Delete) -> None:
        key, identity = key_of(action.obj), uid(action.obj)
        try:
            answer = await self.client.delete(
                action.resource,
                key.name,
                key.namespace or None,
                propagation=action.propagation,
                grace_seconds=action.grace_seconds,
                uid=identity or None,
            )
        except NotFoundError:
            self.caches.of(action.resource).forget(key, identity)
            return
        cache = self.caches.of(action.resource)
        # An object that lingers comes back with its deletionTimestamp.
        if answer.get("kind") == "Status" or not uid(answer):
            cache.forget(key, identity)
        elif (answer["metadata"]).get("deletionTimestamp"):
            cache.absorb(answer)

    async def patch(self, action: Patch) -> None:
        key = key_of(action.obj)
        identity = {"uid": uid(action.obj)} if uid(action.obj) else {}
        version = action.obj["metadata"].get("resourceVersion") if action.guard else None
        guard = {**identity, **({"resourceVersion": version} if version else {})}
        body = {**action.patch, "metadata": {**guard, **action.patch.get("metadata", {})}}
        changed = await self.client.patch(
            action.resource,
            key.name,
            body,
            key.namespace or None,
            patch_type=PatchType.MERGE,
            subresource=action.subresource,
        )
        self.caches.of(action.resource).absorb(changed)

    async def status(self, action: Status) -> None:
        try:
            changed = await write_status(self.client, action.resource, action.obj, action.status)
        except NotFoundError:
            return
        if changed is not None:
            self.caches.of(action.resource).absorb(changed)

    async def create_in_batches(self, actions: Sequence[Create]) -> list[Object | BaseException]:
        """Creates 1, 2, 4, ... at a time and stops after a batch with a failure.

        So a quota or a broken template costs one refused request and not hundreds, as in
        Kubernetes. The results are in order; the objects that were not tried are missing.
        """
        results: list[Object | BaseException] = []
        size = 1
        while len(results) < len(actions):
            batch = actions[len(results) : len(results) + size]
            done = await asyncio.gather(
                *(self.create(action) for action in batch), return_exceptions=True
            )
            results += done
            if any(isinstance(result, BaseException) for result in done):
                break
            size *= 2
        return results
