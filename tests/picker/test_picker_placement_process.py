"""Placement with everything real but the cluster's nodes: API server, pickers, simulated servers.

Method: the embedded API server has the kinds, a pool and Pods whose addresses are loopback
addresses of simulated model servers in this process; pickers run here too, and are asked through
their callout.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from inferway.api import crds
from inferway.api.resources import (
    CUSTOM_RESOURCE_DEFINITIONS,
    EVENTS,
    INFERENCE_POOLS,
    LEASES,
    LORA_ADAPTERS,
    PODS,
)
from inferway.base.clock import SystemClock
from inferway.cluster import kubeconfig
from inferway.cluster.client import KubeClient
from inferway.local.apiserver.server import ApiServer, ApiServerOptions
from inferway.picker import flags
from inferway.picker.run import Picker
from inferway.scheduling.policy import CostPolicy
from inferway.simulator import flags as simulator_flags
from inferway.simulator.main import serve

pytestmark = [
    pytest.mark.slow,
    # How the server sets its shutdown time is tested in its own room.
    pytest.mark.filterwarnings("ignore:shutdown_timeout should be set:DeprecationWarning"),
]

DEADLINE_SECONDS = 40.0
HOSTS = ("127.0.61.1", "127.0.61.2")
UPDATING = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "true"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOSTS[0], 0))
        return int(probe.getsockname()[1])


@dataclass
class Rig:
    client: KubeClient
    port: int
    stack: AsyncExitStack

    async def add_server(
        self, host: str, *arguments: str, env: dict[str, str] | None = None
    ) -> None:
        """A simulated server and its Pod."""
        words = ["--host", host, "--port", str(self.port), "--enable-lora", *arguments]
        await self.stack.enter_async_context(
            serving(["m", *words], UPDATING if env is None else env)
        )
        name = f"pod-{host.rpartition('.')[2]}"
        meta = {"name": name, "namespace": "default", "labels": {"app": "x"}}
        container = {"name": "vllm", "image": "i", "args": words}
        await self.client.create(
            PODS,
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": meta,
                "spec": {"containers": [container]},
            },
        )
        status = {"podIP": host, "conditions": [{"type": "Ready", "status": "True"}]}
        await self.client.patch(PODS, name, {"status": status}, "default", subresource="status")

    async def add_picker(self, identity: str, stack: AsyncExitStack | None = None) -> Picker:
        argv = ["--pool-name", "p", "--pool-namespace", "default", "--bind-address", "127.0.0.1"]
        argv += ["--pick-port", "0", "--feedback-port", "0", "--grpc-health-port", "0"]
        argv += ["--grpc-port", "0"]
        argv += ["--metrics-port", "0", "--exchange-port", "0", "--drain-timeout", "0s"]
        picker = Picker(flags.parse(argv, {}), CostPolicy, SystemClock(), identity)
        await (stack or self.stack).enter_async_context(picking(picker, self.client))
        return picker

    async def adapter(self, name: str, **spec: object) -> None:
        body = {
            "apiVersion": "inferway.dev/v1alpha1",
            "kind": "LoRAAdapter",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"poolRef": {"name": "p"}, "source": f"someone/{name}"} | spec,
        }
        await self.client.create(LORA_ADAPTERS, body)

    async def status(self, name: str) -> dict[str, Any]:
        raw = await self.client.get(LORA_ADAPTERS, name, "default")
        return raw.get("status") or {}

    async def placed(self, name: str) -> str:
        """The reason of the condition Placed."""
        conditions = (await self.status(name)).get("conditions") or []
        return next((c["reason"] for c in conditions if c["type"] == "Placed"), "")

    async def models(self, host: str) -> set[str]:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://{host}:{self.port}/v1/models") as answer,
        ):
            return {card["id"] for card in (await answer.json())["data"] if card["parent"]}

    async def load_by_hand(self, host: str, name: str) -> None:
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                f"http://{host}:{self.port}/v1/load_lora_adapter",
                json={"lora_name": name, "lora_path": "someone/other"},
            ) as answer,
        ):
            assert answer.status == 200


async def until(probe: Callable[[], Awaitable[object]], what: str) -> None:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not await probe():
                turn = asyncio.Event()
                loop.call_later(0.02, turn.set)
                await turn.wait()
    except TimeoutError:
        raise AssertionError(f"not within {DEADLINE_SECONDS} s: {what}") from None


async def ask(picker: Picker, model: str) -> tuple[int, str, dict[str, Any]]:
    url = f"http://127.0.0.1:{picker.ports['pick']}/pick/default/p/v1/completions"
    body = json.dumps({"model": model, "prompt": "x"})
    async with aiohttp.ClientSession() as session, session.post(url, data=body) as answer:
        text = await answer.read()
        chosen = answer.headers.get("x-gateway-destination-endpoint", "")
        return answer.status, chosen, json.loads(text) if text else {}


async def served(picker: Picker, model: str) -> tuple[int, str]:
    """Asks as OpenAI's SDK does: again where that is asked for, as on a machine that is busy."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            status, chosen, body = await ask(picker, model)
            if status == 200 or body["error"]["code"] != "adapter_loading":
                return status, chosen


