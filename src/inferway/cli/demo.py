"""The demo of ``inferway up``: applied, awaited, and shown as commands to paste."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import shutil
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from rich.console import Console

from inferway.api.resources import DEPLOYMENTS, GATEWAYS, NODES, PODS, ResourceType
from inferway.base.errors import InferwayError
from inferway.cli import summary
from inferway.cli.cluster_view import read_objects
from inferway.cli.progress import Steps
from inferway.cli.state import StateFolder, default_root
from inferway.cli.vllm.choice import Choice
from inferway.cli.vllm.manifest import ADAPTERS, with_vllm
from inferway.cli.vllm.models import GUIDE_MODEL
from inferway.cluster.client import KubeClient

FIELD_MANAGER = "inferway-up"
# A first answer that takes longer than this means that something is wrong, not slow.
ANSWER_SECONDS_MAX = 10.0
QUESTION = "What is the warmest city in the USA?"


async def wait_for_node(client: KubeClient) -> None:
    """Returns when a node is Ready."""
    async for event in client.watch(NODES):
        if summary.condition(event.object, "Ready").get("status") == "True":
            return


async def apply(client: KubeClient, steps: Steps, engine: Choice) -> None:
    """Applies the manifests that the charts render, with real vLLM where that is the engine."""
    steps.begin("Gateway controller, picker and model servers")
    for name in ("stack.yaml", "demo.yaml"):
        text = resources.files("inferway.cli.manifests").joinpath(name).read_text()
        for item in yaml.safe_load_all(text):
            if item and engine.engine == "vllm":
                item = with_vllm(item, engine)
            if item:
                await client.apply(resource_of(item), item, field_manager=FIELD_MANAGER, force=True)


def resource_of(item: dict[str, Any]) -> ResourceType:
    """Where an object of our own manifests lives; their plurals are all regular."""
    group, _, version = item["apiVersion"].rpartition("/")
    kind = item["kind"]
    lower = kind.lower()
    plural = (
        lower
        if lower.endswith("parameters")
        else (f"{lower}es" if lower.endswith("s") else f"{lower}s")
    )
    return ResourceType(group, version, kind, plural, "namespace" in item["metadata"])


async def wait(client: KubeClient, steps: Steps, *, seconds: float) -> summary.GatewaySummary:
    """Returns the demo's Gateway when the first request through it is answered.

    Raises InferwayError with what is missing when that takes longer than ``seconds``.
    """
    try:
        async with asyncio.timeout(seconds):
            await _wait_for_objects(client, steps)
            objects = await read_objects(client)
            door = summary.gateways(objects.gateways, objects.nodes)[0]
            steps.begin("First answer through the gateway")
            await _wait_for_answer(door.url)
            return door
    except TimeoutError:
        raise InferwayError(
            "INFERWAY0112",
            f"the demo is not ready after {seconds:.0f} s: {await _missing(client)}",
            fix="Look closer: kubectl get pods,events -A, and kubectl logs of a Pod.",
        ) from None


async def _wait_for_objects(client: KubeClient, steps: Steps) -> None:
    changed = asyncio.Event()

    async def follow(resource: ResourceType) -> None:
        async for _ in client.watch(resource):
            changed.set()

    async with asyncio.TaskGroup() as group:
        followers = [
            group.create_task(follow(resource), name=f"follow {resource.plural}")
            for resource in (DEPLOYMENTS, GATEWAYS, NODES, PODS)
        ]
        while True:
            changed.clear()
            objects = await read_objects(client)
            if summary.is_ready(objects, demo=True):
                break
            crashed = summary.crash((await client.list(PODS)).items)
            if crashed:
                raise InferwayError(
                    "INFERWAY0119",
                    f"a container ends while it starts: {crashed}",
                    fix="Its log says more: kubectl logs, with -p for the run before.",
                )
            rows = summary.workloads(objects.deployments)
            steps.detail(f"{sum(row.ready >= row.wanted for row in rows)} of {len(rows)} ready")
            await changed.wait()
        for follower in followers:
            follower.cancel()


async def _wait_for_answer(url: str) -> None:
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS_MAX)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.get(f"{url}/v1/models") as response,
    ):
        if response.status != 200:
            raise InferwayError(
                "INFERWAY0113",
                f"the gateway answers {response.status}: {(await response.text())[:300]}",
                about=url,
                fix="Look at the picker and the model servers: kubectl get pods -A",
            )


async def _missing(client: KubeClient) -> str:
    objects = await read_objects(client)
    parts = [
        f"deployment {row.namespace}/{row.name} has {row.ready} of {row.wanted} Pods"
        for row in summary.workloads(objects.deployments)
        if row.ready < row.wanted
    ]
    parts += [
        f"gateway {door.namespace}/{door.name} is not programmed ({door.message})"
        for door in summary.gateways(objects.gateways, objects.nodes)
        if not door.programmed
    ]
    return "; ".join(parts) or "the first request"


def print_next(
    console: Console, folder: StateFolder, door: summary.GatewaySummary, engine: Choice
) -> None:
    """The commands to try, ready to paste."""
    _say(
        console,
        "",
        "Inferway is up. Try, in another terminal:",
        "",
        *_kubectl_lines(folder),
        "  kubectl get pods,gateways,httproutes,inferencepools -A",
        *(_chat(door, engine) if engine.engine == "vllm" else _completion(door)),
        "",
        f"  {own_command()} status{_state_flag(folder)}",
        "",
        "Ctrl-C stops it all.",
    )


def _completion(door: summary.GatewaySummary) -> list[str]:
    body = {"model": GUIDE_MODEL, "prompt": QUESTION, "max_tokens": 100, "temperature": 0.5}
    return [_curl(door, "completions", body)]


def _chat(door: summary.GatewaySummary, engine: Choice) -> list[str]:
    """A small model answers a chat in sentences, and ends a bare question at once."""
    assert engine.served is not None
    lines = [_curl(door, "chat/completions", _chat_body(GUIDE_MODEL, QUESTION))]
    if engine.served.name == GUIDE_MODEL:
        request = "Write a review of the pizza you had."
        lines.append(_curl(door, "chat/completions", _chat_body(ADAPTERS[1], request)))
    what = engine.served.name
    if what == GUIDE_MODEL:
        what = Path(engine.models[what]).name
    return [*lines, "", f"  vLLM {engine.version} serves {what} under the name {GUIDE_MODEL}."]


def _chat_body(model: str, text: str) -> dict[str, Any]:
    return {
        "model": model,
        "messages": [{"role": "user", "content": text}],
        "max_tokens": 100,
        "temperature": 0.5,
    }


def _curl(door: summary.GatewaySummary, path: str, body: dict[str, Any]) -> str:
    return (
        f"  curl -i {door.url}/v1/{path} -H 'Content-Type: application/json' "
        f"-d '{json.dumps(body)}'"
    )


def print_unready(console: Console, folder: StateFolder) -> None:
    """How to look into a stack whose demo does not answer."""
    _say(
        console,
        "",
        "The stack keeps running, so that you can look inside:",
        "",
        *_kubectl_lines(folder),
        "  kubectl get pods,events -A",
        f"  {own_command()} status{_state_flag(folder)}",
        "",
        "Ctrl-C stops it all.",
    )


def print_empty(console: Console, folder: StateFolder) -> None:
    """How to reach a cluster that holds nothing yet."""
    _say(
        console,
        "",
        "An empty cluster is up. In another terminal:",
        "",
        *_kubectl_lines(folder),
        "  kubectl get nodes",
        "",
        "Ctrl-C stops it all.",
    )


def _kubectl_lines(folder: StateFolder) -> list[str]:
    lines = [f"  export KUBECONFIG={folder.kubeconfig}"]
    if shutil.which("kubectl") is None:
        lines.insert(0, "  (kubectl is not on your PATH; install it to look inside)")
    return lines


def own_command() -> str:
    """How this very program is called from the user's shell."""
    own = Path(sys.argv[0]).absolute()
    found = shutil.which("inferway")
    return "inferway" if found and Path(found).absolute() == own else shlex.quote(str(own))


def _state_flag(folder: StateFolder) -> str:
    if folder.root == default_root(os.environ):
        return ""
    return f" --state {shlex.quote(str(folder.root))}"


def _say(console: Console, *lines: str) -> None:
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
