"""The client and its helpers against the real embedded API server, over TLS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from inferway.api.resources import CONFIG_MAPS, DEPLOYMENTS, EVENTS, LEASES, ResourceType
from inferway.cluster import errors, kubeconfig, leader
from inferway.cluster.backoff import Backoff
from inferway.cluster.client import KubeClient, PatchType
from inferway.cluster.events import EventRecorder
from inferway.cluster.informer import Informer
from inferway.cluster.status import write_status
from inferway.cluster.store import Key
from inferway.local.apiserver.server import ApiServer, ApiServerOptions

pytestmark = [
    pytest.mark.slow,
    # How the server sets its shutdown time is tested in its own room.
    pytest.mark.filterwarnings("ignore:shutdown_timeout should be set:DeprecationWarning"),
]


@asynccontextmanager
async def opened(state: Path, port: int = 0) -> AsyncIterator[tuple[ApiServer, KubeClient]]:
    async with (
        ApiServer(ApiServerOptions(state=state, port=port)) as server,
        KubeClient(kubeconfig.load(server.kubeconfig)) as client,
    ):
        yield server, client


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "default"},
        "data": data,
    }


async def test_an_object_from_birth_to_death(tmp_path: Path) -> None:
    async with opened(tmp_path) as (_, client):
        made = await client.create(CONFIG_MAPS, config_map("a", x="1"))
        with pytest.raises(errors.AlreadyExistsError):
            await client.create(CONFIG_MAPS, config_map("a"))
        await client.patch(CONFIG_MAPS, "a", {"data": {"y": "2"}}, "default")
        with pytest.raises(errors.ConflictError):
            await client.update(CONFIG_MAPS, made)
        operations = [{"op": "remove", "path": "/data/x"}]
        changed = await client.patch(
            CONFIG_MAPS, "a", operations, "default", patch_type=PatchType.JSON
        )
        assert changed["data"] == {"y": "2"}
        found = await client.list(CONFIG_MAPS, "default", fields="metadata.name=a")
        assert [item["kind"] for item in found.items] == ["ConfigMap"]
        with pytest.raises(errors.ConflictError):
            await client.delete(CONFIG_MAPS, "a", "default", uid="another")
        await client.delete(CONFIG_MAPS, "a", "default", uid=made["metadata"]["uid"])
        with pytest.raises(errors.NotFoundError, match='configmaps "a" not found'):
            await client.get(CONFIG_MAPS, "a", "default")


async def test_refusals(tmp_path: Path) -> None:
    async with opened(tmp_path) as (_, client):
        with pytest.raises(errors.InvalidError):
            await client.create(CONFIG_MAPS, config_map("Not_A_Name"))
        with pytest.raises(errors.NotFoundError):
            await client.list(ResourceType("x.io", "v1", "Never", "nevers"))
        stranger = replace(client.config, certificate=None, key=None, token="wrong")
        async with KubeClient(stranger) as other:
            with pytest.raises(errors.UnauthorizedError):
                await other.list(CONFIG_MAPS)
        untrusting = replace(client.config, ca=None)
        async with KubeClient(untrusting) as other:
            with pytest.raises(errors.ServerUnreachableError, match="certificate"):
                await other.list(CONFIG_MAPS)


async def test_an_informer_follows_and_survives_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as (server, client):
        port = server.port
        informer: Informer[dict[str, Any]] = Informer(
            client, CONFIG_MAPS, namespace="default", backoff=Backoff(0.01, cap_seconds=0.1)
        )
        changed = asyncio.Event()
        informer.subscribe(lambda _: changed.set())

        async def until(name: str) -> None:
            async with asyncio.timeout(10):
                while Key("default", name) not in informer.store:
                    changed.clear()
                    await changed.wait()

        task = asyncio.ensure_future(informer.run())
        await asyncio.wait_for(informer.synced.wait(), 5)
        await client.create(CONFIG_MAPS, config_map("a"))
        await until("a")
        await server.__aexit__(None, None, None)
        async with opened(tmp_path, port) as (_, again):
            await again.create(CONFIG_MAPS, config_map("b"))
            await until("b")
            assert Key("default", "a") in informer.store
            task.cancel()


async def test_events_statuses_and_leases(tmp_path: Path) -> None:
    async with opened(tmp_path) as (_, client):
        about = await client.create(CONFIG_MAPS, config_map("a"))
        recorder = EventRecorder(client, "tester")
        for _ in range(2):
            recorder.event(about, "Warning", "Tried", "it was tried")
            await recorder.flush()
        assert recorder.dropped == 0
        (event,) = (await client.list(EVENTS, "default")).items
        assert (event["count"], event["message"]) == (2, "it was tried")

        selector = {"matchLabels": {"app": "x"}}
        template = {
            "metadata": {"labels": {"app": "x"}},
            "spec": {"containers": [{"name": "c", "image": "i"}]},
        }
        deployment = await client.create(
            DEPLOYMENTS,
            {
                "metadata": {"name": "d", "namespace": "default"},
                "spec": {"selector": selector, "template": template},
            },
        )
        status = {"replicas": 2, "observedGeneration": 1}
        written = await write_status(client, DEPLOYMENTS, deployment, status)
        assert written is not None
        assert written["status"] == status
        assert written["metadata"]["generation"] == deployment["metadata"]["generation"]

        led = asyncio.Event()

        async def work() -> None:
            led.set()

        await leader.run(client, "lock", "default", "me", work)
        assert led.is_set()
        lease = await client.get(LEASES, "lock", "default")
        assert not lease["spec"].get("holderIdentity")


async def test_server_side_apply(tmp_path: Path) -> None:
    async with opened(tmp_path) as (_, client):
        await client.apply(CONFIG_MAPS, config_map("a", x="1"), "one")
        await client.apply(CONFIG_MAPS, config_map("a", y="2"), "two")
        with pytest.raises(errors.ConflictError):
            await client.apply(CONFIG_MAPS, config_map("a", x="9"), "two", force=False)
        await client.apply(CONFIG_MAPS, config_map("a"), "one")
        found = await client.get(CONFIG_MAPS, "a", "default")
        assert found["data"] == {"y": "2"}
