"""Follows one InferencePool and its Pods, and tells the endpoints after each change.

A pump around ``endpoints``: level-based, so each telling is the whole list.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from inferway.api.resources import INFERENCE_POOLS, PODS, ResourceType
from inferway.cluster.client import KubeClient
from inferway.cluster.informer import Informer
from inferway.cluster.store import Key
from inferway.picker.endpoints import (
    LEGACY_GROUP,
    Pod,
    Pool,
    decode_pod,
    decode_pool,
    endpoints_at,
    endpoints_of,
)
from inferway.scheduling.snapshot import Endpoint


class PoolWatcher:
    """One pool. ``problem`` says why it has no endpoints to tell, or nothing.

    ``annotated`` is told the pool's annotations before each telling of endpoints.
    """

    def __init__(
        self,
        client: KubeClient,
        key: Key,
        group: str,
        apply: Callable[[list[Endpoint]], None],
        annotated: Callable[[Mapping[str, str]], None] | None = None,
    ) -> None:
        self._client = client
        self._key = key
        self._resource = pool_resource(group)
        self._apply = apply
        self._annotated = annotated
        self._changed = asyncio.Event()
        self.problem = "the InferencePool has not been read yet"

    async def run(self) -> None:
        """Works until cancelled."""
        pools: Informer[Pool] = Informer(
            self._client,
            self._resource,
            decode=decode_pool,
            namespace=self._key.namespace,
            fields=f"metadata.name={self._key.name}",
        )
        pools.subscribe(self._note)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(pools.run(), name="watch pool")
            await pools.synced.wait()
            while True:
                self._changed.clear()
                pool = pools.store.get(self._key)
                if pool is None:
                    broken = pools.broken.get(self._key)
                    where = f"InferencePool {self._key.namespace}/{self._key.name}"
                    self.problem = f"{where} {broken or 'does not exist'}"
                    self._apply([])
                    await self._changed.wait()
                else:
                    await self._follow(pools, pool.selector)

    async def _follow(self, pools: Informer[Pool], selector: str) -> None:
        """Tells endpoints until the pool selects other Pods or is gone."""
        pods: Informer[Pod] = Informer(
            self._client,
            PODS,
            decode=decode_pod,
            namespace=self._key.namespace,
            labels=selector,
        )
        pods.subscribe(self._note)
        async with asyncio.TaskGroup() as tasks:
            work = [
                tasks.create_task(pods.run(), name="watch pods"),
                tasks.create_task(self._note_synced(pods), name="wait for pods"),
            ]
            try:
                while True:
                    self._changed.clear()
                    pool = pools.store.get(self._key)
                    if pool is None or pool.selector != selector:
                        return
                    if pods.synced.is_set():
                        self.problem = ""
                        if self._annotated is not None:
                            self._annotated(pool.metadata.annotations or {})
                        self._apply(endpoints_of(pool, pods.store.values()))
                    await self._changed.wait()
            finally:
                for task in work:
                    task.cancel()

    async def _note_synced(self, pods: Informer[Pod]) -> None:
        await pods.synced.wait()
        self._changed.set()

    def _note(self, key: Key) -> None:
        self._changed.set()


class SelectorWatcher:
    """Pods by label, where there is no InferencePool. ``problem`` is as above."""

    def __init__(
        self,
        client: KubeClient,
        namespace: str,
        selector: str,
        ports: Sequence[int],
        apply: Callable[[list[Endpoint]], None],
    ) -> None:
        self._pods: Informer[Pod] = Informer(
            client, PODS, decode=decode_pod, namespace=namespace, labels=selector
        )
        self._ports = ports
        self._apply = apply
        self._changed = asyncio.Event()
        self.problem = "the Pods have not been read yet"

    async def run(self) -> None:
        """Works until cancelled."""
        self._pods.subscribe(lambda key: self._changed.set())
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._pods.run(), name="watch pods")
            await self._pods.synced.wait()
            self.problem = ""
            while True:
                self._changed.clear()
                self._apply(endpoints_at(self._ports, self._pods.store.values()))
                await self._changed.wait()


def pool_resource(group: str) -> ResourceType:
    """The pool's kind in its group; the older group has another version."""
    if group == LEGACY_GROUP:
        return ResourceType(group, "v1alpha2", "InferencePool", "inferencepools")
    return INFERENCE_POOLS
