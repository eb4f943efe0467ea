"""Services as backends: their ready endpoints at one port."""

from __future__ import annotations

from inferway.api.core import Service, ServicePort
from inferway.gateway.translate.ir import Endpoint
from inferway.gateway.translate.snapshot import Key, Snapshot

_ADDRESS_TYPES = ("IPv4", "IPv6")


def port_of(service: Service, number: int) -> ServicePort | None:
    """The port of a Service with this number."""
    return next((port for port in service.spec.ports if port.port == number), None)


def named_port(service: Service, name: str) -> ServicePort | None:
    """The port of a Service with this name."""
    return next((port for port in service.spec.ports if port.name == name), None)


def endpoints(snapshot: Snapshot, key: Key, port: ServicePort) -> tuple[Endpoint, ...]:
    """Ready addresses behind a port of a Service, sorted.

    From EndpointSlices and never from the cluster address, which would hide the single servers.
    """
    found = set()
    for item in snapshot.slices_by_service.get(key, ()):
        if item.address_type not in _ADDRESS_TYPES:
            continue
        number = next((p.port for p in item.ports if p.name == port.name), None)
        if number is None:
            continue
        for endpoint in item.endpoints:
            if endpoint.ready and endpoint.addresses:
                # All addresses of an entry are the same server.
                found.add(Endpoint(endpoint.addresses[0], number))
    return tuple(sorted(found))