@asynccontextmanager
async def serving(argv: list[str], env: dict[str, str]) -> AsyncIterator[None]:
    options = simulator_flags.parse(argv, env)
    stop, ready = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(serve(options, stop, lambda *at: ready.set()))
        async with asyncio.timeout(DEADLINE_SECONDS):
            await ready.wait()
        try:
            yield
        finally:
            stop.set()


@asynccontextmanager
async def picking(picker: Picker, client: KubeClient) -> AsyncIterator[None]:
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        work = tasks.create_task(picker.run(client, stop))

        async def synced() -> bool:
            return picker.pool.synced or work.done()

        try:
            await until(synced, "the picker is synced")
            yield
        finally:
            stop.set()


@asynccontextmanager
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with (
        ApiServer(ApiServerOptions(state=tmp_path, port=0)) as server,
        KubeClient(kubeconfig.load(server.kubeconfig)) as client,
        AsyncExitStack() as stack,
    ):
        made = Rig(client, free_port(), stack)
        await client.create(CUSTOM_RESOURCE_DEFINITIONS, crds.to_object(crds.LORA_ADAPTERS))
        pool = {
            "apiVersion": "inference.networking.k8s.io/v1",
            "kind": "InferencePool",
            "metadata": {"name": "p", "namespace": "default"},
            "spec": {
                "selector": {"matchLabels": {"app": "x"}},
                "targetPorts": [{"number": made.port}],
                "endpointPickerRef": {"name": "epp", "port": {"number": 9002}},
            },
        }
        await client.create(INFERENCE_POOLS, pool)
        yield made


