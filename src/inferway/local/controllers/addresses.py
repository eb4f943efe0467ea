"""Addresses of Services: a clusterIP for each, and another one for a load balancer.

``plan`` is pure. What is taken is read from all Services, so addresses are remembered in the
objects and freed by their deletion. A Service gets the address that its name points to, if that
is free: the same Service made again answers at the same place.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from ipaddress import IPv4Address, IPv4Network

from inferway.api.resources import SERVICES
from inferway.cluster.client import Object
from inferway.cluster.store import Change, Key
from inferway.cluster.workqueue import WorkQueue
from inferway.local.controllers import objects as o
from inferway.local.controllers.actions import Action, Note, Patch
from inferway.local.controllers.objects import Raw
from inferway.local.controllers.pod_template import fnv1a_32
from inferway.local.controllers.runtime import Context, Controller

COMPONENT = "service-controller"


def cluster_ip(service: Raw) -> str:
    """The address of a Service; empty if it has none, or is headless."""
    value = str(o.spec(service).get("clusterIP") or "")
    return "" if value == "None" else value


def balancer_ips(service: Raw) -> list[str]:
    ingress = (o.status(service).get("loadBalancer") or {}).get("ingress") or ()
    return [str(entry["ip"]) for entry in ingress if entry.get("ip")]


def taken(services: Iterable[Raw]) -> set[str]:
    """All addresses that Services have."""
    result: set[str] = set()
    for service in services:
        if cluster_ip(service):
            result.add(cluster_ip(service))
        result.update(balancer_ips(service))
    return result


def pick(network: IPv4Network, used: Set[str], hint: str) -> str | None:
    """The first free address from where ``hint`` points to; None if all are taken.

    The first and the last address stay free, as contracts.md says.
    """
    size = network.num_addresses - 2
    start = fnv1a_32(hint.encode()) % size
    for step in range(size):
        address = str(IPv4Address(int(network.network_address) + 1 + (start + step) % size))
        if address not in used:
            return address
    return None


def plan(service: Raw, used: Set[str], network: IPv4Network) -> list[Action]:
    """The addresses that a Service lacks."""
    spec = o.spec(service)
    kind = spec.get("type") or "ClusterIP"
    if o.deleting(service):
        return []
    if kind == "ExternalName":
        return []
    actions: list[Action] = []
    used = set(used)
    place = f"{o.namespace(service)}/{o.name(service)}"
    if not spec.get("clusterIP"):
        address = pick(network, used, place)
        if address is None:
            return [_exhausted(service, network, "cluster IP")]
        used.add(address)
        patch = {"spec": {"clusterIP": address, "clusterIPs": [address]}}
        actions.append(Patch(SERVICES, service, patch))
    balancer = balancer_ips(service)
    if kind == "LoadBalancer" and not spec.get("loadBalancerClass") and not balancer:
        actions += _balance(service, used, network, place)
    elif kind != "LoadBalancer" and balancer:
        cleared = {"status": {"loadBalancer": {"ingress": None}}}
        actions.append(Patch(SERVICES, service, cleared, subresource="status"))
    return actions


def _balance(service: Raw, used: set[str], network: IPv4Network, place: str) -> list[Action]:
    asked = str(o.spec(service).get("loadBalancerIP") or "")
    if asked:
        try:
            inside = IPv4Address(asked) in network
        except ValueError:
            inside = False
        if not inside or asked in used:
            why = "is taken" if inside else f"is not in {network}"
            message = f"Error syncing load balancer: the address {asked} {why}"
            return [Note(service, "Warning", "SyncLoadBalancerFailed", message)]
    address = asked or pick(network, used, f"{place}/load-balancer")
    if address is None:
        return [_exhausted(service, network, "load balancer address")]
    patch = {"status": {"loadBalancer": {"ingress": [{"ip": address, "ipMode": "VIP"}]}}}
    return [
        Patch(SERVICES, service, patch, subresource="status"),
        Note(service, "Normal", "EnsuredLoadBalancer", "Ensured load balancer"),
    ]


def _exhausted(service: Raw, network: IPv4Network, what: str) -> Note:
    message = (
        f"No free {what}: all {network.num_addresses - 2} addresses of {network} are in use; "
        "delete Services that are not needed"
    )
    return Note(service, "Warning", "AddressRangeExhausted", message)


def controller(context: Context) -> Controller:
    """The pump, with one worker: two Services must not get the same address."""
    queue: WorkQueue[Key] = WorkQueue("services")
    executor = context.executor(COMPONENT)
    services = context.caches.of(SERVICES)
    in_vain: dict[Key, None] = {}

    def changed(change: Change[Object]) -> None:
        queue.add(change.key)
        if change.new is None:
            # An address is free again.
            for key in in_vain:
                queue.add(key)
            in_vain.clear()

    services.subscribe_changes(changed)

    async def reconcile(key: Key) -> float | None:
        service = context.get(SERVICES, key)
        if service is None:
            return None
        used = taken(services.store.values())
        actions = plan(service, used, context.options.service_network)
        if any(isinstance(a, Note) and a.reason == "AddressRangeExhausted" for a in actions):
            in_vain[key] = None
        await executor.perform(actions)
        return None

    return Controller("services", queue, reconcile, workers=1)
