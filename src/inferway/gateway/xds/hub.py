"""All connected proxies and what each of them should have.

Knows Gateways by their key (``namespace/name``), and tells how far their proxies are. Runs in one
event loop and never waits; the pump moves the messages.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from inferway.gateway.envoy.listener import Site, is_wildcard
from inferway.gateway.envoy.resources import Built, Resources
from inferway.gateway.xds.lastgood import LastGood
from inferway.gateway.xds.session import (
    Accepted,
    Command,
    Event,
    Overdue,
    Publish,
    Refused,
    Request,
    Send,
    Session,
    Settled,
)


@dataclass(frozen=True, slots=True)
class Node:
    """Who a proxy says it is."""

    id: str
    gateway: str
    site: Site


@dataclass(frozen=True, slots=True)
class Refusal:
    """A resource that proxies refuse, in Envoy's words."""

    type_url: str
    name: str
    message: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a Gateway's proxies are. ``settled`` is the newest tag that all of them have."""

    connected: int = 0
    behind: int = 0
    settled: int = 0
    moved_ports: tuple[tuple[int, int], ...] = ()
    refusals: tuple[Refusal, ...] = ()


class Connection:
    """One proxy's stream; ``outbox`` is called with each message for it."""

    def __init__(self, hub: Hub, node: Node, outbox: Callable[[Send], None]) -> None:
        self.node = node
        self.session = Session()
        self._hub = hub
        self._outbox = outbox

    def receive(self, request: Request) -> None:
        self.feed(request)

    def overdue(self) -> None:
        """Tells that the proxy has been given time enough."""
        if not self.session.settled:
            self.feed(Overdue())

    def close(self) -> None:
        self._hub.disconnect(self)

    def feed(self, event: Event) -> None:
        for command in self.session.handle(event):
            if isinstance(command, Send):
                self._outbox(command)
            else:
                self._hub.note(self, command)


class _Fleet:
    """The proxies of one Gateway."""

    def __init__(self) -> None:
        self.built: Built | None = None
        self.tag = 0
        self.sequence = 0
        self.settled_tag = 0
        self.last_good = LastGood()
        self.connections: list[Connection] = []


class Hub:
    """``on_change`` is called with a Gateway's key when the progress of its proxies changed."""

    def __init__(self, on_change: Callable[[str], None]) -> None:
        self._on_change = on_change
        self._fleets: dict[str, _Fleet] = {}
        self._republish: set[str] = set()

    def publish(self, key: str, built: Built, tag: int) -> None:
        """Makes ``built`` what the proxies of a Gateway should have. ``tag`` never falls."""
        fleet = self._fleets.setdefault(key, _Fleet())
        fleet.built, fleet.tag = built, tag
        # Names are the same at every site; one that is in use is built anyway.
        site = fleet.connections[0].node.site if fleet.connections else Site()
        fleet.last_good.forget(built.at(site))
        self._push(key, fleet)

    def withdraw(self, key: str) -> None:
        """The Gateway is gone; its proxies keep what they have until they end."""
        fleet = self._fleets.get(key)
        if fleet is not None:
            fleet.built = None
            if not fleet.connections:
                del self._fleets[key]

    def connect(self, node: Node, outbox: Callable[[Send], None]) -> Connection:
        fleet = self._fleets.setdefault(node.gateway, _Fleet())
        connection = Connection(self, node, outbox)
        fleet.connections.append(connection)
        if fleet.built is not None:
            connection.feed(Publish(self._target(fleet, node.site), fleet.sequence))
        self._on_change(node.gateway)
        return connection

    def disconnect(self, connection: Connection) -> None:
        key = connection.node.gateway
        fleet = self._fleets[key]
        fleet.connections.remove(connection)
        if fleet.built is None and not fleet.connections:
            del self._fleets[key]
        self._check(key, fleet)
        self._on_change(key)

    def progress(self, key: str) -> Progress:
        fleet = self._fleets.get(key)
        if fleet is None:
            return Progress()
        sites = sorted({connection.node.site for connection in fleet.connections})
        moved = {}
        refusals: dict[tuple[str, str], str] = {}
        if fleet.built is not None:
            for site in sites:
                for port in fleet.built.gateway.ports:
                    # The wildcard address is a cluster's Pod, where the Service maps the port.
                    if site.bound_port(port.number) != port.number and not is_wildcard(
                        site.bind_address
                    ):
                        moved[port.number] = site.bound_port(port.number)
                refusals |= fleet.last_good.refusals(fleet.built.at(site))
        return Progress(
            connected=len(fleet.connections),
            behind=sum(not item.session.settled for item in fleet.connections),
            settled=fleet.settled_tag,
            moved_ports=tuple(sorted(moved.items())),
            refusals=tuple(Refusal(url, name, text) for (url, name), text in refusals.items()),
        )

    @property
    def connected(self) -> int:
        """Proxies of all Gateways."""
        return sum(len(fleet.connections) for fleet in self._fleets.values())

    def note(self, connection: Connection, command: Command) -> None:
        """Takes what a session found out."""
        key = connection.node.gateway
        fleet = self._fleets[key]
        if isinstance(command, Settled):
            self._check(key, fleet)
            self._on_change(key)
        elif isinstance(command, Accepted) and fleet.built is not None:
            wanted = fleet.built.at(connection.node.site)[command.type_url]
            for name, version in command.versions:
                resource = wanted.get(name)
                if resource is not None and resource.version == version:
                    fleet.last_good.accepted(command.type_url, resource)
        elif isinstance(command, Refused):
            fresh = fleet.last_good.refused(
                command.type_url, command.name, command.version, command.message
            )
            if fresh:
                self._republish.add(key)
                self._on_change(key)

    def retry(self) -> None:
        """Offers once more what was refused; the cause can be gone, such as a port in use."""
        for key, fleet in self._fleets.items():
            if fleet.built is not None and fleet.last_good.retry():
                self._push(key, fleet)

    def flush(self) -> None:
        """Publishes again where a refusal changed what proxies may have."""
        while self._republish:
            key = self._republish.pop()
            fleet = self._fleets.get(key)
            if fleet is not None and fleet.built is not None:
                self._push(key, fleet)

    def _push(self, key: str, fleet: _Fleet) -> None:
        fleet.sequence += 1
        targets: dict[Site, Resources] = {}
        for connection in list(fleet.connections):
            site = connection.node.site
            if site not in targets:
                targets[site] = self._target(fleet, site)
            connection.feed(Publish(targets[site], fleet.sequence))
        self._check(key, fleet)
        self._on_change(key)

    def _target(self, fleet: _Fleet, site: Site) -> Resources:
        assert fleet.built is not None
        return fleet.last_good.effective(fleet.built.at(site))

    def _check(self, key: str, fleet: _Fleet) -> None:
        everyone = all(item.session.settled for item in fleet.connections)
        if fleet.connections and everyone:
            fleet.settled_tag = fleet.tag


__all__ = ["Connection", "Hub", "Node", "Progress", "Refusal"]
