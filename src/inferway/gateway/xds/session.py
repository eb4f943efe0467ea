"""One proxy's delta ADS stream as a machine without I/O.

Knows subscriptions, versions, nonces, acknowledgements and the order in which changes are safe:
clusters and their endpoints first, then listeners, then routes; clusters are removed only after
everything that could use them was acknowledged. Does not know what a resource means.

Route tables and endpoints go out one to a message, because a bad one spoils its neighbours in a
message, and the refusal does not name it. Clusters and listeners are refused one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from inferway.gateway.envoy.names import CLUSTER_TYPE, ENDPOINT_TYPE, LISTENER_TYPE, ROUTE_TYPE
from inferway.gateway.envoy.resources import Resource, Resources

# In the order of making; breaking goes the other way.
TYPES = (CLUSTER_TYPE, ENDPOINT_TYPE, LISTENER_TYPE, ROUTE_TYPE)
_ONE_PER_MESSAGE = frozenset({ENDPOINT_TYPE, ROUTE_TYPE})
_WILDCARD = "*"
_ABSENT = ""


@dataclass(frozen=True, slots=True)
class Request:
    """What the proxy sent. ``error`` is set in a refusal."""

    type_url: str
    nonce: str = ""
    subscribe: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()
    initial_versions: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Publish:
    """What the proxy should have from this moment on; ``sequence`` grows."""

    resources: Resources
    sequence: int


@dataclass(frozen=True, slots=True)
class Overdue:
    """The proxy did not follow in time: what waits for an order is sent anyway."""


@dataclass(frozen=True, slots=True)
class Send:
    """A message to the proxy."""

    type_url: str
    nonce: str
    resources: tuple[Resource, ...] = ()
    removed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Settled:
    """The proxy has acknowledged all of a published sequence."""

    sequence: int


@dataclass(frozen=True, slots=True)
class Accepted:
    """The proxy took these versions: (name, version) pairs of one type."""

    type_url: str
    versions: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """The proxy refused one version of one resource, and keeps what it had."""

    type_url: str
    name: str
    version: str
    message: str


Event = Request | Publish | Overdue
Command = Send | Settled | Accepted | Refused


@dataclass(slots=True)
class _InFlight:
    versions: dict[str, str]
    removed: tuple[str, ...]


class _Type:
    """The state of one type on the stream."""

    def __init__(self) -> None:
        self.started = False
        self.wildcard = False
        self.names: set[str] = set()
        self.sent: dict[str, str] = {}
        self.acked: dict[str, str] = {}
        self.refused: dict[str, str] = {}
        self.in_flight: dict[str, _InFlight] = {}

    def changed(self, target: Mapping[str, Resource]) -> list[Resource]:
        """What is subscribed and differs from what was sent, by name."""
        if self.wildcard:
            wanted: Iterable[Resource] = target.values()
        else:
            wanted = (target[name] for name in sorted(self.names) if name in target)
        return [item for item in wanted if self.sent.get(item.name) != item.version]

    def missing(self, target: Mapping[str, Resource]) -> tuple[str, ...]:
        """Names that the proxy has or asks for and that do not exist."""
        names = set(self.sent)
        if not self.wildcard:
            names |= self.names
        return tuple(
            sorted(name for name in names if name not in target and self.sent.get(name) != _ABSENT)
        )

    def has(self, resource: Resource) -> bool:
        """Whether the proxy has answered for this version, either way."""
        known = (self.acked.get(resource.name), self.refused.get(resource.name))
        return resource.version in known


class Session:
    """``handle`` takes what happened and returns what to do, in order."""

    def __init__(self) -> None:
        self._types = {url: _Type() for url in TYPES}
        self._target: Resources | None = None
        self._sequence = 0
        self._settled = 0
        self._nonce = 0
        self._overdue = False

    @property
    def settled(self) -> bool:
        """Whether nothing is on its way or waits."""
        return self._settled == self._sequence

    def handle(self, event: Event) -> list[Command]:
        commands: list[Command] = []
        if isinstance(event, Publish):
            self._target, self._sequence = event.resources, event.sequence
            self._overdue = False
        elif isinstance(event, Overdue):
            self._overdue = True
        elif event.type_url in self._types:
            commands += self._request(self._types[event.type_url], event)
        else:
            # Nothing of another type is ever configured; an empty answer ends the proxy's wait.
            return self._unknown(event)
        if self._target is not None:
            commands += self._advance(self._target)
        return commands

    def _unknown(self, request: Request) -> list[Command]:
        names = tuple(sorted(name for name in request.subscribe if name != _WILDCARD))
        return [Send(request.type_url, self._next_nonce(), (), names)] if names else []

    def _request(self, state: _Type, request: Request) -> list[Command]:
        commands = self._answer(state, request)
        if not state.started:
            state.started = True
            # The first request of a type without names asks for all of it.
            state.wildcard = not request.subscribe
            for name, version in request.initial_versions.items():
                state.sent[name] = state.acked[name] = version
        for name in request.subscribe:
            if name == _WILDCARD:
                state.wildcard = True
                continue
            state.names.add(name)
            if name not in request.initial_versions:
                # A name that is asked for anew is answered anew, even if nothing changed.
                state.sent.pop(name, None)
                state.acked.pop(name, None)
        for name in request.unsubscribe:
            if name == _WILDCARD:
                state.wildcard = False
                continue
            state.names.discard(name)
            if not state.wildcard:
                state.sent.pop(name, None)
                state.acked.pop(name, None)
        return commands

    def _answer(self, state: _Type, request: Request) -> list[Command]:
        flight = state.in_flight.pop(request.nonce, None)
        if flight is None:
            return []
        bad: set[str] = set()
        if request.error is not None:
            bad = {name for name in flight.versions if name in request.error}
            bad = bad or set(flight.versions)
        commands: list[Command] = []
        good = []
        for name, version in flight.versions.items():
            if name in bad:
                state.refused[name] = version
                message = request.error or ""
                commands.append(Refused(request.type_url, name, version, message))
            else:
                state.refused.pop(name, None)
                state.acked[name] = version
                good.append((name, version))
        for name in flight.removed:
            if state.sent.get(name) == _ABSENT and name not in state.names:
                del state.sent[name]
            state.acked.pop(name, None)
        if good:
            commands.append(Accepted(request.type_url, tuple(good)))
        return commands

    def _advance(self, target: Resources) -> list[Command]:
        commands: list[Command] = []
        clusters, endpoints = self._types[CLUSTER_TYPE], self._types[ENDPOINT_TYPE]
        listeners, routes = self._types[LISTENER_TYPE], self._types[ROUTE_TYPE]
        changed = clusters.changed(target[CLUSTER_TYPE])
        commands += self._send(CLUSTER_TYPE, changed)
        self._rewarm(changed)
        commands += self._send(ENDPOINT_TYPE, endpoints.changed(target[ENDPOINT_TYPE]))
        # A cluster that is there keeps its endpoints until it goes itself.
        lost = (
            name
            for name in endpoints.missing(target[ENDPOINT_TYPE])
            if clusters.sent.get(name, _ABSENT) == _ABSENT
        )
        commands += self._remove(ENDPOINT_TYPE, tuple(lost))
        if self._overdue or self._warm(target):
            commands += self._send(LISTENER_TYPE, listeners.changed(target[LISTENER_TYPE]))
            commands += self._remove(LISTENER_TYPE, listeners.missing(target[LISTENER_TYPE]))
            commands += self._send(ROUTE_TYPE, routes.changed(target[ROUTE_TYPE]))
            commands += self._remove(ROUTE_TYPE, routes.missing(target[ROUTE_TYPE]))
            if self._overdue or self._routed(target):
                commands += self._remove(CLUSTER_TYPE, clusters.missing(target[CLUSTER_TYPE]))
        if self._sequence > self._settled and self._complete(target):
            self._settled = self._sequence
            commands.append(Settled(self._sequence))
        return commands

    def _rewarm(self, changed: list[Resource]) -> None:
        """A changed cluster waits for its endpoints anew, and the proxy does not ask for them,
        because it is subscribed already: they are sent again."""
        endpoints = self._types[ENDPOINT_TYPE]
        for cluster in changed:
            endpoints.sent.pop(cluster.name, None)
            endpoints.acked.pop(cluster.name, None)

    def _warm(self, target: Resources) -> bool:
        """All clusters are answered for, and the good ones have their endpoints."""
        clusters, endpoints = self._types[CLUSTER_TYPE], self._types[ENDPOINT_TYPE]
        for name, cluster in target[CLUSTER_TYPE].items():
            if not clusters.has(cluster):
                return False
            assignment = target[ENDPOINT_TYPE].get(name)
            refused = clusters.refused.get(name) == cluster.version
            if assignment is not None and not refused and not endpoints.has(assignment):
                return False
        return True

    def _routed(self, target: Resources) -> bool:
        """All listeners and route tables are answered for, removals too."""
        listeners, routes = self._types[LISTENER_TYPE], self._types[ROUTE_TYPE]
        if listeners.in_flight or routes.in_flight:
            return False
        if not all(listeners.has(item) for item in target[LISTENER_TYPE].values()):
            return False
        refused = all(
            listeners.refused.get(item.name) == item.version
            for item in target[LISTENER_TYPE].values()
        )
        if refused or not target[ROUTE_TYPE]:
            return True
        return routes.started and all(
            routes.has(item) or item.name not in routes.names
            for item in target[ROUTE_TYPE].values()
        )

    def _complete(self, target: Resources) -> bool:
        if any(state.in_flight for state in self._types.values()):
            return False
        if not self._warm(target) or not self._routed(target):
            return False
        listeners, routes = self._types[LISTENER_TYPE], self._types[ROUTE_TYPE]
        for name, table in target[ROUTE_TYPE].items():
            listener = target[LISTENER_TYPE].get(name)
            # A table goes by the name of its listener, and without one nobody asks for it.
            if listener is None or listeners.refused.get(name) == listener.version:
                continue
            if not routes.has(table):
                return False
        return not self._types[CLUSTER_TYPE].missing(target[CLUSTER_TYPE])

    def _send(self, type_url: str, resources: list[Resource]) -> list[Command]:
        state = self._types[type_url]
        if not resources or not state.started:
            return []
        size = 1 if type_url in _ONE_PER_MESSAGE else len(resources)
        commands: list[Command] = []
        for start in range(0, len(resources), size):
            part = tuple(resources[start : start + size])
            nonce = self._next_nonce()
            state.in_flight[nonce] = _InFlight({item.name: item.version for item in part}, ())
            for item in part:
                state.sent[item.name] = item.version
                # What the proxy said of an earlier sending does not answer this one.
                state.acked.pop(item.name, None)
                state.refused.pop(item.name, None)
            commands.append(Send(type_url, nonce, part))
        return commands

    def _remove(self, type_url: str, names: tuple[str, ...]) -> list[Command]:
        state = self._types[type_url]
        if not names or not state.started:
            return []
        nonce = self._next_nonce()
        state.in_flight[nonce] = _InFlight({}, names)
        for name in names:
            state.sent[name] = _ABSENT
            state.acked.pop(name, None)
        return [Send(type_url, nonce, (), names)]

    def _next_nonce(self) -> str:
        self._nonce += 1
        return str(self._nonce)
