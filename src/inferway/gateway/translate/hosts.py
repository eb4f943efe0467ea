"""Hosts of a port: which routes are asked, in which order, for which hostname.

A request belongs to the listener with the most specific hostname and to no other. Within it a
route whose hostname is more specific is asked first, and a wider one after it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from inferway.gateway.translate.hostnames import ANY, covering, specificity
from inferway.gateway.translate.ir import Host, Port, Route
from inferway.gateway.translate.rules import Candidate

_USUAL_PORTS = {"http": 80, "https": 443}


@dataclass(slots=True)
class HostTable:
    """Collects what listeners of one port serve; ``port`` makes the IR of it."""

    number: int
    listeners: dict[str, dict[str, list[Candidate]]] = field(default_factory=dict)

    def listen(self, hostname: str) -> None:
        """A listener; its own hostname is a host even without a route."""
        domain = hostname.lower() or ANY
        self.listeners.setdefault(domain, {}).setdefault(domain, [])

    def add(self, listener: str, hostnames: Iterable[str], candidates: Iterable[Candidate]) -> None:
        """Routes that attached to a listener under these hostnames."""
        found = list(candidates)
        domains = self.listeners[listener.lower() or ANY]
        for hostname in hostnames:
            domains.setdefault(hostname, []).extend(found)

    def port(self) -> Port:
        """The port with its hosts, sorted."""
        hosts = [
            Host(domain, tuple(_on_port(r, self.number) for r in _routes(domain, domains)))
            for listener, domains in self.listeners.items()
            for domain in domains
            if self._owner(domain) == listener
        ]
        return Port(self.number, tuple(sorted(hosts, key=lambda host: host.domain)))

    def _owner(self, domain: str) -> str | None:
        return next((name for name in covering(domain) if name in self.listeners), None)


def _routes(domain: str, domains: dict[str, list[Candidate]]) -> tuple[Route, ...]:
    ranked = [
        (specificity(name), candidate.rank, candidate.route)
        for name in covering(domain)
        for candidate in domains.get(name, ())
    ]
    ranked.sort(key=lambda item: item[:2])
    return tuple(dict.fromkeys(route for _, _, route in ranked))


def _on_port(route: Route, listener: int) -> Route:
    """The route with the port that its redirect names, which depends on the listener.

    Gateway API: the port that is written, else the scheme's usual one where a scheme is written,
    else the listener's. 0 leaves the request's own; that is right for a usual port, which a
    Location shall not show, where a hostname is written or where clients write no port because
    the listener has the usual one.
    """
    redirect = route.redirect
    if redirect is None:
        return route
    usual = _USUAL_PORTS.get(redirect.scheme or "http", 0)
    port = redirect.port or (usual if redirect.scheme else listener)
    if port == usual and (redirect.hostname or listener == _USUAL_PORTS["http"]):
        port = 0
    return replace(route, redirect=replace(redirect, port=port))
