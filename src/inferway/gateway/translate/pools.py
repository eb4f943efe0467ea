"""InferencePools as backends: their endpoints, their picker, and what is wrong with them."""

from __future__ import annotations

from dataclasses import dataclass

from inferway.api import labels
from inferway.api.conditions import PoolReason
from inferway.api.core import Service
from inferway.api.holding import deadline_seconds, hold_seconds, pick_seconds
from inferway.api.inference import InferencePool
from inferway.gateway.translate import services
from inferway.gateway.translate.ir import Cluster, ClusterKind, Endpoint, Pick
from inferway.gateway.translate.snapshot import Key, PodView, Snapshot
from inferway.gateway.translate.verdicts import Problem

PICK_PORT = "pick"
FEEDBACK_PORT = "feedback"
MODEL_REWRITE_ANNOTATION = "inferway.dev/model-rewrite"
_H2C = ("kubernetes.io/h2c",)


@dataclass(frozen=True, slots=True)
class ResolvedPool:
    """A pool with the clusters that it needs. ``pick`` is None for a pool without a picker."""

    cluster: Cluster
    pick: Pick | None
    pickers: tuple[Cluster, ...]
    refs: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()


def resolve(snapshot: Snapshot, pool: InferencePool) -> ResolvedPool:
    """Everything about a pool; problems are returned and not raised."""
    key = (pool.metadata.namespace, pool.metadata.name)
    ref = pool.spec.endpoint_picker_ref
    strict = ref is not None and ref.failure_mode != "FailOpen"
    cluster = Cluster(
        name=f"pool/{key[0]}/{key[1]}",
        kind=ClusterKind.POOL,
        endpoints=_servers(snapshot, pool),
        strict=strict,
        http2=(pool.spec.app_protocol or "") in _H2C,
    )
    if ref is None:
        return ResolvedPool(cluster, None, ())
    picker_key = (key[0], ref.name)
    refs: list[Problem] = []
    notes: list[str] = []
    service = snapshot.services.get(picker_key)
    if (ref.group or "") != "" or (ref.kind or "Service") != "Service":
        refs.append(
            Problem(
                PoolReason.INVALID_EXTENSION_REF,
                f"endpointPickerRef names a {ref.kind} of group {ref.group!r}; only Services can "
                "be pickers.",
            )
        )
        service = None
    elif service is None:
        refs.append(
            Problem(
                PoolReason.INVALID_EXTENSION_REF,
                f"endpointPickerRef: there is no Service {ref.name} in namespace {key[0]}.",
            )
        )
    elif services.named_port(service, PICK_PORT) is None:
        mode = "answered 503" if strict else "balanced without a picker"
        notes.append(
            f"Service {ref.name} has no port named {PICK_PORT}: pickers that speak only the "
            f"endpoint picker protocol are not supported, and requests are {mode}."
        )
    seconds, complaint = _timeout(pool)
    notes += complaint
    pick = Pick(
        picker=f"picker/{picker_key[0]}/{picker_key[1]}",
        path_prefix=f"/pick/{key[0]}/{key[1]}",
        timeout_seconds=seconds,
        fail_open=not strict,
        splice=key in snapshot.rewritten_pools
        or pool.metadata.annotations.get(MODEL_REWRITE_ANNOTATION) == "enabled",
    )
    pickers = _picker_clusters(snapshot, picker_key, service)
    return ResolvedPool(cluster, pick, pickers, tuple(refs), tuple(notes))


def _timeout(pool: InferencePool) -> tuple[float, list[str]]:
    """How long an answer may take, waiting included; and what is wrong with annotations."""
    annotations = pool.metadata.annotations
    seconds = deadline_seconds(annotations)
    notes = []
    if complaint := pick_seconds(annotations)[1]:
        notes.append(f"{complaint}; {seconds:g}s is used.")
    if complaint := hold_seconds(annotations)[1]:
        notes.append(f"{complaint}; nothing is held.")
    return seconds, notes


def _servers(snapshot: Snapshot, pool: InferencePool) -> tuple[Endpoint, ...]:
    selector = labels.from_labels(pool.spec.selector.match_labels)
    ports = [port.number for port in pool.spec.target_ports]
    found = {
        Endpoint(pod.address, port)
        for pod in snapshot.ready_pods_by_namespace.get(pool.metadata.namespace, ())
        if selector.matches(pod.labels)
        for port in _active(pod, ports)
    }
    return tuple(sorted(found))


def _active(pod: PodView, ports: list[int]) -> list[int]:
    """The target ports that serve in this Pod; all of them unless its annotation says which."""
    if not pod.active_ports:
        return ports
    named = {text.strip() for text in pod.active_ports.split(",")}
    return [port for port in ports if str(port) in named]


def _picker_clusters(snapshot: Snapshot, key: Key, service: Service | None) -> tuple[Cluster, ...]:
    """The callout's cluster, which may be empty, and the feedback's if the Service has it."""
    name = f"{key[0]}/{key[1]}"
    pick_port = services.named_port(service, PICK_PORT) if service is not None else None
    if service is None or pick_port is None:
        return (Cluster(f"picker/{name}", ClusterKind.PICKER),)
    addresses = _sockets(snapshot, key, service) or services.endpoints(snapshot, key, pick_port)
    found = [Cluster(f"picker/{name}", ClusterKind.PICKER, addresses, probed=True)]
    feedback = services.named_port(service, FEEDBACK_PORT)
    if feedback is not None:
        targets = services.endpoints(snapshot, key, feedback)
        found.append(Cluster(f"feedback/{name}", ClusterKind.FEEDBACK, targets))
    return tuple(found)


def _sockets(snapshot: Snapshot, key: Key, service: Service) -> tuple[Endpoint, ...]:
    """The Unix sockets that the Service's ready Pods announce."""
    selector = labels.from_labels(service.spec.selector)
    found = {
        Endpoint(pod.pick_socket)
        for pod in snapshot.ready_pods_by_namespace.get(key[0], ())
        if pod.pick_socket and selector.matches(pod.labels)
    }
    return tuple(sorted(found))
