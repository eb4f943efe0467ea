"""Which kinds the server has, asked of the server itself.

Knows the discovery documents. ``Inventory`` keeps one cache for each kind that can be listed,
watched and deleted, so that garbage collection and namespace deletion miss nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from inferway.api.resources import CUSTOM_RESOURCE_DEFINITIONS, ResourceType
from inferway.cluster.client import KubeClient, Object
from inferway.cluster.errors import ApiError
from inferway.cluster.store import Key
from inferway.cluster.workqueue import WorkQueue
from inferway.local.controllers.caches import Caches
from inferway.local.controllers.runtime import Context, Controller

_log = logging.getLogger(__name__)
_NEEDED_VERBS = frozenset({"list", "watch", "delete"})
# Events own nothing, are owned by nothing, and change more often than all other kinds together.
UNWATCHED = frozenset({("", "events"), ("events.k8s.io", "events")})
_ALL = Key("", "discovery")


def resources_of(group: str, version: str, document: Object) -> list[ResourceType]:
    """The kinds of an APIResourceList that can be listed, watched and deleted."""
    return [
        ResourceType(
            str(entry.get("group") or group),
            str(entry.get("version") or version),
            str(entry.get("kind")),
            str(entry.get("name")),
            bool(entry.get("namespaced")),
        )
        for entry in document.get("resources") or ()
        if "/" not in str(entry.get("name")) and set(entry.get("verbs") or ()) >= _NEEDED_VERBS
    ]


async def discover(client: KubeClient) -> list[ResourceType]:
    """All kinds, each in its preferred version. A group that fails is left out and logged."""
    found: dict[tuple[str, str], ResourceType] = {}
    for resource in resources_of("", "v1", await client.request("GET", "/api/v1")):
        found[resource.group, resource.plural] = resource
    groups = (await client.request("GET", "/apis")).get("groups") or ()
    for group in groups:
        name = str(group.get("name"))
        preferred = str((group.get("preferredVersion") or {}).get("version") or "")
        versions = [str(v.get("version")) for v in group.get("versions") or ()]
        for version in sorted(versions, key=lambda v: v != preferred):
            try:
                document = await client.request("GET", f"/apis/{name}/{version}")
            except ApiError as error:
                _log.warning(
                    "a group can not be discovered",
                    extra={"data": {"group": f"{name}/{version}", "error": str(error)}},
                )
                continue
            for resource in resources_of(name, version, document):
                found.setdefault((resource.group, resource.plural), resource)
    return list(found.values())


class Inventory:
    """The kinds of the moment; ``known`` is set by the first discovery."""

    def __init__(self, caches: Caches) -> None:
        self.kinds: list[ResourceType] = []
        self.known = asyncio.Event()
        self._caches = caches
        self._subscribers: list[Callable[[], None]] = []
        self._fixed: dict[tuple[str, str], ResourceType] | None = None

    def resolve(self, api_version: str, kind: str) -> ResourceType | None:
        """The kind of an owner reference; another version of the same group will do."""
        group = api_version.rpartition("/")[0]
        for resource in self.kinds:
            if resource.kind == kind and resource.group == group:
                return resource
        return None

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Calls back whenever the kinds changed."""
        self._subscribers.append(callback)

    def update(self, kinds: list[ResourceType]) -> None:
        """Starts caches of new kinds and ends those of kinds that are gone."""
        if self._fixed is None:
            # The controllers' own kinds keep the version that the controllers were written for.
            self._fixed = {(r.group, r.plural): r for r in self._caches.resources()}
        fixed = self._fixed
        effective = [fixed.get((r.group, r.plural), r) for r in kinds]
        watched = [r for r in effective if (r.group, r.plural) not in UNWATCHED]
        for resource in set(self.kinds) - set(effective):
            self._caches.drop(resource)
        for resource in watched:
            self._caches.of(resource)
        changed = self.kinds != effective
        self.kinds = effective
        self.known.set()
        if changed:
            for callback in self._subscribers:
                callback()


def controller(context: Context, inventory: Inventory) -> Controller:
    """Discovers at the start and whenever a CustomResourceDefinition changes."""
    queue: WorkQueue[Key] = WorkQueue("discovery")
    queue.add(_ALL)
    definitions = context.caches.of(CUSTOM_RESOURCE_DEFINITIONS)
    definitions.subscribe(lambda _: queue.add(_ALL))

    async def reconcile(_: Key) -> float | None:
        inventory.update(await discover(context.client))
        return None

    return Controller("discovery", queue, reconcile, workers=1)
