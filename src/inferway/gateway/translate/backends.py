"""backendRefs of HTTPRoutes: the clusters that they mean, or why they mean none.

A broken reference keeps its weight and answers 500, as the API demands.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from inferway.api.conditions import RouteReason
from inferway.api.gateway import BackendRef
from inferway.gateway.translate import pools as pool_room
from inferway.gateway.translate import services
from inferway.gateway.translate.filters import Filters
from inferway.gateway.translate.grants import Reference, permitted
from inferway.gateway.translate.ir import Cluster, ClusterKind, Share
from inferway.gateway.translate.snapshot import Key, Snapshot
from inferway.gateway.translate.verdicts import Problem

POOL_GROUP = "inference.networking.k8s.io"
_ROUTE_GROUP = "gateway.networking.k8s.io"
_HTTP2_PROTOCOLS = ("kubernetes.io/h2c",)
_HTTP1_PROTOCOLS = ("", "http", "HTTP", "kubernetes.io/ws")


@dataclass(slots=True)
class Backends:
    """Resolves references and remembers the results: one object for one translation."""

    snapshot: Snapshot
    pools: dict[Key, pool_room.ResolvedPool] = field(default_factory=dict)
    clusters: dict[str, Cluster] = field(default_factory=dict)

    def share(
        self, ref: BackendRef, namespace: str, changes: Filters
    ) -> tuple[Share, Problem | None]:
        """The share of one backendRef of a route in ``namespace``."""
        weight = 1 if ref.weight is None else ref.weight
        problem = self._not_permitted(ref, namespace)
        cluster, pool = "", None
        if problem is None:
            key = (ref.namespace or namespace, ref.name)
            if _is_pool(ref):
                cluster, pool, problem = self._pool(key)
            elif _is_service(ref):
                cluster, problem = self._service(key, ref.port)
            else:
                problem = Problem(
                    RouteReason.INVALID_KIND,
                    f"backendRef {ref.name}: kind {ref.kind} of group {ref.group or 'core'!s} is "
                    "not supported; use Service or InferencePool "
                    f"({POOL_GROUP}).",
                )
        share = Share(
            cluster=cluster,
            weight=weight,
            pick=pool.pick if pool is not None else None,
            pool=pool is not None,
            request=changes.request,
            response=changes.response,
        )
        return share, problem

    def pool(self, key: Key) -> pool_room.ResolvedPool | None:
        """A pool, resolved once."""
        found = self.snapshot.inference_pools.get(key)
        if found is None:
            return None
        if key not in self.pools:
            self.pools[key] = pool_room.resolve(self.snapshot, found)
        return self.pools[key]

    def _not_permitted(self, ref: BackendRef, namespace: str) -> Problem | None:
        target = Reference(
            ref.group or "", ref.kind or "Service", ref.namespace or namespace, ref.name
        )
        if permitted(self.snapshot, Reference(_ROUTE_GROUP, "HTTPRoute", namespace), target):
            return None
        return Problem(
            RouteReason.REF_NOT_PERMITTED,
            f"backendRef {ref.name}: no ReferenceGrant in namespace {target.namespace} allows "
            f"HTTPRoutes of namespace {namespace} to use this {target.kind}.",
        )

    def _pool(self, key: Key) -> tuple[str, pool_room.ResolvedPool | None, Problem | None]:
        resolved = self.pool(key)
        if resolved is None:
            message = f"backendRef {key[1]}: there is no InferencePool in namespace {key[0]}."
            return "", None, Problem(RouteReason.BACKEND_NOT_FOUND, message)
        for cluster in (resolved.cluster, *resolved.pickers):
            self.clusters[cluster.name] = cluster
        problem = None
        if resolved.refs:
            problem = Problem(
                RouteReason.BACKEND_NOT_FOUND,
                f"InferencePool {key[1]}: {resolved.refs[0].message}",
            )
        return resolved.cluster.name, resolved, problem

    def _service(self, key: Key, number: int | None) -> tuple[str, Problem | None]:
        service = self.snapshot.services.get(key)
        where = f"backendRef {key[1]}"
        if service is None:
            message = f"{where}: there is no Service in namespace {key[0]}."
            return "", Problem(RouteReason.BACKEND_NOT_FOUND, message)
        if service.spec.type == "ExternalName":
            message = f"{where}: Services of type ExternalName are not supported."
            return "", Problem(RouteReason.BACKEND_NOT_FOUND, message)
        port = services.port_of(service, number) if number is not None else None
        if port is None:
            said = f"has no port {number}" if number is not None else "needs a port"
            return "", Problem(RouteReason.BACKEND_NOT_FOUND, f"{where}: the Service {said}.")
        protocol = port.app_protocol
        if protocol not in (*_HTTP1_PROTOCOLS, *_HTTP2_PROTOCOLS):
            message = f"{where}: appProtocol {protocol} is not supported."
            return "", Problem(RouteReason.UNSUPPORTED_PROTOCOL, message)
        name = f"service/{key[0]}/{key[1]}/{port.port}"
        if name not in self.clusters:
            self.clusters[name] = Cluster(
                name=name,
                kind=ClusterKind.SERVICE,
                endpoints=services.endpoints(self.snapshot, key, port),
                http2=protocol in _HTTP2_PROTOCOLS,
            )
        return name, None


def _is_pool(ref: BackendRef) -> bool:
    return (ref.group or "") == POOL_GROUP and ref.kind == "InferencePool"


def _is_service(ref: BackendRef) -> bool:
    return (ref.group or "") == "" and (ref.kind or "Service") == "Service"
