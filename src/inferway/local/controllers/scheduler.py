"""Binds Pods to nodes, and tries again when a node or a Pod changes.

The pump around ``scheduling.choose``. One worker: two Pods must not be promised the same room.
"""

from __future__ import annotations

from inferway.api.resources import NODES, PODS
from inferway.cluster.client import Object
from inferway.cluster.errors import ConflictError
from inferway.cluster.store import Change, Key
from inferway.cluster.workqueue import WorkQueue
from inferway.local.controllers import objects as o
from inferway.local.controllers.actions import Executor, Note, Patch
from inferway.local.controllers.objects import Raw
from inferway.local.controllers.requests import Amounts, of_pod
from inferway.local.controllers.runtime import Context, Controller
from inferway.local.controllers.scheduling import Choice, choose, room

SCHEDULER_NAME = "default-scheduler"
_BY_NODE = "node"


def waits(pod: Object) -> bool:
    """Whether a Pod wants a node from this scheduler."""
    spec = o.spec(pod)
    return (
        not spec.get("nodeName")
        and not spec.get("schedulingGates")
        and (spec.get("schedulerName") or SCHEDULER_NAME) == SCHEDULER_NAME
        and o.pod_active(pod)
    )


class Scheduler:
    """Keeps which Pods wait in vain, and which bindings the cache does not show yet."""

    def __init__(self, context: Context) -> None:
        self.queue: WorkQueue[Key] = WorkQueue("scheduler")
        self._context = context
        self._executor: Executor = context.executor(SCHEDULER_NAME)
        self._in_vain: dict[Key, None] = {}
        self._assumed: dict[str, tuple[str, Object]] = {}
        # What each Pod asks for, because every choice sums up all of them.
        self._asked: dict[str, Amounts] = {}
        pods = context.caches.of(PODS)
        pods.store.add_indexer(_BY_NODE, _node_names)
        pods.subscribe_changes(self._pod_changed)
        context.caches.of(NODES).subscribe_changes(self._node_changed)

    def _requests_of(self, pod: Raw) -> Amounts:
        uid = o.uid(pod)
        if uid not in self._asked:
            self._asked[uid] = of_pod(pod)
        return self._asked[uid]

    def _pod_changed(self, change: Change[Object]) -> None:
        if change.old is not None and (change.new is None or _asks(change.old, change.new)):
            self._asked.pop(o.uid(change.old), None)
        if change.new is not None and waits(change.new):
            # A status that the scheduler wrote itself is no reason to try again.
            if change.old is None or not waits(change.old) or _asks(change.old, change.new):
                self.queue.add(change.key)
            return
        self._in_vain.pop(change.key, None)
        if change.new is not None and o.spec(change.new).get("nodeName"):
            self._assumed.pop(o.uid(change.new), None)
        if change.new is None and change.old is not None:
            self._assumed.pop(o.uid(change.old), None)
        if change.new is None or o.pod_finished(change.new):
            self._retry()

    def _node_changed(self, change: Change[Object]) -> None:
        def matters(node: Object | None) -> object:
            return node and (o.spec(node), o.labels(node), o.status(node).get("allocatable"))

        if matters(change.old) != matters(change.new):
            self._retry()

    def _retry(self) -> None:
        waiting, self._in_vain = self._in_vain, {}
        for key in waiting:
            self.queue.add(key)

    async def reconcile(self, key: Key) -> float | None:
        pod = self._context.get(PODS, key)
        if pod is None or not waits(pod) or o.uid(pod) in self._assumed:
            return None
        choice = self._choose(pod)
        if choice.node:
            await self._bind(pod, choice.node)
        else:
            self._in_vain[key] = None
            await self._refuse(pod, choice.message)
        return None

    def _choose(self, pod: Object) -> Choice:
        nodes = self._context.caches.of(NODES).store
        bound = self._context.caches.of(PODS).store
        rooms = []
        for node in nodes.values():
            name = o.name(node)
            assumed = [p for where, p in self._assumed.values() if where == name]
            on_it = [*bound.by(_BY_NODE, name), *assumed]
            rooms.append(room(node, on_it, self._requests_of))
        return choose(pod, rooms)

    async def _bind(self, pod: Object, node: str) -> None:
        key = Key(o.namespace(pod), o.name(pod))
        self._assumed[o.uid(pod)] = (node, pod)
        try:
            await self._context.client.request(
                "POST",
                PODS.path(key.namespace, key.name) + "/binding",
                {
                    "apiVersion": "v1",
                    "kind": "Binding",
                    "metadata": {"name": key.name, "namespace": key.namespace, "uid": o.uid(pod)},
                    "target": {"apiVersion": "v1", "kind": "Node", "name": node},
                },
            )
        except ConflictError:
            # Bound by someone else: the cache is about to say so.
            self._assumed.pop(o.uid(pod), None)
            return
        except BaseException:
            self._assumed.pop(o.uid(pod), None)
            raise
        current = self._context.get(PODS, key)
        if current is None or o.spec(current).get("nodeName"):
            self._assumed.pop(o.uid(pod), None)
        message = f"Successfully assigned {key} to {node}"
        await self._executor.perform([Note(pod, "Normal", "Scheduled", message)])

    async def _refuse(self, pod: Object, message: str) -> None:
        note = Note(pod, "Warning", "FailedScheduling", message)
        new = {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": message,
        }
        before = o.condition(pod, "PodScheduled") or {}
        if all(before.get(k) == v for k, v in new.items()):
            await self._executor.perform([note])
            return
        now = self._context.now()
        conditions = o.with_condition(o.status(pod).get("conditions") or (), new, now)
        patch = {"status": {"phase": "Pending", "conditions": conditions}}
        await self._executor.perform([note, Patch(PODS, pod, patch, subresource="status")])


def _node_names(pod: Object) -> tuple[str, ...]:
    node = o.spec(pod).get("nodeName")
    return (str(node),) if node else ()


def _asks(old: Object, new: Object) -> bool:
    return o.spec(old) != o.spec(new) or o.uid(old) != o.uid(new)


def controller(context: Context) -> Controller:
    """The scheduler as a controller with one worker."""
    scheduler = Scheduler(context)
    return Controller("scheduler", scheduler.queue, scheduler.reconcile, workers=1)
