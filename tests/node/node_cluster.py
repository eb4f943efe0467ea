"""A small cluster for tests of the node: embedded API server, controllers, node, one loop."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from inferway.api.resources import EVENTS, PODS, SERVICE_ACCOUNTS, ResourceType
from inferway.cluster import kubeconfig
from inferway.cluster.client import KubeClient
from inferway.cluster.errors import NotFoundError
from inferway.cluster.informer import Informer
from inferway.cluster.store import Key
from inferway.local.apiserver.server import ApiServer, ApiServerOptions
from inferway.local.controllers import main as controllers
from inferway.local.controllers.runtime import ControllerOptions
from inferway.local.node import main as node
from inferway.local.node.options import NodeOptions

Object = dict[str, Any]
SECONDS_MAX = 20.0
# Two bytes for each test process, so that tests can run side by side; stacks begin at 77.
_NETWORKS = itertools.count()


def free_network() -> str:
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    return f"127.{200 + 8 * (worker % 6) + next(_NETWORKS) % 8}"


async def eventually(check: Callable[[], Any], seconds: float = SECONDS_MAX) -> Any:
    """The first true answer of ``check``, which may be a coroutine function."""
    never = asyncio.Event()
    loop = asyncio.get_running_loop()
    ends = loop.time() + seconds
    while True:
        answer = check()
        if isinstance(answer, Awaitable):
            answer = await answer
        if answer:
            return answer
        assert loop.time() < ends, f"{check} stayed {answer!r} for {seconds} s"
        try:
            async with asyncio.timeout(0.02):
                await never.wait()
        except TimeoutError:
            continue


class Cluster:
    """The running parts and some shortcuts."""

    def __init__(self, client: KubeClient, state: Path, network: str, kubeconfig: Path) -> None:
        self.client = client
        self.state = state
        self.network = network
        self.kubeconfig = kubeconfig
        self.pods: Informer[Object] = Informer(client, PODS)
        self.node_task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self.pods.subscribe(lambda _: self._changed.set())

    async def create_pod(self, name: str, spec: Object, **metadata: Any) -> Object:
        meta = {"name": name, "namespace": "default", **metadata}
        return await self.client.create(
            PODS, {"metadata": meta, "spec": {"nodeName": "inferway", **spec}}
        )

    async def pod_until(
        self, name: str, check: Callable[[Object], Any], seconds: float = SECONDS_MAX
    ) -> Object:
        """The Pod when it fits; fails with its status when it does not in time."""
        try:
            async with asyncio.timeout(seconds):
                while True:
                    self._changed.clear()
                    pod = self.pods.store.get(Key("default", name))
                    if pod is not None and check(pod):
                        return pod
                    await self._changed.wait()
        except TimeoutError:
            pod = self.pods.store.get(Key("default", name)) or {}
            raise AssertionError(f"Pod {name} stayed: {pod.get('status')}") from None

    async def pod_gone(self, name: str) -> None:
        await eventually(lambda: Key("default", name) not in self.pods.store)

    async def gone(self, resource: ResourceType, name: str) -> bool:
        try:
            await self.client.get(resource, name, "default")
        except NotFoundError:
            return True
        return False

    def logs(self, pod: Object, container: str, run: int = 0) -> str:
        meta = pod["metadata"]
        folder = self.state / "node/logs" / f"default_{meta['name']}_{meta['uid']}"
        path = folder / container / f"{run}.log"
        return path.read_text() if path.exists() else ""

    def said(self, pod: Object, container: str, run: int = 0) -> list[str]:
        """The lines of a log without their heads."""
        return [line.split(" ", 3)[3] for line in self.logs(pod, container, run).splitlines()]


def ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def phase(wanted: str) -> Callable[[Object], bool]:
    return lambda pod: (pod.get("status") or {}).get("phase") == wanted


def container_state(pod: Object, name: str) -> Object:
    status = pod.get("status") or {}
    rows = [*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())]
    return next((row for row in rows if row["name"] == name), {})


def waiting_for(container: str, reason: str) -> Callable[[Object], bool]:
    """For ``pod_until``."""
    return lambda pod: (
        container_state(pod, container).get("state", {}).get("waiting", {}).get("reason") == reason
    )


async def events_of(stack: Cluster, pod: str) -> list[tuple[str, str]]:
    """Reason and message of each Event of a Pod."""
    found = await stack.client.list(EVENTS, "default")
    return [
        (event["reason"], event["message"])
        for event in found.items
        if event["involvedObject"]["name"] == pod
    ]


def shell(script: str, **more: Any) -> Object:
    return {"name": "main", "image": "busybox:1.36", "command": ["sh", "-c", script], **more}


@asynccontextmanager
async def cluster(folder: Path, **options: Any) -> AsyncIterator[Cluster]:
    network = free_network()
    config = folder / "kubeconfig"
    server = ApiServerOptions(
        state=folder / "api", address=f"{network}.0.1", port=0, kubeconfig=config
    )
    async with (
        ApiServer(server),
        KubeClient(kubeconfig.load(config)) as client,
        asyncio.TaskGroup() as group,
    ):
        found = Cluster(client, folder, network, config)
        settings = NodeOptions(state=folder / "node", network=network, **options)
        found.node_task = group.create_task(node.run(client, settings))
        tasks = [
            found.node_task,
            group.create_task(found.pods.run()),
            group.create_task(controllers.run(client, ControllerOptions.for_stack(network))),
        ]
        await eventually(lambda: _has_account(client))
        yield found
        for task in tasks:
            task.cancel()


@asynccontextmanager
async def held_cluster(folder: Path, **options: Any) -> AsyncIterator[Cluster]:
    """As ``cluster``, for fixtures, whose two halves run in different tasks."""
    box: list[Cluster] = []
    started, stop = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        try:
            async with cluster(folder, **options) as found:
                box.append(found)
                started.set()
                await stop.wait()
        finally:
            started.set()

    task = asyncio.ensure_future(hold())
    await started.wait()
    try:
        if box:
            yield box[0]
    finally:
        stop.set()
        await task


async def _has_account(client: KubeClient) -> bool:
    try:
        await client.get(SERVICE_ACCOUNTS, "default", "default")
    except NotFoundError:
        return False
    return True
