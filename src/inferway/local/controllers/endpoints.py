"""EndpointSlices of Services: which Pods answer, on which ports, and whether they are ready.

``plan`` is pure. Knows Services, Pods and the slices that it wrote itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from inferway.api.resources import ENDPOINT_SLICES, PODS, SERVICES
from inferway.cluster.client import Object
from inferway.cluster.store import Change, Key
from inferway.cluster.workqueue import WorkQueue
from inferway.local.controllers import objects as o
from inferway.local.controllers.actions import Action, Create, Delete, Patch
from inferway.local.controllers.objects import Raw
from inferway.local.controllers.runtime import Context, Controller

COMPONENT = "endpoint-slice-controller"
SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
MANAGER = "endpointslice-controller.k8s.io"
HEADLESS = "service.kubernetes.io/headless"
# Kubernetes' default: small enough that one Pod's change is a small write.
ENDPOINTS_PER_SLICE_MAX = 100

Ports = tuple[tuple[str, int, str, str], ...]
"""(name, number, protocol, appProtocol) of each port."""


def plan(service: Raw, pods: Sequence[Raw], slices: Sequence[Raw]) -> list[Action]:
    """The writes that make the slices of a Service right."""
    own = [s for s in slices if o.labels(s).get(MANAGED_BY) == MANAGER]
    if o.deleting(service):
        return []
    selector = o.spec(service).get("selector")
    if not selector or o.spec(service).get("type") == "ExternalName":
        return [Delete(ENDPOINT_SLICES, s) for s in own if selector is None or not selector]
    groups: dict[Ports, list[Object]] = {}
    for pod in pods:
        if _matches(selector, pod):
            groups.setdefault(_ports(service, pod), []).append(_endpoint(service, pod))
    if not groups:
        # An empty slice with the Service's ports says that the Service is known.
        groups[_ports(service, {})] = []
    wanted = [
        (ports, endpoints[start : start + ENDPOINTS_PER_SLICE_MAX])
        for ports, endpoints in sorted(groups.items(), key=lambda item: str(item[0]))
        for start in range(0, max(len(endpoints), 1), ENDPOINTS_PER_SLICE_MAX)
    ]
    return _reconcile(service, wanted, own)


def _reconcile(
    service: Raw, wanted: Sequence[tuple[Ports, list[Object]]], own: Sequence[Raw]
) -> list[Action]:
    """Keeps slices with the same ports, changes others, makes and deletes the rest."""
    left = sorted((s for s in own if not o.deleting(s)), key=lambda s: (o.created_at(s), o.name(s)))
    actions: list[Action] = []
    fresh: list[tuple[Ports, list[Object]]] = []
    for ports, endpoints in wanted:
        match = next((s for s in left if s.get("ports") == _written(ports)), None)
        if match is None:
            fresh.append((ports, endpoints))
            continue
        left.remove(match)
        actions += _update(service, match, ports, endpoints)
    for ports, endpoints in fresh:
        if left:
            actions += _update(service, left.pop(0), ports, endpoints)
        else:
            actions.append(Create(ENDPOINT_SLICES, _slice(service, ports, endpoints)))
    return actions + [Delete(ENDPOINT_SLICES, s) for s in left]


def _update(service: Raw, current: Raw, ports: Ports, endpoints: list[Object]) -> list[Action]:
    # Endpoints keep their places, so that a change of one is a small difference.
    places = {
        str((e.get("targetRef") or {}).get("uid")): index
        for index, e in enumerate(current.get("endpoints") or ())
    }
    ordered = sorted(
        endpoints, key=lambda e: places.get(str(e["targetRef"].get("uid")), len(places))
    )
    wanted = _slice(service, ports, ordered)
    labels = wanted["metadata"]["labels"]
    patch: Object = {}
    if list(current.get("endpoints") or ()) != ordered:
        patch["endpoints"] = ordered
    if list(current.get("ports") or ()) != wanted["ports"]:
        patch["ports"] = wanted["ports"]
    if dict(o.labels(current)) != labels:
        gone = {key: None for key in o.labels(current) if key not in labels}
        patch["metadata"] = {"labels": {**labels, **gone}}
    return [Patch(ENDPOINT_SLICES, current, patch)] if patch else []


def _matches(selector: Raw, pod: Raw) -> bool:
    """Pods that have an address and can still answer; ending ones are told by conditions."""
    labels = o.labels(pod)
    return (
        all(labels.get(k) == v for k, v in selector.items())
        and bool(o.status(pod).get("podIP"))
        and not o.pod_finished(pod)
    )


def _ports(service: Raw, pod: Raw) -> Ports:
    """The Service's ports as numbers of this Pod; a name that the Pod lacks is left out."""
    result = []
    for port in o.spec(service).get("ports") or ():
        protocol = str(port.get("protocol") or "TCP")
        target = port.get("targetPort") or port.get("port")
        number = target if isinstance(target, int) else _named(pod, str(target), protocol)
        if number is not None:
            name = str(port.get("name") or "")
            result.append((name, number, protocol, str(port.get("appProtocol") or "")))
    return tuple(result)


