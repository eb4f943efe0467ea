"""Services and EndpointSlices."""

from __future__ import annotations

from typing import Any

from inferway.api.codec import Object
from inferway.api.judging import words
from inferway.api.judging.words import Errors
from inferway.api.schema import errors

_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_ADDRESS_TYPES = ("FQDN", "IPv4", "IPv6")
HEADLESS = "None"


def judge(service: Object, old: Object | None) -> Errors:
    """What may change of an address is the API server's business."""
    spec = service.get("spec") or {}
    kind, address = spec.get("type"), spec.get("clusterIP") or ""
    yield from words.one_of("spec.type", kind, _TYPES)
    yield from words.one_of(
        "spec.sessionAffinity", spec.get("sessionAffinity"), ("ClientIP", "None")
    )
    yield from words.labels("spec.selector", spec.get("selector"))
    if kind == "ExternalName":
        name = (spec.get("externalName") or "").rstrip(".")
        if not name:
            yield errors.required("spec.externalName")
        else:
            yield from words.dns_subdomain("spec.externalName", name)
        if address:
            text = "may not be set for ExternalName services"
            yield errors.forbidden("spec.clusterIPs[0]", text)
    elif address == HEADLESS and kind in ("LoadBalancer", "NodePort"):
        text = f"may not be set to 'None' for {kind} services"
        yield errors.invalid("spec.clusterIPs[0]", spec.get("clusterIPs") or [address], text)
    elif address and address != HEADLESS:
        yield from words.ip("spec.clusterIPs[0]", address)
    for place, external in enumerate(spec.get("externalIPs") or ()):
        yield from words.ip(f"spec.externalIPs[{place}]", external)
    ports = spec.get("ports") or []
    if not ports and kind != "ExternalName" and address != HEADLESS:
        yield errors.required("spec.ports")
    yield from _ports(ports)


def _ports(ports: list[Any]) -> Errors:
    names: set[str] = set()
    used: set[tuple[Any, Any]] = set()
    for place, port in enumerate(ports):
        here = f"spec.ports[{place}]"
        name = port.get("name") or ""
        if not name and len(ports) > 1:
            yield errors.required(f"{here}.name")
        elif name:
            yield from words.dns_label(f"{here}.name", name)
            if name in names:
                yield errors.duplicate(f"{here}.name", name)
        names.add(name)
        yield from words.port_number(f"{here}.port", port.get("port") or 0)
        yield from words.one_of(f"{here}.protocol", port.get("protocol"), _PROTOCOLS)
        yield from words.port(f"{here}.targetPort", port.get("targetPort") or 0)
        key = (port.get("protocol"), port.get("port"))
        if key in used:
            yield errors.duplicate(here, _shown(*key))
        used.add(key)


def _shown(protocol: Any, port: Any) -> Object:
    """A port as Kubernetes shows it: its internal form with the two fields that are not unique."""
    return {
        "Name": "",
        "Protocol": protocol,
        "AppProtocol": None,
        "Port": port,
        "TargetPort": 0,
        "NodePort": 0,
    }


def judge_endpoint_slice(endpoint_slice: Object, old: Object | None) -> Errors:
    kind = endpoint_slice.get("addressType")
    if not kind:
        yield errors.required("addressType")
    else:
        yield from words.one_of("addressType", kind, _ADDRESS_TYPES)
    for place, endpoint in enumerate(endpoint_slice.get("endpoints") or ()):
        here = f"endpoints[{place}].addresses"
        addresses = endpoint.get("addresses") or ()
        if not addresses:
            yield errors.required(here, "must contain at least 1 address")
        if kind in ("IPv4", "IPv6"):
            for number, address in enumerate(addresses):
                yield from words.ip(f"{here}[{number}]", address)
    names: set[str] = set()
    for place, port in enumerate(endpoint_slice.get("ports") or ()):
        here = f"ports[{place}]"
        name = port.get("name") or ""
        if name:
            yield from words.dns_label(f"{here}.name", name)
        if name in names:
            yield errors.duplicate(f"{here}.name", name)
        names.add(name)
        yield from words.one_of(f"{here}.protocol", port.get("protocol"), _PROTOCOLS)
    if old is not None:
        yield from words.unchanged("addressType", kind, old.get("addressType"))
