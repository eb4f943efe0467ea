"""Which listeners a route attaches to, for each of its parentRefs."""

from __future__ import annotations

from dataclasses import dataclass

from inferway.api import labels
from inferway.api.conditions import RouteReason
from inferway.api.gateway import Gateway, HTTPRoute, ParentReference
from inferway.gateway.translate.hostnames import intersect
from inferway.gateway.translate.listeners import HTTP_ROUTE_KIND, JudgedListener
from inferway.gateway.translate.snapshot import Key, Snapshot
from inferway.gateway.translate.verdicts import Problem

GATEWAY_GROUP = "gateway.networking.k8s.io"


@dataclass(frozen=True, slots=True)
class Attachment:
    """The hostnames under which one listener serves a route."""

    listener: JudgedListener
    hostnames: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Attached:
    """What came of one parentRef: attachments, or the problem."""

    parent: ParentReference
    gateway: Key
    attachments: tuple[Attachment, ...] = ()
    problem: Problem | None = None


def gateway_of(route: HTTPRoute, parent: ParentReference) -> Key | None:
    """The key of the Gateway that a parentRef names; None for another kind of parent."""
    if (parent.group or GATEWAY_GROUP) != GATEWAY_GROUP or (parent.kind or "Gateway") != "Gateway":
        return None
    return (parent.namespace or route.metadata.namespace, parent.name)


def attach(
    snapshot: Snapshot,
    route: HTTPRoute,
    parent: ParentReference,
    gateway: Gateway,
    listeners: tuple[JudgedListener, ...],
) -> Attached:
    """Tries a parentRef at a Gateway. The first hurdle that nothing passes gives the reason."""
    key = (gateway.metadata.namespace, gateway.metadata.name)
    named = [item for item in listeners if _named(parent, item)]
    if not named:
        where = " ".join(
            text
            for text in (
                f"named {parent.section_name}" if parent.section_name else "",
                f"on port {parent.port}" if parent.port else "",
            )
            if text
        )
        message = f"The Gateway has no listener {where}.".replace(" .", ".")
        return _failed(parent, key, RouteReason.NO_MATCHING_PARENT, message)
    allowed = [item for item in named if _allows(snapshot, item, gateway, route)]
    if not allowed:
        message = (
            f"No listener of the Gateway allows HTTPRoutes of namespace {route.metadata.namespace}."
        )
        return _failed(parent, key, RouteReason.NOT_ALLOWED_BY_LISTENERS, message)
    attachments = []
    for item in allowed:
        hostnames = _hostnames(item, route)
        if hostnames:
            attachments.append(Attachment(item, hostnames))
    if not attachments:
        message = "No hostname of the route matches the hostname of a listener."
        return _failed(parent, key, RouteReason.NO_MATCHING_LISTENER_HOSTNAME, message)
    return Attached(parent, key, tuple(attachments))


def _failed(parent: ParentReference, key: Key, reason: RouteReason, message: str) -> Attached:
    return Attached(parent, key, problem=Problem(reason, message))


def _named(parent: ParentReference, listener: JudgedListener) -> bool:
    if parent.section_name and parent.section_name != listener.name:
        return False
    return not parent.port or parent.port == listener.spec.port


def _allows(
    snapshot: Snapshot, listener: JudgedListener, gateway: Gateway, route: HTTPRoute
) -> bool:
    if HTTP_ROUTE_KIND not in listener.kinds:
        return False
    allowed = listener.spec.allowed_routes
    namespaces = allowed.namespaces if allowed is not None else None
    source = (namespaces.from_ if namespaces is not None else "") or "Same"
    if source == "All":
        return True
    if source == "Same":
        return route.metadata.namespace == gateway.metadata.namespace
    if source == "Selector" and namespaces is not None:
        try:
            selector = labels.from_label_selector(namespaces.selector)
        except ValueError:
            return False
        return selector.matches(snapshot.namespace_labels(route.metadata.namespace))
    return False


def _hostnames(listener: JudgedListener, route: HTTPRoute) -> tuple[str, ...]:
    wanted = [name.lower() for name in route.spec.hostnames or ()] or [""]
    found = (intersect(listener.hostname.lower(), name) for name in wanted)
    return tuple(dict.fromkeys(name for name in found if name is not None))
