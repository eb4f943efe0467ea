"""Access logs to the pickers: one gRPC logger for each, only for requests that it picked for."""

from __future__ import annotations

from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.extensions.access_loggers.grpc.v3 import als_pb2

from inferway.gateway.envoy.names import PICK_HEADER, PICKER_HEADER
from inferway.gateway.envoy.pack import pack, seconds
from inferway.gateway.translate.ir import Cluster, ClusterKind, Gateway

LOG_NAME = "inferway"
# Sooner costs a message for each request, later makes the picker's view of a server older.
FLUSH_SECONDS = 0.05
BUFFER_BYTES = 64 * 1024


def picker_id(cluster_name: str) -> str:
    """``namespace/service`` of a picker's or feedback's cluster name."""
    return cluster_name.split("/", 1)[1]


def several_pickers(gateway: Gateway) -> bool:
    """Whether requests must say which picker they belong to."""
    return sum(cluster.kind is ClusterKind.PICKER for cluster in gateway.clusters) > 1


def access_logs(gateway: Gateway) -> list[accesslog_pb2.AccessLog]:
    """The loggers of the connection manager."""
    tell_apart = several_pickers(gateway)
    return [
        _log(cluster, tell_apart)
        for cluster in gateway.clusters
        if cluster.kind is ClusterKind.FEEDBACK
    ]


def _log(cluster: Cluster, tell_apart: bool) -> accesslog_pb2.AccessLog:
    config = als_pb2.HttpGrpcAccessLogConfig(additional_request_headers_to_log=[PICK_HEADER])
    common = config.common_config
    common.log_name = LOG_NAME
    common.transport_api_version = 2
    common.grpc_service.envoy_grpc.cluster_name = cluster.name
    common.buffer_flush_interval.CopyFrom(seconds(FLUSH_SECONDS))
    common.buffer_size_bytes.value = BUFFER_BYTES
    log = accesslog_pb2.AccessLog(name="envoy.access_loggers.http_grpc", typed_config=pack(config))
    if tell_apart:
        header = log.filter.header_filter.header
        header.name = PICKER_HEADER
        header.string_match.exact = picker_id(cluster.name)
    else:
        log.filter.header_filter.header.name = PICK_HEADER
        log.filter.header_filter.header.present_match = True
    return log
