"""Follows the objects of one kind that refer to a pool, in both groups that the kind lives in.

The pump tells all objects to a judge after each change and writes what it thinks of them. A group
that the cluster does not have counts as no objects.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeAlias, TypeVar

from inferway.api.codec import Object
from inferway.api.resources import ResourceType
from inferway.cluster.client import KubeClient
from inferway.cluster.informer import Informer
from inferway.cluster.store import Key
from inferway.picker.verdicts import Complaint, Judged, StatusWriter

_log = logging.getLogger(__name__)

T = TypeVar("T", bound=Judged)
# What is wrong with each object of the pool, by group and name; others are none of it.
Verdicts: TypeAlias = Mapping[tuple[str, str], Sequence[Complaint]]


class PoolObjects(Generic[T]):
    """One kind for one pool. ``synced`` is set when both groups were listed once."""

    def __init__(
        self,
        client: KubeClient,
        namespace: str,
        kinds: Sequence[ResourceType],
        decode: Callable[[Object], T],
        judge: Callable[[Sequence[tuple[str, T]]], Verdicts],
        statuses: StatusWriter,
    ) -> None:
        """``judge`` is given group and object, and makes use of them."""
        self._what = kinds[0].plural
        self._judge = judge
        self._changed = asyncio.Event()
        self._verdicts: Verdicts = {}
        self._told = asyncio.Event()
        self._statuses = statuses
        self.synced = asyncio.Event()
        self._informers: list[Informer[T]] = [
            Informer(client, kind, decode=decode, namespace=namespace, optional=True)
            for kind in kinds
        ]

    async def run(self) -> None:
        """Works until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for informer in self._informers:
                informer.subscribe(self._note)
                tasks.create_task(informer.run(), name=f"watch {informer.resource.plural}")
            for informer in self._informers:
                await informer.synced.wait()
            tasks.create_task(self._write_statuses(), name=f"statuses of {self._what}")
            while True:
                self._changed.clear()
                self._tell()
                self.synced.set()
                await self._changed.wait()

    def _tell(self) -> None:
        objects = [
            (informer.resource.group, one)
            for informer in self._informers
            for one in informer.store.values()
        ]
        verdicts = self._judge(objects)
        said = {name: [one.text for one in found] for (_, name), found in verdicts.items() if found}
        if verdicts != self._verdicts and said:
            _log.warning(self._what, extra={"data": said})
        self._verdicts = verdicts
        self._told.set()

    async def _write_statuses(self) -> None:
        while True:
            await self._told.wait()
            self._told.clear()
            verdicts = self._verdicts
            for informer in self._informers:
                for found in list(informer.store.values()):
                    name = informer.resource.group, found.metadata.name
                    complaints = verdicts.get(name)
                    if complaints is not None:
                        await self._statuses.write(informer.resource, found, complaints)

    def _note(self, key: Key) -> None:
        self._changed.set()
