"""What a stack looks like to its user: a pure summary of its objects.

Knows the shapes of Kubernetes objects; asks nobody for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from inferway.cli.state import EngineNote

Object = Mapping[str, Any]

PRIVILEGED_PORTS_END = 1024
# The node says by this annotation how far it moves a port that it may not bind.
OFFSET_ANNOTATION = "inferway.dev/privileged-port-offset"
CRASH_LOOP = "CrashLoopBackOff"
ISOLATION_ANNOTATION = "inferway.dev/isolation"
PICK_ANNOTATION = "inferway.dev/pick-module"


class WorkloadSummary(msgspec.Struct, frozen=True, rename="camel"):
    """One Deployment: how many of its Pods answer."""

    namespace: str
    name: str
    ready: int
    wanted: int


class GatewaySummary(msgspec.Struct, frozen=True, rename="camel"):
    """One Gateway and where to reach it."""

    namespace: str
    name: str
    programmed: bool
    url: str
    message: str


class StackSummary(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """Everything that ``inferway status`` says."""

    ready: bool
    state: str
    kubeconfig: str
    server: str
    pid: int
    isolation: str
    # How proxies ask pickers: "native", or "none: REASON" for the HTTP callout.
    pick_module: str
    engine: EngineNote
    workloads: list[WorkloadSummary]
    gateways: list[GatewaySummary]


@dataclass(frozen=True, slots=True)
class StackObjects:
    """The objects a summary is made of, as the API server returns them."""

    nodes: Sequence[Object]
    deployments: Sequence[Object]
    gateways: Sequence[Object]


def condition(obj: Object, type_: str) -> Object:
    """The condition of that type in an object's status, or an empty one."""
    for entry in obj.get("status", {}).get("conditions", []):
        if entry.get("type") == type_:
            found: Object = entry
            return found
    return {}


def node_annotation(nodes: Sequence[Object], name: str) -> str:
    """The first node's annotation of that name, or an empty text."""
    for node in nodes:
        value = node["metadata"].get("annotations", {}).get(name)
        if value:
            return str(value)
    return ""


def workloads(deployments: Sequence[Object]) -> list[WorkloadSummary]:
    """Deployments by namespace and name."""
    rows = [
        WorkloadSummary(
            namespace=item["metadata"]["namespace"],
            name=item["metadata"]["name"],
            ready=item.get("status", {}).get("availableReplicas", 0),
            wanted=item.get("spec", {}).get("replicas", 1),
        )
        for item in deployments
    ]
    return sorted(rows, key=lambda row: (row.namespace, row.name))


def crash(pods: Sequence[Object]) -> str:
    """The first container that ends again and again, with its last words; empty if none does."""
    for pod in pods:
        for container in pod.get("status", {}).get("containerStatuses", []):
            if container.get("state", {}).get("waiting", {}).get("reason") != CRASH_LOOP:
                continue
            ended = container.get("lastState", {}).get("terminated", {})
            words = ended.get("message") or f"exit code {ended.get('exitCode', 'unknown')}"
            name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
            return f"{container['name']} of Pod {name}: {words.strip()}"
    return ""


def gateway(item: Object, port_offset: int) -> GatewaySummary:
    """A Gateway with the URL of its first HTTP listener; no URL without an address."""
    programmed = condition(item, "Programmed")
    addresses = item.get("status", {}).get("addresses", [])
    ports = [
        listener["port"]
        for listener in item.get("spec", {}).get("listeners", [])
        if listener.get("protocol") == "HTTP"
    ]
    url = ""
    if addresses and ports:
        port = ports[0] + (port_offset if ports[0] < PRIVILEGED_PORTS_END else 0)
        url = f"http://{addresses[0]['value']}:{port}"
    return GatewaySummary(
        namespace=item["metadata"]["namespace"],
        name=item["metadata"]["name"],
        programmed=programmed.get("status") == "True",
        url=url,
        message=programmed.get("message", "waiting for the gateway controller"),
    )


def gateways(items: Sequence[Object], nodes: Sequence[Object]) -> list[GatewaySummary]:
    """Gateways by namespace and name."""
    offset = int(node_annotation(nodes, OFFSET_ANNOTATION) or 0)
    rows = [gateway(item, offset) for item in items]
    return sorted(rows, key=lambda row: (row.namespace, row.name))


def is_ready(objects: StackObjects, demo: bool) -> bool:
    """True when every part that was asked for answers.

    A stack with the demo is not ready before its Gateway is there; an empty one is ready with its
    node.
    """
    nodes_ready = bool(objects.nodes) and all(
        condition(node, "Ready").get("status") == "True" for node in objects.nodes
    )
    rows = workloads(objects.deployments)
    doors = gateways(objects.gateways, objects.nodes)
    if demo and not (rows and doors):
        return False
    return (
        nodes_ready
        and all(row.ready >= row.wanted for row in rows)
        and all(door.programmed for door in doors)
    )
