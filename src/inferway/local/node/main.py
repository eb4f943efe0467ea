"""The node: registers itself, takes the Pods that are bound to it, and ends them when it ends.

``run(client, options)`` works until it is cancelled. It knows the API as a client only, so it is
the node of a real control plane too.
"""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from inferway.api.resources import CONFIG_MAPS, PODS, SECRETS, SERVICE_ACCOUNTS, SERVICES
from inferway.base.errors import InferwayError
from inferway.cluster.client import KubeClient
from inferway.cluster.events import EventRecorder
from inferway.cluster.informer import Informer
from inferway.cluster.store import Key
from inferway.local.node import capacity, pickmodule
from inferway.local.node.addresses import PodAddresses
from inferway.local.node.containing import remove_leftovers, require_engine
from inferway.local.node.face import Face
from inferway.local.node.imagewatch import watch_images
from inferway.local.node.limits import detect_limits
from inferway.local.node.options import NodeOptions
from inferway.local.node.parts import (
    Caches,
    ChangeBell,
    NodeParts,
    SteadyClock,
    image_keeper,
    needed_port_offset,
    this_machine,
)
from inferway.local.node.placing import SHARED_MEMORY, memory_prefix
from inferway.local.node.prober import Prober
from inferway.local.node.registration import Registration
from inferway.local.node.sandboxes import Isolation, Launcher
from inferway.local.node.services import ServiceForwarding
from inferway.local.node.state import PodRecords, clear_folders, clear_logs
from inferway.local.node.worker import PodWorker

_log = logging.getLogger(__name__)
Object = dict[str, Any]


async def run(client: KubeClient, options: NodeOptions) -> None:
    """Runs the node until cancelled, then ends its Pods. Raises UsageError for bad options."""
    options.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    keeper = image_keeper(options)
    claimed = capacity.read_capacity(options.capacity, capacity.machine_capacity(options.state))
    records = PodRecords(options.state / "records")
    leftovers = records.end_leftovers()
    if leftovers:
        _log.warning("ended Pods of an earlier node", extra={"data": {"pods": leftovers}})
    clear_folders(options.state, SHARED_MEMORY, memory_prefix(options.state))
    async with Launcher() as launcher, Prober() as prober, asyncio.TaskGroup() as group:
        isolation = await _isolation(launcher, options)
        machine = this_machine(options)
        await require_engine(options.runtime, machine)
        await remove_leftovers(options.state, machine)
        module = await pickmodule.detect(machine.programs.find("envoy"), machine.environment)
        caches = Caches(
            Informer(client, CONFIG_MAPS),
            Informer(client, SECRETS),
            Informer(client, SERVICES),
            Informer(client, SERVICE_ACCOUNTS),
        )
        pods: Informer[Object] = Informer(client, PODS, fields=f"spec.nodeName={options.name}")
        server = urlsplit(client.config.server)
        parts = NodeParts(
            options=options,
            client=client,
            launcher=launcher,
            isolation=isolation,
            images=keeper,
            addresses=PodAddresses(options.network),
            events=EventRecorder(client, "kubelet", host=options.name),
            caches=caches,
            prober=prober,
            machine=dataclasses.replace(machine, pick_module=module.folder),
            pick_module=module,
            allocatable=capacity.amounts(claimed),
            api_server=(server.hostname or "", str(server.port or 443)),
            port_offset=needed_port_offset(options.host_ip),
            changes=ChangeBell(),
            steady=SteadyClock(),
            limits=detect_limits(),
        )
        node = Node(parts, records, pods, group)
        face = Face(options, node, client.config.ca)
        try:
            async with _listening(face, options):
                await node.run(Registration(parts, claimed, face.port))
        finally:
            parts.limits.close()


@asynccontextmanager
async def _listening(face: Face, options: NodeOptions) -> AsyncIterator[None]:
    try:
        async with face.serving():
            yield
    except OSError as error:
        if error.errno not in {errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES}:
            raise
        raise InferwayError(
            "INFERWAY0208",
            f"the node cannot listen: {error.strerror}",
            about=f"{options.host_ip}:{options.kubelet_port}",
            fix="End the program that listens there, or let the stack choose other addresses.",
        ) from None


async def _isolation(launcher: Launcher, options: NodeOptions) -> Isolation:
    if options.host_only:
        return Isolation("none", reason="switched off")
    found = await launcher.detect()
    if found.level == "none":
        _log.warning("Pods share this machine's network", extra={"data": {"why": found.reason}})
    return found


