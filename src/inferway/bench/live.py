"""A whole local stack to measure: real controller, Envoy and picker in front of our own backends.

Runs ``inferway up --empty`` as a user does and applies the manifests that it would apply itself,
but for the model servers: in their place stand Pods that no node runs, with the addresses of the
backends. Knows objects and processes; nothing of how the rooms work.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from inferway.api.resources import GATEWAYS, PODS, ResourceType
from inferway.base.errors import InferwayError
from inferway.bench import backends, processes
from inferway.bench.target import Target
from inferway.cluster import kubeconfig
from inferway.cluster.client import KubeClient, PatchType

MANIFESTS = "inferway.cli.manifests"
NAMESPACE = "default"
POOL = "vllm-qwen"
# A Pod of another scheduler is left alone: nobody binds it to a node, so no node runs it.
SCHEDULER = "bench"
UP_SECONDS_MAX = 60.0
READY_SECONDS_MAX = 60.0
LOOK_AGAIN_SECONDS = 0.05

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Stack:
    """A running empty stack and the first two bytes of its addresses."""

    process: subprocess.Popen[str]
    state: Path
    network: str


def _say(folder: Path) -> str:
    return (folder / "up.log").read_text(errors="replace")


@contextmanager
def empty_stack(folder: Path) -> Iterator[Stack]:
    """A cluster with nothing in it while the block runs. Raises InferwayError."""
    state = folder / "state"
    words = [sys.executable, "-m", "inferway", "up", "--empty", "--state", str(state)]
    with (folder / "up.log").open("w") as log:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, text=True
        )
    try:
        _wait(
            lambda: "An empty cluster is up" in _say(folder) or process.poll() is not None,
            UP_SECONDS_MAX,
        )
        if process.poll() is not None or "An empty cluster is up" not in _say(folder):
            raise InferwayError(
                "INFERWAY0175",
                f"the stack to measure does not start: {_say(folder)[-1000:].strip()}",
                fix="See whether `inferway up --empty` works by itself.",
            )
        network = json.loads((state / "stack.json").read_bytes())["network"]
        yield Stack(process, state, network)
    finally:
        processes.stop(process)


def _wait(done: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not done() and time.monotonic() < deadline:
        time.sleep(LOOK_AGAIN_SECONDS)


def addresses(stack: Stack) -> tuple[str, str]:
    """Addresses for two backends: the last of the Pods' range, which a node gives out last."""
    return (f"{stack.network}.127.253", f"{stack.network}.127.254")


def objects() -> list[Object]:
    """What ``inferway up`` applies, without the model servers."""
    found: list[Object] = []
    for name in ("stack.yaml", "demo.yaml"):
        text = resources.files(MANIFESTS).joinpath(name).read_text()
        found += [item for item in yaml.safe_load_all(text) if item]
    return [
        item
        for item in found
        if not (item["kind"] == "Deployment" and item["metadata"]["name"] == POOL)
    ]


def resource_of(item: Object) -> ResourceType:
    """Where an object lives; the plurals of these kinds are regular but for one."""
    group, _, version = item["apiVersion"].rpartition("/")
    plural = item["kind"].lower()
    if not plural.endswith("parameters"):
        plural += "es" if plural.endswith("s") else "s"
    return ResourceType(group, version, item["kind"], plural, "namespace" in item["metadata"])


def backend_pod(number: int) -> Object:
    """A Pod of the pool that nobody runs."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"backend-{number}",
            "namespace": NAMESPACE,
            "labels": {"app": POOL},
        },
        "spec": {
            "schedulerName": SCHEDULER,
            "containers": [
                {
                    "name": "vllm",
                    "image": "bench/backend:1",
                    "ports": [{"name": "http", "containerPort": backends.PORT}],
                }
            ],
        },
    }


def pod_status(address: str) -> Object:
    """The status that a node would report of a Pod that answers."""
    conditions = [
        {"type": name, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
        for name in ("PodScheduled", "Initialized", "ContainersReady", "Ready")
    ]
    return {
        "status": {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "conditions": conditions,
        }
    }


async def deploy(stack: Stack) -> str:
    """Applies everything and returns the gateway's URL once it answers. Raises InferwayError."""
    async with KubeClient(kubeconfig.load(stack.state / "kubeconfig")) as client:
        for item in objects():
            await client.apply(resource_of(item), item, field_manager="bench", force=True)
        for number, address in enumerate(addresses(stack)):
            await client.apply(PODS, backend_pod(number), field_manager="bench", force=True)
            await client.patch(
                PODS,
                f"backend-{number}",
                pod_status(address),
                namespace=NAMESPACE,
                patch_type=PatchType.MERGE,
                subresource="status",
            )
        try:
            async with asyncio.timeout(READY_SECONDS_MAX):
                await _programmed(client)
                url = await asyncio.to_thread(gateway_url, stack)
                await _first_answer(url)
                return url
        except TimeoutError:
            raise InferwayError(
                "INFERWAY0176",
                f"the gateway to measure does not answer within {READY_SECONDS_MAX:.0f} s",
                fix="See whether `inferway up` works by itself.",
            ) from None


async def _programmed(client: KubeClient) -> None:
    async for event in client.watch(GATEWAYS):
        for condition in event.object.get("status", {}).get("conditions", []):
            if condition["type"] == "Programmed" and condition["status"] == "True":
                return


def gateway_url(stack: Stack) -> str:
    """The address of the stack's only gateway, as ``inferway status`` tells it."""
    result = subprocess.run(
        [sys.executable, "-m", "inferway", "status", "--state", str(stack.state), "-o", "json"],
        capture_output=True,
        text=True,
        check=False,
    )
    return str(json.loads(result.stdout)["gateways"][0]["url"])


async def _first_answer(url: str) -> None:
    body = {"model": backends.MODEL, "prompt": "Hello", "max_tokens": 3}
    async with aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.post(f"{url}/v1/completions", json=body) as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(LOOK_AGAIN_SECONDS)


def target(stack: Stack, url: str) -> Target:
    """The stack as something to measure: every process of it, by part."""
    pids = processes.descendants(stack.process.pid)
    return Target("inferway", url, processes.by_part(pids))
