"""A real embedded API server with the real controllers, and a node that only says ready."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from inferway.api.resources import NODES, PODS
from inferway.base.clock import rfc3339
from inferway.cluster import kubeconfig
from inferway.cluster.client import KubeClient, Object
from inferway.cluster.informer import Informer
from inferway.cluster.store import Key
from inferway.local.apiserver.server import ApiServer, ApiServerOptions
from inferway.local.controllers import main
from inferway.local.controllers import objects as o

DEADLINE_SECONDS = 5.0


class Cluster:
    """The client of a running cluster, with live copies to wait on."""

    def __init__(self, client: KubeClient, group: asyncio.TaskGroup, server: ApiServer) -> None:
        self.client = client
        self.server = server
        self._group = group
        self._informers: dict[Any, Informer[Object]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._changed = asyncio.Event()

    def of(self, resource: Any) -> Informer[Object]:
        if resource not in self._informers:
            informer: Informer[Object] = Informer(self.client, resource, optional=True)
            informer.subscribe(lambda _: self._changed.set())
            self._informers[resource] = informer
            self.start(informer.run())
        return self._informers[resource]

    def start(self, work: Any) -> asyncio.Task[None]:
        task = self._group.create_task(work)
        self._tasks.append(task)
        return task

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def until(self, what: str, true: Callable[[], object]) -> None:
        """Waits for a change that makes ``true`` true."""
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                while not true():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            state = {r.plural: dict(i.store) for r, i in self._informers.items()}
            raise AssertionError(f"expected {what}; there is {state}") from None

    async def all(self, resource: Any) -> list[Object]:
        informer = self.of(resource)
        await informer.synced.wait()
        return list(informer.store.values())

    def live(self, resource: Any, namespace: str = "default") -> list[Object]:
        return [v for k, v in self.of(resource).store.items() if k.namespace == namespace]

    async def node(self, name: str = "node", **allocatable: str) -> None:
        """Adds a node that makes each Pod that is bound to it ready, and ends deleted ones."""
        amounts = {"cpu": "4", "memory": "8Gi", "pods": "110", **allocatable}
        body = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": {}}
        await self.client.create(NODES, body)
        status = {
            "allocatable": amounts,
            "capacity": amounts,
            "conditions": [{"type": "Ready", "status": "True"}],
        }
        await self.client.patch(NODES, name, {"status": status}, subresource="status")
        pods = self.of(PODS)
        queue: asyncio.Queue[Key] = asyncio.Queue()
        pods.subscribe(queue.put_nowait)

        async def keep() -> None:
            number = 0
            while True:
                key = await queue.get()
                pod = pods.store.get(key)
                if pod is None or o.spec(pod).get("nodeName") != name:
                    continue
                if o.deleting(pod):
                    await self.client.delete(PODS, key.name, key.namespace, grace_seconds=0)
                elif not o.status(pod).get("podIP"):
                    number += 1
                    await self.client.patch(
                        PODS, key.name, ready_status(number), key.namespace, subresource="status"
                    )

        self.start(keep())


def ready_status(number: int) -> Object:
    now = rfc3339(1_800_000_000)
    return {
        "status": {
            "phase": "Running",
            "podIP": f"127.77.1.{number}",
            "conditions": [
                {"type": "PodScheduled", "status": "True", "lastTransitionTime": now},
                {"type": "Ready", "status": "True", "lastTransitionTime": now},
            ],
        }
    }


@asynccontextmanager
async def restarted(stack: Cluster) -> AsyncIterator[None]:
    """Stops the API server and starts it again on the same state and port."""
    options = replace(stack.server.options, port=stack.server.port)
    await stack.server.__aexit__(None, None, None)
    async with ApiServer(options):
        yield


@asynccontextmanager
async def cluster(state: Path, options: Any = None) -> AsyncIterator[Cluster]:
    async with (
        ApiServer(ApiServerOptions(state=state, port=0)) as server,
        KubeClient(kubeconfig.load(server.kubeconfig)) as client,
        asyncio.TaskGroup() as group,
    ):
        running = Cluster(client, group, server)
        started = asyncio.Event()
        running.start(main.run(client, options, started=started))
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                await started.wait()
            yield running
        finally:
            running.stop()
