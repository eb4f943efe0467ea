"""Collects objects whose owners are gone: the pump around ``garbage.plan``.

Keeps who depends on whom across all kinds. An owner that no cache shows is asked of the server
before anything is deleted, because a cache may be behind.
"""

from __future__ import annotations

from typing import NamedTuple

from inferway.api.resources import ResourceType
from inferway.cluster.client import Object
from inferway.cluster.errors import NotFoundError
from inferway.cluster.informer import Informer
from inferway.cluster.store import Change, Key
from inferway.cluster.workqueue import WorkQueue
from inferway.local.controllers import garbage
from inferway.local.controllers import objects as o
from inferway.local.controllers.discovery import Inventory
from inferway.local.controllers.objects import Raw
from inferway.local.controllers.runtime import Context, Controller

COMPONENT = "garbage-collector-controller"
# uids never come back, so forgetting them costs one request each; 100 kB a thousand.
ABSENT_REMEMBERED_MAX = 10_000


class Target(NamedTuple):
    """One object of any kind."""

    resource: ResourceType
    key: Key


class Collector:
    """The graph of owners, kept by the caches' changes."""

    def __init__(self, context: Context, inventory: Inventory) -> None:
        self.queue: WorkQueue[Target] = WorkQueue("garbage")
        self._context = context
        self._inventory = inventory
        self._executor = context.executor(COMPONENT)
        self._places: dict[str, Target] = {}
        self._dependents: dict[str, dict[Target, None]] = {}
        self._absent: dict[str, None] = {}
        # Objects whose owner is of a kind that the server does not know.
        self._puzzling: dict[Target, None] = {}
        inventory.subscribe(self._kinds_changed)
        context.caches.on_new_kind(self._follow)

    def _follow(self, resource: ResourceType, informer: Informer[Object]) -> None:
        informer.subscribe_changes(lambda change: self._changed(resource, change))

    def _kinds_changed(self) -> None:
        puzzling, self._puzzling = self._puzzling, {}
        for target in puzzling:
            self.queue.add(target)

    def _changed(self, resource: ResourceType, change: Change[Object]) -> None:
        target = Target(resource, change.key)
        old, new = change.old, change.new
        old_uid = o.uid(old) if old is not None else ""
        new_uid = o.uid(new) if new is not None else ""
        old_owners = _owner_uids(old)
        new_owners = _owner_uids(new)
        for owner in old_owners - new_owners:
            self._let_go(owner, target)
        for owner in new_owners:
            self._dependents.setdefault(owner, {})[target] = None
        if old_uid and old_uid != new_uid:
            self._gone(old_uid, target)
        if new is None:
            return
        if new_uid:
            self._places[new_uid] = target
        held = garbage.finalizers(new)
        if o.deleting(new):
            if garbage.ORPHAN in held or garbage.FOREGROUND in held:
                self.queue.add(target)
            if garbage.FOREGROUND in held:
                self._queue_dependents(new_uid)
        elif new_owners and (old_owners != new_owners or old_uid != new_uid):
            self.queue.add(target)

    def _let_go(self, owner: str, target: Target) -> None:
        known = self._dependents.get(owner)
        if known is not None:
            known.pop(target, None)
            if not known:
                del self._dependents[owner]
        # An owner that waits for its dependents wants to know.
        place = self._places.get(owner)
        waiting = self._object(place) if place is not None else None
        if place is not None and waiting is not None and o.deleting(waiting):
            self.queue.add(place)

    def _gone(self, uid: str, target: Target) -> None:
        if self._places.get(uid) == target:
            del self._places[uid]
        # That the owner is gone from a cache is a hint; the server has the last word.
        self._queue_dependents(uid)

    def _queue_dependents(self, uid: str) -> None:
        for dependent in self._dependents.get(uid, ()):
            self.queue.add(dependent)

    def _remember_absent(self, uid: str) -> None:
        self._absent[uid] = None
        while len(self._absent) > ABSENT_REMEMBERED_MAX:
            del self._absent[next(iter(self._absent))]

    def _object(self, target: Target) -> Object | None:
        if not self._context.caches.has(target.resource):
            return None
        return self._context.get(target.resource, target.key)

    async def reconcile(self, target: Target) -> float | None:
        obj = self._object(target)
        if obj is None:
            self._puzzling.pop(target, None)
            return None
        owners: dict[str, garbage.OwnerState] = {}
        if not o.deleting(obj):
            for reference in garbage.references(obj):
                state = await self._owner_state(target, reference)
                if state is None:
                    self._puzzling[target] = None
                else:
                    owners[str(reference.get("uid"))] = state
        dependents = [
            (place.resource, dependent)
            for place in self._dependents.get(o.uid(obj), ())
            if (dependent := self._object(place)) is not None
        ]
        try:
            await self._executor.perform(garbage.plan(target.resource, obj, owners, dependents))
        except NotFoundError:
            # It went by itself.
            return None
        return None

    async def _owner_state(self, target: Target, reference: Raw) -> garbage.OwnerState | None:
        """None where the owner's kind is unknown: then nothing may be deleted."""
        uid = str(reference.get("uid"))
        if uid in self._absent:
            return "absent"
        place = self._places.get(uid)
        if place is not None:
            outside = place.key.namespace and place.key.namespace != target.key.namespace
            if outside and target.key.namespace:
                # An owner in another namespace is no owner, whatever its uid.
                return "absent"
            return garbage.state_of(self._object(place))
        await self._inventory.known.wait()
        resource = self._inventory.resolve(
            str(reference.get("apiVersion")), str(reference.get("kind"))
        )
        if resource is None or (resource.namespaced and not target.key.namespace):
            return None
        namespace = target.key.namespace if resource.namespaced else None
        try:
            owner = await self._context.client.get(resource, str(reference.get("name")), namespace)
        except NotFoundError:
            owner = None
        if owner is None or o.uid(owner) != uid:
            self._remember_absent(uid)
            return "absent"
        return garbage.state_of(owner)


def _owner_uids(obj: Raw | None) -> set[str]:
    return set() if obj is None else {str(ref.get("uid")) for ref in garbage.references(obj)}


def controller(context: Context, inventory: Inventory) -> Controller:
    """The collector as a controller."""
    collector = Collector(context, inventory)
    return Controller("garbage", collector.queue, collector.reconcile)
