"""The watcher against the real embedded API server: a pool and its Pods come, change and go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inferway.api.resources import INFERENCE_POOLS, PODS
from inferway.cluster import kubeconfig
from inferway.cluster.client import KubeClient
from inferway.cluster.store import Key
from inferway.local.apiserver.server import ApiServer, ApiServerOptions
from inferway.picker.watch import PoolWatcher
from inferway.scheduling.snapshot import Endpoint

pytestmark = [
    pytest.mark.slow,
    # How the server sets its shutdown time is tested in its own room.
    pytest.mark.filterwarnings("ignore:shutdown_timeout should be set:DeprecationWarning"),
]

POOL: dict[str, Any] = {
    "apiVersion": "inference.networking.k8s.io/v1",
    "kind": "InferencePool",
    "metadata": {"name": "p", "namespace": "default"},
    "spec": {
        "selector": {"matchLabels": {"app": "x"}},
        "targetPorts": [{"number": 8000}],
        "endpointPickerRef": {"name": "epp", "port": {"number": 9002}},
    },
}
DEADLINE_SECONDS = 10.0


def pod(name: str, **labels: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": labels},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }


class Told:
    """The last endpoints that were told, and a way to wait for some."""

    def __init__(self) -> None:
        self.addresses: list[str] | None = None
        self._waiters: list[asyncio.Event] = []

    def apply(self, endpoints: list[Endpoint]) -> None:
        self.addresses = [endpoint.address for endpoint in endpoints]
        for waiter in self._waiters:
            waiter.set()

    async def until(self, holds: Callable[[list[str] | None], bool]) -> None:
        changed = asyncio.Event()
        self._waiters.append(changed)
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not holds(self.addresses):
                changed.clear()
                await changed.wait()


async def make_ready(client: KubeClient, name: str, ip: str, ready: str = "True") -> None:
    status = {"podIP": ip, "conditions": [{"type": "Ready", "status": ready}]}
    await client.patch(PODS, name, {"status": status}, "default", subresource="status")


async def test_a_pools_life(tmp_path: Path) -> None:
    told = Told()
    async with (
        ApiServer(ApiServerOptions(state=tmp_path, port=0)) as server,
        KubeClient(kubeconfig.load(server.kubeconfig)) as client,
        asyncio.TaskGroup() as tasks,
    ):
        watcher = PoolWatcher(
            client, Key("default", "p"), "inference.networking.k8s.io", told.apply
        )
        work = tasks.create_task(watcher.run())
        await told.until(lambda addresses: addresses == [])
        assert watcher.problem == "InferencePool default/p does not exist"
        await client.create(PODS, pod("a", app="x"))
        await client.create(PODS, pod("b", app="x"))
        await client.create(PODS, pod("c", app="y"))
        for name, ip in (("a", "10.0.0.1"), ("b", "10.0.0.2"), ("c", "10.0.0.3")):
            await make_ready(client, name, ip)
        await client.create(INFERENCE_POOLS, POOL)
        await told.until(lambda addresses: addresses == ["10.0.0.1:8000", "10.0.0.2:8000"])
        assert watcher.problem == ""
        await make_ready(client, "a", "10.0.0.1", "False")
        await told.until(lambda addresses: addresses == ["10.0.0.2:8000"])
        ports = {"spec": {"targetPorts": [{"number": 9000}]}}
        await client.patch(INFERENCE_POOLS, "p", ports, "default")
        await told.until(lambda addresses: addresses == ["10.0.0.2:9000"])
        other = {"spec": {"selector": {"matchLabels": {"app": "y"}}}}
        await client.patch(INFERENCE_POOLS, "p", other, "default")
        await told.until(lambda addresses: addresses == ["10.0.0.3:9000"])
        await client.delete(PODS, "c", "default", grace_seconds=0)
        await told.until(lambda addresses: addresses == [])
        await client.delete(INFERENCE_POOLS, "p", "default")
        await told.until(lambda addresses: "does not exist" in watcher.problem)
        work.cancel()
