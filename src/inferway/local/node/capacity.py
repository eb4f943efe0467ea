"""The Node object: what the machine has, or what the user says it has. Pure but for /proc."""

from __future__ import annotations

import os
import platform
import shutil
from decimal import Decimal
from pathlib import Path
from typing import Any

from inferway.base import clock, quantities
from inferway.base.errors import UsageError
from inferway.local.node.options import NodeOptions

PODS_MAX = 250
Object = dict[str, Any]


def machine_capacity(folder: Path) -> dict[str, str]:
    """CPUs that this process may use, memory, and the disk of the state folder."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory // 1024}Ki",
        "ephemeral-storage": f"{shutil.disk_usage(folder).total // 1024}Ki",
        "pods": str(PODS_MAX),
    }


def read_capacity(text: str | None, machine: dict[str, str]) -> dict[str, str]:
    """``cpu=16,memory=64Gi`` over what the machine has. Raises UsageError INFERWAY0206."""
    result = dict(machine)
    for part in (text or "").split(","):
        name, equals, amount = part.strip().partition("=")
        if not part.strip():
            continue
        try:
            right = bool(name and equals) and quantities.parse(amount) >= 0
        except ValueError:
            right = False
        if not right:
            raise UsageError(
                "INFERWAY0206",
                f"{part.strip()!r} is not a resource and its quantity",
                about="--node-capacity",
                fix="Write for example: --node-capacity cpu=16,memory=64Gi,nvidia.com/gpu=1",
            )
        result[name] = amount
    return result


def amounts(capacity: dict[str, str]) -> dict[str, Decimal]:
    """Numbers of a capacity."""
    return {name: quantities.parse(amount) for name, amount in capacity.items()}


def node_object(options: NodeOptions, isolation: str) -> Object:
    """What the node creates of itself; the status is written apart."""
    system = platform.system().lower()
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": options.name,
            "annotations": {"inferway.dev/isolation": isolation},
            "labels": {
                "kubernetes.io/hostname": options.name,
                "kubernetes.io/os": system,
                "kubernetes.io/arch": machine,
            },
        },
    }


def node_status(
    options: NodeOptions, capacity: dict[str, str], before: Object | None, port: int
) -> Object:
    """Capacity, addresses and conditions; ``before`` keeps the times of transitions."""
    stamp = clock.rfc3339(options.clock.wall())
    old = {c.get("type"): c for c in ((before or {}).get("status") or {}).get("conditions") or ()}

    def condition(kind: str, status: str, reason: str, message: str) -> Object:
        since = stamp
        if old.get(kind, {}).get("status") == status:
            since = old[kind].get("lastTransitionTime") or stamp
        return {
            "type": kind,
            "status": status,
            "reason": reason,
            "message": message,
            "lastHeartbeatTime": stamp,
            "lastTransitionTime": since,
        }

    return {
        "capacity": capacity,
        "allocatable": capacity,
        "addresses": [
            {"type": "InternalIP", "address": options.host_ip},
            {"type": "Hostname", "address": options.name},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        "conditions": [
            condition(
                "MemoryPressure",
                "False",
                "KubeletHasSufficientMemory",
                "kubelet has sufficient memory available",
            ),
            condition(
                "DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"
            ),
            condition(
                "PIDPressure",
                "False",
                "KubeletHasSufficientPID",
                "kubelet has sufficient PID available",
            ),
            condition("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
        ],
        "nodeInfo": {
            "machineID": "",
            "systemUUID": "",
            "bootID": "",
            "kernelVersion": platform.release(),
            "osImage": "local processes",
            "containerRuntimeVersion": "inferway://0.1.0",
            "kubeletVersion": "v1.37.0",
            "kubeProxyVersion": "",
            "operatingSystem": platform.system().lower(),
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(
                platform.machine(), platform.machine()
            ),
        },
    }