def _named(pod: Raw, name: str, protocol: str) -> int | None:
    if name.isdigit():
        return int(name)
    spec = o.spec(pod)
    sidecars = [c for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"]
    for container in [*(spec.get("containers") or ()), *sidecars]:
        for port in container.get("ports") or ():
            if port.get("name") == name and (port.get("protocol") or "TCP") == protocol:
                return o.integer(port.get("containerPort"), 0) or None
    return None


def _endpoint(service: Raw, pod: Raw) -> Object:
    serving = o.pod_ready(pod)
    terminating = o.deleting(pod)
    publish = bool(o.spec(service).get("publishNotReadyAddresses"))
    endpoint: Object = {
        "addresses": [o.status(pod)["podIP"]],
        "conditions": {
            "ready": publish or (serving and not terminating),
            "serving": serving,
            "terminating": terminating,
        },
        "targetRef": {
            "kind": "Pod",
            "namespace": o.namespace(pod),
            "name": o.name(pod),
            "uid": o.uid(pod),
        },
    }
    node = o.spec(pod).get("nodeName")
    if node:
        endpoint["nodeName"] = node
    hostname = o.spec(pod).get("hostname")
    if hostname and o.spec(pod).get("subdomain") == o.name(service):
        endpoint["hostname"] = hostname
    return endpoint


def _written(ports: Ports) -> list[Object]:
    return [
        {
            "name": name,
            "port": number,
            "protocol": protocol,
            **({"appProtocol": app} if app else {}),
        }
        for name, number, protocol, app in ports
    ]


def _slice(service: Raw, ports: Ports, endpoints: list[Object]) -> Object:
    labels = {
        **{k: v for k, v in o.labels(service).items() if k != HEADLESS},
        SERVICE_NAME: o.name(service),
        MANAGED_BY: MANAGER,
    }
    if o.spec(service).get("clusterIP") == "None":
        labels[HEADLESS] = ""
    return {
        "apiVersion": ENDPOINT_SLICES.api_version,
        "kind": ENDPOINT_SLICES.kind,
        "metadata": {
            "generateName": f"{o.name(service)}-",
            "namespace": o.namespace(service),
            "labels": labels,
            "ownerReferences": [o.controller_reference(service, SERVICES)],
        },
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": _written(ports),
    }


def controller(context: Context) -> Controller:
    """The pump: Services, Pods and slices in, slices out."""
    queue: WorkQueue[Key] = WorkQueue("endpointslices")
    executor = context.executor(COMPONENT)
    context.caches.of(SERVICES).subscribe(queue.add)

    def pod_changed(change: Change[Object]) -> None:
        if _seen(change.old) == _seen(change.new):
            return
        for service in context.in_namespace(SERVICES, change.key.namespace):
            selector = o.spec(service).get("selector") or {}
            for pod in (change.old, change.new):
                labels = o.labels(pod) if pod is not None else {}
                if selector and all(labels.get(k) == v for k, v in selector.items()):
                    queue.add(Key(change.key.namespace, o.name(service)))

    def slice_changed(change: Change[Object]) -> None:
        for current in (change.old, change.new):
            service = o.labels(current).get(SERVICE_NAME) if current is not None else None
            if service:
                queue.add(Key(change.key.namespace, str(service)))

    context.caches.of(PODS).subscribe_changes(pod_changed)
    context.caches.of(ENDPOINT_SLICES).subscribe_changes(slice_changed)

    async def reconcile(key: Key) -> float | None:
        service = context.get(SERVICES, key)
        if service is None:
            # The garbage collector takes the slices, whose owner is gone.
            return None
        slices = [
            s
            for s in context.in_namespace(ENDPOINT_SLICES, key.namespace)
            if o.labels(s).get(SERVICE_NAME) == key.name
        ]
        pods = context.in_namespace(PODS, key.namespace)
        await executor.perform(plan(service, pods, slices))
        return None

    return Controller("endpointslices", queue, reconcile)


def _seen(pod: Raw | None) -> object:
    """What of a Pod shows in a slice."""
    if pod is None:
        return None
    spec = o.spec(pod)
    return (
        o.uid(pod),
        o.labels(pod),
        o.status(pod).get("podIP"),
        o.pod_ready(pod),
        o.deleting(pod),
        o.pod_finished(pod),
        spec.get("nodeName"),
    )
