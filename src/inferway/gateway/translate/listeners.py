"""Listeners of a Gateway: which can be served, which conflict, what their statuses say."""

from __future__ import annotations

from dataclasses import dataclass

from inferway.api.conditions import ConditionType, ListenerReason
from inferway.api.gateway import Gateway, Listener
from inferway.gateway.translate.verdicts import Object, Problem, condition, judged

HTTP_ROUTE_KIND = ("gateway.networking.k8s.io", "HTTPRoute")
# The port on which a proxy tells the kubelet that it is ready.
RESERVED_PORTS = (19001,)


@dataclass(frozen=True, slots=True)
class JudgedListener:
    """A listener with what is wrong with it. ``kinds``: what may attach, of what is known."""

    spec: Listener
    kinds: tuple[tuple[str, str], ...]
    accepted: tuple[Problem, ...]
    conflicts: tuple[Problem, ...]
    refs: tuple[Problem, ...]

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def hostname(self) -> str:
        return self.spec.hostname or ""

    @property
    def serves(self) -> bool:
        """Whether the proxies listen for it."""
        return not self.accepted and not self.conflicts

    @property
    def valid(self) -> bool:
        return self.serves and not self.refs


def judge(gateway: Gateway) -> tuple[JudgedListener, ...]:
    """All listeners in the order of the Gateway."""
    listeners = gateway.spec.listeners
    return tuple(
        JudgedListener(
            spec=item,
            kinds=_supported_kinds(item),
            accepted=tuple(_acceptance(item)),
            conflicts=tuple(_conflicts(item, listeners)),
            refs=tuple(_kind_problems(item)),
        )
        for item in listeners
    )


def status(listener: JudgedListener, attached: int, generation: int) -> Object:
    """The status of a listener, less Programmed, which the proxies decide."""
    conflicted = condition(
        ConditionType.CONFLICTED,
        bool(listener.conflicts),
        listener.conflicts[0].reason if listener.conflicts else ListenerReason.NO_CONFLICTS,
        listener.conflicts[0].message if listener.conflicts else "",
        generation,
    )
    # A listener in conflict is not accepted either; the reason stands in Conflicted.
    problems = list(listener.accepted) or list(listener.conflicts)
    return {
        "name": listener.name,
        "supportedKinds": [{"group": group, "kind": kind} for group, kind in listener.kinds],
        "attachedRoutes": attached,
        "conditions": [
            judged(ConditionType.ACCEPTED, problems, (ListenerReason.ACCEPTED, ""), generation),
            conflicted,
            judged(
                ConditionType.RESOLVED_REFS,
                list(listener.refs),
                (ListenerReason.RESOLVED_REFS, ""),
                generation,
            ),
        ],
    }


def _acceptance(listener: Listener) -> list[Problem]:
    if listener.protocol != "HTTP":
        return [
            Problem(
                ListenerReason.UNSUPPORTED_PROTOCOL,
                f"Protocol {listener.protocol} is not supported; use HTTP.",
            )
        ]
    if listener.port in RESERVED_PORTS:
        return [
            Problem(
                ListenerReason.PORT_UNAVAILABLE,
                f"Port {listener.port} is used by the proxy's own readiness listener.",
            )
        ]
    return []


def _conflicts(listener: Listener, listeners: tuple[Listener, ...]) -> list[Problem]:
    """Equal listeners are all refused: none of them has a better right than the other."""
    for other in listeners:
        if other is listener or other.port != listener.port:
            continue
        if _family(other) != _family(listener):
            return [
                Problem(
                    ListenerReason.PROTOCOL_CONFLICT,
                    f"Listener {other.name} uses port {listener.port} with protocol "
                    f"{other.protocol}.",
                )
            ]
        if (other.hostname or "").lower() == (listener.hostname or "").lower():
            return [
                Problem(
                    ListenerReason.HOSTNAME_CONFLICT,
                    f"Listener {other.name} has the same port and hostname.",
                )
            ]
    return []


def _family(listener: Listener) -> str:
    """HTTPS and TLS are told apart by SNI and share a port."""
    return "TLS" if listener.protocol in ("HTTPS", "TLS") else listener.protocol


def _allowed(listener: Listener) -> list[tuple[str, str]]:
    routes = listener.allowed_routes
    kinds = routes.kinds if routes is not None else ()
    return [(item.group or HTTP_ROUTE_KIND[0], item.kind) for item in kinds]


def _supported_kinds(listener: Listener) -> tuple[tuple[str, str], ...]:
    if listener.protocol not in ("HTTP", "HTTPS"):
        return ()
    wanted = _allowed(listener)
    if not wanted or HTTP_ROUTE_KIND in wanted:
        return (HTTP_ROUTE_KIND,)
    return ()


def _kind_problems(listener: Listener) -> list[Problem]:
    return [
        Problem(ListenerReason.INVALID_ROUTE_KINDS, f"Routes of kind {kind} are not supported.")
        for group, kind in _allowed(listener)
        if (group, kind) != HTTP_ROUTE_KIND
    ]
