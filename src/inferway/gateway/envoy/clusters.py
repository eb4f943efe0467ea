"""Clusters and their endpoints.

All endpoints come by EDS, so that a change of Pods never drains a cluster. Named after the
backend and never after a route, so that routes come and go without a new connection.
"""

from __future__ import annotations

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import address_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2

from inferway.gateway.envoy.balance import load_balancing
from inferway.gateway.envoy.names import CONCURRENCY_MAX
from inferway.gateway.envoy.pack import pack, seconds
from inferway.gateway.translate.ir import Cluster, ClusterKind, Endpoint, Gateway

# Pods are on the same network; one that does not take a connection in this time is gone.
CONNECT_SECONDS = 2.0
# uvicorn, which serves vLLM, closes an idle connection after 5 s. A proxy that closes first never
# sends a request into a connection that is being closed.
UPSTREAM_IDLE_SECONDS = 4.0
# A picker that does not answer in this time is hung; it answers in a millisecond.
PROBE_TIMEOUT_SECONDS = 4.0
PROBE_SECONDS = 1.0
PROBE_PATH = "/healthz"
_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def clusters(gateway: Gateway) -> list[cluster_pb2.Cluster]:
    """All clusters of a Gateway."""
    return [_cluster(cluster) for cluster in gateway.clusters]


def load_assignments(gateway: Gateway) -> list[endpoint_pb2.ClusterLoadAssignment]:
    """The endpoints of all clusters of a Gateway."""
    return [_assignment(cluster) for cluster in gateway.clusters]


def _cluster(cluster: Cluster) -> cluster_pb2.Cluster:
    message = cluster_pb2.Cluster(
        name=cluster.name,
        type=cluster_pb2.Cluster.EDS,
        connect_timeout=seconds(CONNECT_SECONDS),
        load_balancing_policy=load_balancing(cluster),
    )
    message.eds_cluster_config.eds_config.ads.SetInParent()
    message.eds_cluster_config.eds_config.resource_api_version = 2
    thresholds = message.circuit_breakers.thresholds.add()
    for limit in (
        thresholds.max_connections,
        thresholds.max_pending_requests,
        thresholds.max_requests,
        thresholds.max_retries,
    ):
        limit.value = CONCURRENCY_MAX
    # Readiness is the API server's word; without health checks there is nothing to panic about.
    message.common_lb_config.healthy_panic_threshold.value = 0
    if cluster.probed:
        _probe(message)
    message.typed_extension_protocol_options[_OPTIONS].CopyFrom(pack(_protocol(cluster)))
    return message


def _probe(message: cluster_pb2.Cluster) -> None:
    """A hung picker is not asked after five seconds, however long an answer may take.

    What it was asked before waits until its Pod is restarted or the deadline is over: Envoy does
    not end streams of a host that fails.
    """
    check = message.health_checks.add()
    check.timeout.CopyFrom(seconds(PROBE_TIMEOUT_SECONDS))
    for every in (check.interval, check.no_traffic_interval, check.unhealthy_interval):
        every.CopyFrom(seconds(PROBE_SECONDS))
    check.unhealthy_threshold.value = check.healthy_threshold.value = 1
    check.http_health_check.path = PROBE_PATH
    # Whatever is answered shows that somebody is there.
    check.http_health_check.expected_statuses.add(start=200, end=500)


def _protocol(cluster: Cluster) -> http_protocol_options_pb2.HttpProtocolOptions:
    options = http_protocol_options_pb2.HttpProtocolOptions()
    if cluster.http2 or cluster.kind is ClusterKind.FEEDBACK:
        options.explicit_http_config.http2_protocol_options.SetInParent()
    else:
        options.explicit_http_config.http_protocol_options.SetInParent()
    if cluster.kind in (ClusterKind.POOL, ClusterKind.SERVICE):
        idle = options.common_http_protocol_options.idle_timeout
        idle.CopyFrom(seconds(UPSTREAM_IDLE_SECONDS))
    return options


def _assignment(cluster: Cluster) -> endpoint_pb2.ClusterLoadAssignment:
    message = endpoint_pb2.ClusterLoadAssignment(cluster_name=cluster.name)
    if cluster.endpoints:
        locality = message.endpoints.add()
        locality.lb_endpoints.extend(_endpoint(endpoint) for endpoint in cluster.endpoints)
    return message


def _endpoint(endpoint: Endpoint) -> endpoint_components_pb2.LbEndpoint:
    if endpoint.port == 0:
        address = address_pb2.Address(pipe=address_pb2.Pipe(path=endpoint.address))
    else:
        address = address_pb2.Address(
            socket_address=address_pb2.SocketAddress(
                address=endpoint.address, port_value=endpoint.port
            )
        )
    return endpoint_components_pb2.LbEndpoint(
        endpoint=endpoint_components_pb2.Endpoint(address=address)
    )
