"""The controller against the real embedded API server, with a real Envoy as its proxy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from gateway_rig import (
    DEADLINE_SECONDS,
    HttpRequest,
    Server,
    answer,
    envoy,
    json_backend,
    own_address,
    request,
)

from inferway.api import resources
from inferway.api.resources import ResourceType
from inferway.base.clock import rfc3339
from inferway.cluster import kubeconfig
from inferway.cluster.client import KubeClient
from inferway.cluster.informer import Informer
from inferway.cluster.store import Key
from inferway.gateway.controller.main import Controller
from inferway.gateway.controller.options import Options
from inferway.gateway.translate.snapshot import CONTROLLER_NAME
from inferway.local.apiserver.server import ApiServer, ApiServerOptions

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:shutdown_timeout should be set:DeprecationWarning"),
]
Object = dict[str, Any]
GATEWAY_API = "gateway.networking.k8s.io/v1"


@dataclass
class Stack:
    """An API server, a client and a controller."""

    client: KubeClient
    group: asyncio.TaskGroup
    controller: Controller
    log: list[str]

    async def see(
        self,
        resource: ResourceType,
        name: str,
        condition: Callable[[Object], bool],
        namespace: str = "default",
    ) -> Object:
        """Waits until the object is as the condition wants it."""
        found = asyncio.Event()
        informer = Informer(self.client, resource)
        key = Key(namespace, name)

        def look(_: Key) -> None:
            value = informer.store.get(key)
            if value is not None and condition(value):
                found.set()

        informer.subscribe(look)
        task = self.group.create_task(informer.run(), name=f"see-{name}")
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                await found.wait()
        except TimeoutError:
            raise AssertionError(f"never as wanted: {informer.store.get(key)}") from None
        finally:
            task.cancel()
        return informer.store[key]

    async def pod(self, name: str, app: str, address: str, **annotations: str) -> None:
        meta = {"name": name, "namespace": "default", "labels": {"app": app}}
        container = {"name": "c", "image": "vllm/vllm-openai:v1"}
        await self.client.create(
            resources.PODS,
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {**meta, "annotations": annotations},
                "spec": {"containers": [container]},
            },
        )
        now = rfc3339(1_800_000_000)
        ready = {"type": "Ready", "status": "True", "lastTransitionTime": now}
        status = {"podIP": address, "phase": "Running", "conditions": [ready]}
        await self.client.patch(
            resources.PODS, name, {"status": status}, "default", subresource="status"
        )


@asynccontextmanager
async def stack(folder: Path) -> AsyncIterator[Stack]:
    host = own_address(100)
    options = Options(
        namespace="default",
        pod_ip=host,
        bind_address=host,
        xds_port=18000,
        metrics_port=19090,
        extra_classes=("agentgateway",),
    )
    async with (
        ApiServer(ApiServerOptions(state=folder, port=0)) as server,
        KubeClient(kubeconfig.load(server.kubeconfig)) as client,
        asyncio.TaskGroup() as group,
    ):
        controller = Controller(client, options)
        task = group.create_task(controller.run(), name="controller")
        try:
            yield Stack(client, group, controller, [])
        finally:
            task.cancel()


def condition(status: Object, type_: str) -> Object:
    return next((c for c in status.get("conditions") or () if c["type"] == type_), {})


def is_true(type_: str) -> Callable[[Object], bool]:
    return lambda item: condition(item.get("status") or {}, type_).get("status") == "True"


def parents_say(type_: str, value: str) -> Callable[[Object], bool]:
    def check(item: Object) -> bool:
        parents = (item.get("status") or {}).get("parents") or []
        ours = [p for p in parents if p.get("controllerName") == CONTROLLER_NAME]
        return bool(ours) and all(condition(p, type_).get("status") == value for p in ours)

    return check


def main_class() -> Object:
    return {
        "apiVersion": GATEWAY_API,
        "kind": "GatewayClass",
        "metadata": {"name": "inferway"},
        "spec": {"controllerName": CONTROLLER_NAME},
    }


def gateway() -> Object:
    return {
        "apiVersion": GATEWAY_API,
        "kind": "Gateway",
        "metadata": {"name": "gw", "namespace": "default"},
        "spec": {
            "gatewayClassName": "agentgateway",
            "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}],
        },
    }


def route() -> Object:
    pool = {"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": "vllm"}
    return {
        "apiVersion": GATEWAY_API,
        "kind": "HTTPRoute",
        "metadata": {"name": "llm", "namespace": "default"},
        "spec": {"parentRefs": [{"name": "gw"}], "rules": [{"backendRefs": [pool]}]},
    }


def pool(port: int) -> Object:
    return {
        "apiVersion": "inference.networking.k8s.io/v1",
        "kind": "InferencePool",
        "metadata": {"name": "vllm", "namespace": "default"},
        "spec": {
            "selector": {"matchLabels": {"app": "vllm"}},
            "targetPorts": [{"number": port}],
            "endpointPickerRef": {"name": "epp", "port": {"number": 9002}},
        },
    }


def picker_service() -> Object:
    ports = [{"name": "grpc", "port": 9002}, {"name": "pick", "port": 9004}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "epp", "namespace": "default"},
        "spec": {"selector": {"app": "epp"}, "ports": ports},
    }


async def test_from_objects_to_an_answer(tmp_path: Path) -> None:
    server = Server(json_backend("only"))
    await server.start(own_address(101))

    async def pick(_: HttpRequest, writer: asyncio.StreamWriter) -> None:
        headers = {"x-gateway-destination-endpoint": server.address, "x-inferway-pick": "p-1"}
        answer(writer, headers=headers)

    picker = Server(pick)
    socket = str(tmp_path / "pick.sock")
    await picker.start("", socket)
    async with stack(tmp_path) as made:
        client = made.client
        await client.create(resources.GATEWAY_CLASSES, main_class())
        extra = await made.see(
            resources.GATEWAY_CLASSES, "agentgateway", is_true("Accepted"), namespace=""
        )
        assert extra["metadata"]["ownerReferences"][0]["name"] == "inferway"
        await client.create(resources.SERVICES, picker_service())
        await client.create(resources.INFERENCE_POOLS, pool(server.port))
        await client.create(resources.HTTP_ROUTES, route())
        await client.create(resources.GATEWAYS, gateway())
        deployment = await made.see(resources.DEPLOYMENTS, "gw-agentgateway", lambda _: True)
        await made.see(resources.INFERENCE_POOLS, "vllm", parents_say("Accepted", "True"))
        await made.see(resources.HTTP_ROUTES, "llm", parents_say("ResolvedRefs", "True"))
        await made.pod("server", "vllm", server.host)
        await made.pod("picker", "epp", server.host, **{"inferway.dev/pick-socket": socket})
        waiting = await made.see(
            resources.GATEWAYS,
            "gw",
            lambda item: condition(item["status"], "Programmed").get("status") == "False",
        )
        assert condition(waiting["status"], "Programmed")["reason"] == "AddressNotAssigned"
        ingress = {"loadBalancer": {"ingress": [{"ip": own_address(102)}]}}
        await client.patch(
            resources.SERVICES,
            "gw-agentgateway",
            {"status": ingress},
            "default",
            subresource="status",
        )
        arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
        async with envoy(arguments, own_address(102), made.log):
            ready = await made.see(resources.GATEWAYS, "gw", is_true("Programmed"))
            status = ready["status"]
            assert status["addresses"] == [{"type": "IPAddress", "value": own_address(102)}]
            assert "80 as 8080" in condition(status, "Programmed")["message"]
            assert condition(status["listeners"][0], "Programmed")["status"] == "True"
            assert status["listeners"][0]["attachedRoutes"] == 1
            reply = await request((own_address(102), 8080))
            assert (reply.status, reply.json()["server"]) == (200, "only")
            await client.delete(resources.HTTP_ROUTES, "llm", "default")
            await made.see(
                resources.INFERENCE_POOLS, "vllm", lambda item: not item["status"].get("parents")
            )
    server.stop()
    picker.stop()
