"""Everything that a Gateway's proxies get: resources by type and name, each with its version.

A version is a hash of the bytes, so that equal content is never sent again, whoever built it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from google.protobuf import any_pb2

from inferway.gateway.envoy.clusters import clusters, load_assignments
from inferway.gateway.envoy.listener import Site, listeners
from inferway.gateway.envoy.names import CLUSTER_TYPE, ENDPOINT_TYPE, LISTENER_TYPE, ROUTE_TYPE
from inferway.gateway.envoy.pack import pack
from inferway.gateway.envoy.routes import route_tables
from inferway.gateway.envoy.tracing import Tracing, collector_cluster
from inferway.gateway.translate.ir import Gateway

# 64 bits tell the versions of one name apart for longer than anything runs.
_VERSION_BYTES = 8


@dataclass(frozen=True, slots=True)
class Resource:
    """One named message. Two are equal if their version is."""

    name: str
    version: str
    body: any_pb2.Any = field(compare=False, hash=False)


Resources = Mapping[str, Mapping[str, Resource]]
"""Type URL to name to resource; always all four types."""


@dataclass(frozen=True, slots=True)
class Options:
    """What is chosen for the whole of the gateway. ``pool_header``: x-went-into-resp-headers."""

    pool_header: bool = True
    tracing: Tracing | None = None


class Built:
    """The resources of one Gateway; listeners and routes are made when a site first asks."""

    def __init__(self, gateway: Gateway, options: Options | None = None) -> None:
        chosen = options or Options()
        self.gateway = gateway
        self._pool_header = chosen.pool_header
        self._tracing = chosen.tracing
        collectors = [] if chosen.tracing is None else [collector_cluster(chosen.tracing)]
        self._common = {
            CLUSTER_TYPE: _named([*clusters(gateway), *collectors], "name"),
            ENDPOINT_TYPE: _named(load_assignments(gateway), "cluster_name"),
        }
        self._routes: dict[bool, Mapping[str, Resource]] = {}
        self._sites: dict[Site, Resources] = {}

    def at(self, site: Site) -> Resources:
        """What a proxy at ``site`` gets."""
        known = self._sites.get(site)
        if known is None:
            known = {
                **self._common,
                ROUTE_TYPE: self._routes_for(native=site.native),
                LISTENER_TYPE: _named(listeners(self.gateway, site, self._tracing), "name"),
            }
            self._sites[site] = known
        return known

    def _routes_for(self, *, native: bool) -> Mapping[str, Resource]:
        known = self._routes.get(native)
        if known is None:
            tables = route_tables(
                self.gateway,
                pool_header=self._pool_header,
                native=native,
                tracing=self._tracing,
            )
            known = self._routes[native] = _named(tables, "name")
        return known


def _named(messages: Iterable[Any], attribute: str) -> dict[str, Resource]:
    found = {}
    for message in messages:
        body = pack(message)
        name = getattr(message, attribute)
        version = hashlib.blake2b(body.value, digest_size=_VERSION_BYTES).hexdigest()
        found[name] = Resource(name, version, body)
    return dict(sorted(found.items()))