async def test_without_an_object_nothing_happens(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        await r.add_server(HOSTS[0])
        picker = await r.add_picker("one")
        status, _, body = await ask(picker, "poems")
        assert (status, body["error"]["code"]) == (404, "model_not_found")
        assert (await r.client.list(LEASES, "default")).items == []
        assert await r.models(HOSTS[0]) == set()


async def test_requests_for_one_adapter_share_its_load(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        for host in HOSTS:
            await r.add_server(host, "--max-loras", "2")
        picker = await r.add_picker("one")
        await r.adapter("poems")
        await until(lambda: r.placed("poems"), "a status")
        assert await r.placed("poems") == "OnDemand"
        answers = await asyncio.gather(*(served(picker, "poems") for _ in range(8)))
        assert {status for status, _ in answers} == {200}
        (where,) = {chosen for _, chosen in answers}
        assert picker.placement.counts.ended == {("poems", "load", "done"): 1}
        assert "poems" in await r.models(where.rpartition(":")[0])

        async def told() -> bool:
            return await r.placed("poems") == "Placed"

        await until(told, "the status says so")
        (endpoint,) = (await r.status("poems"))["endpoints"]
        assert (endpoint["address"], endpoint["state"]) == (where, "Loaded")
        assert endpoint["placed"] is True
        # Its end takes the copy away.
        await r.client.delete(LORA_ADAPTERS, "poems", "default")

        async def gone() -> bool:
            return not any([await r.models(host) for host in HOSTS])

        await until(gone, "unloaded")
        assert (await ask(picker, "poems"))[0] == 404


async def test_the_coldest_makes_room_and_other_peoples_stays(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        await r.add_server(HOSTS[0], "--max-loras", "2")
        await r.load_by_hand(HOSTS[0], "by-hand")
        picker = await r.add_picker("one")
        for name in ("one", "two"):
            await r.adapter(name, minResidency="0s")
        await until(lambda: r.placed("two"), "a status")
        assert (await served(picker, "one"))[0] == 200
        assert await r.models(HOSTS[0]) == {"by-hand", "one"}
        assert (await served(picker, "two"))[0] == 200
        assert await r.models(HOSTS[0]) == {"by-hand", "two"}

        async def told() -> bool:
            return (await r.placed("one"), await r.placed("two")) == ("OnDemand", "Placed")

        await until(told, "both statuses")
        # The minimum of one takes the slot that the other has, and not the one of by-hand.
        await r.adapter("three", minReplicas=1, pinned=True)

        async def there() -> bool:
            return await r.models(HOSTS[0]) == {"by-hand", "three"}

        await until(there, "three")
        status, _, body = await ask(picker, "one")
        assert (status, body["error"]["code"]) == (463, "adapter_loading")
        assert "slots" in body["error"]["message"]

        async def full() -> bool:
            return await r.placed("one") == "NoSlot" or await r.placed("one") == "OnDemand"

        await until(full, "no slot")

        async def events() -> set[str]:
            items = (await r.client.list(EVENTS, "default")).items
            return {e["reason"] for e in items if e["involvedObject"]["kind"] == "LoRAAdapter"}

        async def all_events() -> bool:
            return {"Loaded", "Evicted", "Unloaded"} <= await events()

        await until(all_events, "events")


async def test_a_server_that_refuses_is_said_in_its_own_words(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        await r.add_server(HOSTS[0], "--max-loras", "2", env={})
        picker = await r.add_picker("one")
        await r.adapter("poems", minReplicas=1)

        async def failed() -> bool:
            return await r.placed("poems") == "LoadFailed"

        await until(failed, "the failure")
        (endpoint,) = (await r.status("poems"))["endpoints"]
        assert endpoint["state"] == "Failed"
        assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING" in endpoint["message"]
        status, _, body = await ask(picker, "poems")
        assert (status, body["error"]["code"]) == (463, "adapter_failed")
        assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING" in body["error"]["message"]


async def test_names_are_used_once(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        await r.add_server(HOSTS[0], "--served-model-name", "base")
        await r.add_picker("one")
        await r.adapter("first", adapterName="poems", minReplicas=1)
        await until(lambda: r.placed("first"), "a status")
        await r.adapter("second", adapterName="poems")
        await r.adapter("base")
        await r.adapter("elsewhere", baseModel="another", minReplicas=1)
        for name, type_, reason in (
            ("second", "Accepted", "NameInUse"),
            ("base", "Accepted", "NameInUse"),
            ("first", "Accepted", "Accepted"),
            ("elsewhere", "Placed", "NoServer"),
        ):

            async def said(name: str = name, type_: str = type_, reason: str = reason) -> bool:
                conditions = (await r.status(name)).get("conditions") or []
                return (type_, reason) in {(c["type"], c["reason"]) for c in conditions}

            await until(said, f"{name}: {reason}")


async def test_another_picker_lets_the_leader_load_and_takes_over(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        await r.add_server(HOSTS[0], "--max-loras", "2")
        async with AsyncExitStack() as term:
            first = await r.add_picker("one", term)
            await r.adapter("poems")

            async def leads() -> bool:
                return first.placement.acting is not None

            await until(leads, "the first leads")
            second = await r.add_picker("two")
            assert (await served(second, "poems"))[0] == 200
            assert second.placement.acting is None
            assert second.placement.counts.ended == {}
            assert first.placement.counts.ended == {("poems", "load", "done"): 1}
            assert first.placement.meter.peers == 1

            async def told() -> bool:
                return await r.placed("poems") == "Placed"

            await until(told, "the status")

        async def takes_over() -> bool:
            acting = second.placement.acting
            return (
                acting is not None and ("poems", f"{HOSTS[0]}:{r.port}") in acting.placement.copies
            )

        await until(takes_over, "the second has what the first placed")
        assert second.placement.counts.ended == {}
        await r.client.delete(LORA_ADAPTERS, "poems", "default")

        async def gone() -> bool:
            return await r.models(HOSTS[0]) == set()

        await until(gone, "unloaded by the second")
