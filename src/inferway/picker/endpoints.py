"""A pool's endpoints from its Pods: ready Pods times target ports. Pure.

Reads InferencePool and Pod objects as they come from the API server, leniently: what is not
understood is left out, and a Pod that can not be read is no endpoint.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from inferway.scheduling.snapshot import Endpoint, KvEvents

# vLLM tells these in metrics only after a request, or never. They may stand inside the text of a
# shell's command; more digits are a mistake.
_MAX_LORAS = re.compile(r"(?:^|\s)--max-loras[=\s]+(\d{1,6})(?!\S)")
_MAX_CPU_LORAS = re.compile(r"(?:^|\s)--max-cpu-loras[=\s]+(\d{1,6})(?!\S)")
# The JSON behind it may be the next argument, and may be quoted for a shell.
_KV_EVENTS = re.compile(r"(?:^|\s)--kv-events-config[=\s]+['\"]?(?=\{)")
_TCP_PORT = re.compile(r"^tcp://.*:(\d{1,5})$")
_json = json.JSONDecoder()
# Which target ports of a Pod really serve; both names of the annotation.
ACTIVE_PORTS = ("llm-d.ai/active-ports", "inference.networking.k8s.io/active-ports")


class _Meta(msgspec.Struct):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    deletionTimestamp: str | None = None  # noqa: N815


class _PodCondition(msgspec.Struct):
    type: str = ""
    status: str = ""


class _PodStatus(msgspec.Struct):
    phase: str = ""
    podIP: str = ""  # noqa: N815
    conditions: list[_PodCondition] | None = None


class _Container(msgspec.Struct):
    command: list[str] | None = None
    args: list[str] | None = None


class _PodSpec(msgspec.Struct):
    containers: list[_Container] = []


class Pod(msgspec.Struct):
    """What makes a Pod an endpoint."""

    metadata: _Meta = msgspec.field(default_factory=_Meta)
    spec: _PodSpec = msgspec.field(default_factory=_PodSpec)
    status: _PodStatus = msgspec.field(default_factory=_PodStatus)


class _Port(msgspec.Struct):
    number: int = 0


class _Selector(msgspec.Struct):
    matchLabels: dict[str, str] | None = None  # noqa: N815


class _PoolSpec(msgspec.Struct):
    selector: _Selector = msgspec.field(default_factory=_Selector)
    targetPorts: list[_Port] = []  # noqa: N815


class Pool(msgspec.Struct):
    """Which Pods and which of their ports."""

    metadata: _Meta = msgspec.field(default_factory=_Meta)
    spec: _PoolSpec = msgspec.field(default_factory=_PoolSpec)

    @property
    def selector(self) -> str:
        """The selector as a query of the API; an empty one selects nothing, as the CRD says."""
        labels = self.spec.selector.matchLabels or {}
        return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))

    @property
    def ports(self) -> tuple[int, ...]:
        """Target port numbers in order."""
        return tuple(port.number for port in self.spec.targetPorts)


LEGACY_GROUP = "inference.networking.x-k8s.io"


class _LegacySpec(msgspec.Struct):
    selector: dict[str, str] | None = None
    targetPortNumber: int = 0  # noqa: N815


class _LegacyPool(msgspec.Struct):
    metadata: _Meta = msgspec.field(default_factory=_Meta)
    spec: _LegacySpec = msgspec.field(default_factory=_LegacySpec)


def decode_pool(raw: Mapping[str, Any]) -> Pool:
    """A pool of either group. Raises msgspec.ValidationError."""
    if str(raw.get("apiVersion", "")).startswith(LEGACY_GROUP):
        old = msgspec.convert(raw, _LegacyPool)
        spec = _PoolSpec(_Selector(old.spec.selector), [_Port(old.spec.targetPortNumber)])
        return Pool(old.metadata, spec)
    return msgspec.convert(raw, Pool)


def decode_pod(raw: Mapping[str, Any]) -> Pod:
    """Raises msgspec.ValidationError."""
    return msgspec.convert(raw, Pod)


def endpoints_of(pool: Pool, pods: Iterable[Pod]) -> list[Endpoint]:
    """Sorted by address, so that equal input gives equal output."""
    return endpoints_at(pool.ports, (pod for pod in pods if _selected(pool, pod)))


def endpoints_at(ports: Sequence[int], pods: Iterable[Pod]) -> list[Endpoint]:
    """The same for Pods that somebody else has selected."""
    found = []
    for pod in pods:
        if not _ready(pod):
            continue
        active = _active_ports(pod)
        places = _number(pod, _MAX_LORAS), _number(pod, _MAX_CPU_LORAS)
        published = _kv_events(pod)
        for rank, port in enumerate(ports):
            if active is not None and port not in active:
                continue
            host = f"[{pod.status.podIP}]" if ":" in pod.status.podIP else pod.status.podIP
            labels = pod.metadata.labels or {}
            events = published and _of_rank(published, rank)
            found.append(Endpoint(f"{host}:{port}", pod.metadata.name, labels, *places, events))
    return sorted(found, key=lambda endpoint: endpoint.address)


def _kv_events(pod: Pod) -> KvEvents | None:
    """What the engine's ``--kv-events-config`` says of its sockets; None without events."""
    for container in pod.spec.containers:
        text = " ".join([*(container.command or ()), *(container.args or ())])
        found = _KV_EVENTS.search(text)
        if found is None:
            continue
        try:
            config, _ = _json.raw_decode(text, found.end())
        except ValueError:
            continue
        if not isinstance(config, dict) or not config.get("enable_kv_cache_events"):
            continue
        if config.get("publisher", "zmq") != "zmq":
            continue
        port = _port(config.get("endpoint", "tcp://*:5557"))
        if port:
            topic = config.get("topic")
            replay = _port(config.get("replay_endpoint"))
            return KvEvents(port, replay, topic if isinstance(topic, str) else "")
    return None


def _of_rank(events: KvEvents, rank: int) -> KvEvents:
    """vLLM adds the rank of data parallel engines to both ports."""
    replay = events.replay_port + rank if events.replay_port else 0
    return KvEvents(events.port + rank, replay, events.topic)


def _port(url: object) -> int:
    """The port of a TCP endpoint of ZeroMQ; 0 for anything else."""
    found = _TCP_PORT.match(url) if isinstance(url, str) else None
    return int(found[1]) if found is not None and int(found[1]) < 65536 else 0


def _ready(pod: Pod) -> bool:
    if pod.metadata.deletionTimestamp is not None or not pod.status.podIP:
        return False
    return any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions or ())


def _selected(pool: Pool, pod: Pod) -> bool:
    wanted = pool.spec.selector.matchLabels
    labels = pod.metadata.labels or {}
    return bool(wanted) and all(labels.get(k) == v for k, v in (wanted or {}).items())


def _active_ports(pod: Pod) -> set[int] | None:
    annotations = pod.metadata.annotations or {}
    for name in ACTIVE_PORTS:
        if name in annotations:
            parts = (part.strip() for part in annotations[name].split(","))
            return {int(part) for part in parts if part.isdigit()}
    return None


def _number(pod: Pod, flag: re.Pattern[str]) -> int:
    """A flag of the engine on the Pod's command lines; 0 without it."""
    for container in pod.spec.containers:
        found = flag.search(" ".join([*(container.command or ()), *(container.args or ())]))
        if found is not None:
            return int(found[1])
    return 0
