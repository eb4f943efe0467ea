"""The intermediate representation: what a Gateway's proxies must do, in words of neither side.

Knows no Kubernetes type and no Envoy type. Values are sorted by the translator, so that equal
input gives equal bytes. Durations are seconds; ``None`` is "no limit".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class MatchKind(StrEnum):
    """How a path, header or query value is compared."""

    EXACT = "exact"
    PREFIX = "prefix"
    REGEX = "regex"


@dataclass(frozen=True, slots=True)
class PathMatch:
    """A prefix matches whole path elements; ``/`` matches everything."""

    kind: MatchKind = MatchKind.PREFIX
    value: str = "/"


@dataclass(frozen=True, slots=True)
class ValueMatch:
    """A header (name in lower case) or a query parameter; ``kind`` is exact or regex."""

    name: str
    value: str
    kind: MatchKind = MatchKind.EXACT


@dataclass(frozen=True, slots=True)
class RequestMatch:
    """All parts must hold; an empty method is any method."""

    path: PathMatch = PathMatch()
    headers: tuple[ValueMatch, ...] = ()
    query: tuple[ValueMatch, ...] = ()
    method: str = ""


@dataclass(frozen=True, slots=True)
class HeaderChanges:
    """``put`` replaces, ``add`` appends, ``remove`` deletes; names in the case of the user."""

    put: tuple[tuple[str, str], ...] = ()
    add: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.put or self.add or self.remove)


NO_CHANGES = HeaderChanges()


@dataclass(frozen=True, slots=True)
class Redirect:
    """Empty parts and port 0 are kept from the request.

    ``prefix`` replaces what a prefix match matched.
    """

    status: int = 302
    scheme: str = ""
    hostname: str = ""
    port: int = 0
    full_path: str | None = None
    prefix: str | None = None


@dataclass(frozen=True, slots=True)
class Pick:
    """How a pool's picker is asked: at which cluster, under which path, and what if it fails."""

    picker: str
    path_prefix: str
    timeout_seconds: float
    fail_open: bool
    splice: bool = False


@dataclass(frozen=True, slots=True)
class Share:
    """One backend of a rule. ``cluster`` is empty for a broken reference, which answers 500."""

    cluster: str
    weight: int = 1
    pick: Pick | None = None
    pool: bool = False
    request: HeaderChanges = NO_CHANGES
    response: HeaderChanges = NO_CHANGES


@dataclass(frozen=True, slots=True)
class Route:
    """One match of one rule. Without redirect and without weight it answers 500."""

    name: str
    match: RequestMatch
    shares: tuple[Share, ...] = ()
    redirect: Redirect | None = None
    request: HeaderChanges = NO_CHANGES
    response: HeaderChanges = NO_CHANGES
    request_seconds: float | None = None
    attempt_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Host:
    """What is served under one domain (``*``, ``*.example.com`` or exact), best match first."""

    domain: str
    routes: tuple[Route, ...] = ()


@dataclass(frozen=True, slots=True)
class Port:
    """One listening port with all of its hosts."""

    number: int
    hosts: tuple[Host, ...] = ()


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """An address with a port, or a Unix socket path with port 0."""

    address: str
    port: int = 0


class ClusterKind(StrEnum):
    """What a cluster leads to, which decides how it is balanced."""

    SERVICE = "service"
    POOL = "pool"
    PICKER = "picker"
    FEEDBACK = "feedback"


@dataclass(frozen=True, slots=True)
class Cluster:
    """A named set of endpoints. ``strict`` pools refuse addresses that they do not know.

    ``probed``: who does not answer the proxy's own questions after its health is not asked.
    """

    name: str
    kind: ClusterKind
    endpoints: tuple[Endpoint, ...] = ()
    strict: bool = False
    http2: bool = False
    probed: bool = False


@dataclass(frozen=True, slots=True)
class Gateway:
    """All that the proxies of one Gateway need."""

    namespace: str
    name: str
    ports: tuple[Port, ...] = ()
    clusters: tuple[Cluster, ...] = ()

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"