class Node:
    """The Pods of this node; ``group`` owns all tasks."""

    def __init__(
        self,
        parts: NodeParts,
        records: PodRecords,
        pods: Informer[Object],
        group: asyncio.TaskGroup,
    ) -> None:
        self.workers: dict[str, PodWorker] = {}
        self._parts = parts
        self._records = records
        self._pods = pods
        self._group = group
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def run(self, registration: Registration) -> None:
        """Works until cancelled."""
        parts = self._parts
        shared = parts.caches
        caches = (shared.config_maps, shared.secrets, shared.services, shared.accounts)
        background = [
            self._group.create_task(cache.run(), name=f"{cache.resource.plural} cache")
            for cache in (*caches, self._pods)
        ]
        background.append(self._group.create_task(parts.events.run(), name="events"))
        background.append(self._group.create_task(registration.run(), name="registration"))
        forwarding = ServiceForwarding(
            parts.client, parts.launcher, parts.caches.services, parts.options.network
        )
        background += [
            self._group.create_task(forwarding.slices.run(), name="endpointslices cache"),
            self._group.create_task(forwarding.run(), name="services"),
        ]
        background.append(
            self._group.create_task(watch_images(parts, self._images_changed), name="image table")
        )
        for cache in caches:
            cache.subscribe(lambda _: parts.changes.ring())
        try:
            for informer in caches:
                await informer.synced.wait()
            await self._pods.synced.wait()
            self._claim_addresses()
            uids = {str(raw["metadata"]["uid"]) for raw in self._pods.store.values()}
            clear_logs(parts.options.state, uids)
            self._pods.subscribe(self._look)
            await asyncio.get_running_loop().create_future()
        finally:
            await self._end_pods()
            for task in background:
                task.cancel()

    def _images_changed(self) -> None:
        for worker in list(self.workers.values()):
            worker.images_changed()

    # The kubelet face's directory.

    def pods(self) -> list[Object]:
        """All Pods of this node as the API has them."""
        return list(self._pods.store.values())

    def log_of(self, namespace: str, pod: str, container: str, *, previous: bool) -> Path | str:
        """The log file of a container, or in a kubelet's words why there is none."""
        raw = self._pods.store.get(Key(namespace, pod))
        if raw is None:
            return f'pod "{pod}" in namespace "{namespace}" does not exist'
        uid = str(raw["metadata"]["uid"])
        folder = self._parts.options.state / "logs" / f"{namespace}_{pod}_{uid}" / container
        worker = self.workers.get(uid)
        if worker is not None and container not in worker.container_names:
            return f"container {container} is not valid for pod {pod}"
        runs = sorted(
            (path for path in folder.glob("*.log") if path.stem.isdigit()),
            key=lambda path: int(path.stem),
        )
        count = worker.restart_count(container) if worker is not None else None
        if previous:
            older = [path for path in runs if count is None or int(path.stem) < count]
            if count is None:
                older = older[:-1]
            if not older:
                return f'previous terminated container "{container}" in pod "{pod}" not found'
            return older[-1]
        if not runs:
            return f'container "{container}" in pod "{pod}" is waiting to start: ' + (
                worker.waiting_reason(container) if worker is not None else "no logs are kept"
            )
        return runs[-1]

    def runs(self, namespace: str, pod: str, container: str) -> bool:
        """A process writes to the latest log."""
        raw = self._pods.store.get(Key(namespace, pod))
        worker = self.workers.get(str(raw["metadata"]["uid"])) if raw is not None else None
        return worker is not None and worker.is_running(container)

    def _claim_addresses(self) -> None:
        """Pods keep their addresses over a restart of the node."""
        for raw in self._pods.store.values():
            address = (raw.get("status") or {}).get("podIP")
            if address and not _is_over(raw):
                self._parts.addresses.claim(str(raw["metadata"]["uid"]), str(address))

    def _look(self, key: Key) -> None:
        raw = self._pods.store.get(key)
        uid = str(raw["metadata"]["uid"]) if raw is not None else ""
        for worker in list(self.workers.values()):
            meta = worker.raw["metadata"]
            if (meta["namespace"], meta["name"]) == key and worker.uid != uid:
                # The object is gone: what still runs has lost its right to.
                worker.gone = True
                worker.end(0.0, keep_object=True)
        if raw is None:
            return
        known = self.workers.get(uid)
        if known is not None:
            known.update(raw)
            self._parts.changes.ring()
        elif not _is_over(raw) or raw["metadata"].get("deletionTimestamp"):
            self._begin(uid, raw)

    def _begin(self, uid: str, raw: Object) -> None:
        try:
            worker = PodWorker(self._parts, self._records, raw)
        except ValueError as error:
            _log.warning("a Pod cannot be read", extra={"data": {"uid": uid, "error": str(error)}})
            return
        self.workers[uid] = worker
        task = self._group.create_task(_guarded(worker), name=f"pod {uid}")
        self._tasks[uid] = task
        task.add_done_callback(lambda _: self._forget(uid))

    def _forget(self, uid: str) -> None:
        self.workers.pop(uid, None)
        self._tasks.pop(uid, None)

    async def _end_pods(self) -> None:
        """All at once; what does not end in time is killed with its sandbox."""
        tasks = list(self._tasks.values())
        for worker in self.workers.values():
            worker.end(self._parts.options.end_seconds, keep_object=True)
        if tasks:
            await asyncio.wait(tasks, timeout=self._parts.options.end_seconds + 2.0)
        for task in tasks:
            task.cancel()


async def _guarded(worker: PodWorker) -> None:
    """One Pod's trouble is not the node's."""
    try:
        await worker.run()
    except Exception:
        _log.exception("a Pod's worker failed", extra={"data": {"uid": worker.uid}})


def _is_over(raw: Object) -> bool:
    return (raw.get("status") or {}).get("phase") in {"Succeeded", "Failed"}
