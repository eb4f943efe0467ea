"""Tracing: each request is a span that Envoy sends by OTLP. Off without a collector.

The router puts the span into ``traceparent`` for the server, and the callout one of its own below
it for the picker. The native pick filter, which asks before the router runs, words the header
itself; it needs the sampler's rule for that, because Envoy tells filters the ids of a span and not
whether it is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import urlsplit

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import base_pb2, extension_pb2
from envoy.config.trace.v3 import opentelemetry_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm_pb2,
)
from envoy.extensions.tracers.opentelemetry.resource_detectors.v3 import (
    static_config_resource_detector_pb2 as resource_pb2,
)
from envoy.extensions.tracers.opentelemetry.samplers.v3 import (
    parent_based_sampler_pb2,
    trace_id_ratio_based_sampler_pb2,
)
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from envoy.type.v3 import percent_pb2
from google.protobuf import any_pb2

from inferway.gateway.envoy.pack import pack, seconds
from inferway.gateway.translate.ir import Gateway

COLLECTOR = "inferway-otlp"
PARTS_PER_MILLION = 1_000_000
# A collector that is slow costs spans and never a request.
EXPORT_SECONDS = 5.0
CONNECT_SECONDS = 2.0
_TRACER = "envoy.tracers.opentelemetry"
_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
# Where Envoy's images, Debian and Alpine keep the authorities that the world trusts.
_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
_PORTS = {"grpc": 4317, "http/protobuf": 80}
_TLS_PORT = 443


@dataclass(frozen=True, slots=True)
class Tracing:
    """Where spans go, which, and as whose.

    ``endpoint`` is a URL, or host and port; with ``grpc`` its path means nothing. ``share`` (0 to
    1) of the traces are kept; ``parent_based``: of those alone that no client has decided about.
    """

    endpoint: str
    protocol: str = "grpc"
    share: float = 0.1
    parent_based: bool = True
    service: str = "inferway-gateway"
    headers: tuple[tuple[str, str], ...] = ()
    resource: Mapping[str, str] = field(default_factory=dict)

    @property
    def parts_per_million(self) -> int:
        return round(self.share * PARTS_PER_MILLION)

    @property
    def url(self) -> str:
        return self.endpoint if "://" in self.endpoint else f"http://{self.endpoint}"


def manager_tracing(tracing: Tracing, gateway: Gateway) -> hcm_pb2.HttpConnectionManager.Tracing:
    """The setting of the connection manager."""
    config = opentelemetry_pb2.OpenTelemetryConfig(service_name=tracing.service)
    if tracing.protocol == "grpc":
        config.grpc_service.envoy_grpc.cluster_name = COLLECTOR
        config.grpc_service.timeout.CopyFrom(seconds(EXPORT_SECONDS))
        for name, value in tracing.headers:
            config.grpc_service.initial_metadata.add(key=name.lower(), value=value)
    else:
        uri = config.http_service.http_uri
        uri.uri, uri.cluster = tracing.url, COLLECTOR
        uri.timeout.CopyFrom(seconds(EXPORT_SECONDS))
        for name, value in tracing.headers:
            header = base_pb2.HeaderValue(key=name, value=value)
            config.http_service.request_headers_to_add.add(header=header)
    said = {"inferway.gateway": f"{gateway.namespace}/{gateway.name}", **tracing.resource}
    detector = config.resource_detectors.add(name=f"{_TRACER}.resource_detectors.static_config")
    detector.typed_config.CopyFrom(
        pack(resource_pb2.StaticConfigResourceDetectorConfig(attributes=said))
    )
    config.sampler.CopyFrom(_sampler(tracing))
    message = hcm_pb2.HttpConnectionManager.Tracing()
    message.provider.name = _TRACER
    message.provider.typed_config.CopyFrom(pack(config))
    return message


def _sampler(tracing: Tracing) -> extension_pb2.TypedExtensionConfig:
    share = percent_pb2.FractionalPercent(
        numerator=tracing.parts_per_million, denominator=percent_pb2.FractionalPercent.MILLION
    )
    ratio = trace_id_ratio_based_sampler_pb2.TraceIdRatioBasedSamplerConfig(
        sampling_percentage=share
    )
    inner = _extension("trace_id_ratio_based", pack(ratio))
    if not tracing.parent_based:
        return inner
    outer = parent_based_sampler_pb2.ParentBasedSamplerConfig(wrapped_sampler=inner)
    return _extension("parent_based", pack(outer))


def _extension(name: str, config: any_pb2.Any) -> extension_pb2.TypedExtensionConfig:
    return extension_pb2.TypedExtensionConfig(
        name=f"{_TRACER}.samplers.{name}", typed_config=config
    )


def filter_settings(tracing: Tracing) -> dict[str, int]:
    """What the native pick filter is told of sampling."""
    return {
        "sampled_ppm": tracing.parts_per_million,
        "parent_decides": int(tracing.parent_based),
    }


def collector_cluster(tracing: Tracing) -> cluster_pb2.Cluster:
    """The collector, by the name or address that the endpoint says."""
    parts = urlsplit(tracing.url)
    host = parts.hostname or ""
    tls = parts.scheme == "https"
    message = cluster_pb2.Cluster(
        name=COLLECTOR,
        type=cluster_pb2.Cluster.STATIC if _is_ip(host) else cluster_pb2.Cluster.STRICT_DNS,
        connect_timeout=seconds(CONNECT_SECONDS),
    )
    message.load_assignment.cluster_name = COLLECTOR
    endpoint = message.load_assignment.endpoints.add().lb_endpoints.add().endpoint
    socket = endpoint.address.socket_address
    socket.address = host
    socket.port_value = parts.port or (_TLS_PORT if tls else _PORTS[tracing.protocol])
    options = http_protocol_options_pb2.HttpProtocolOptions()
    explicit = options.explicit_http_config
    if tracing.protocol == "grpc":
        explicit.http2_protocol_options.SetInParent()
    else:
        explicit.http_protocol_options.SetInParent()
    message.typed_extension_protocol_options[_OPTIONS].CopyFrom(pack(options))
    if tls:
        context = tls_pb2.UpstreamTlsContext(sni=host, auto_sni_san_validation=True)
        trusted = context.common_tls_context.validation_context
        trusted.trusted_ca.filename = _AUTHORITIES
        message.transport_socket.name = "envoy.transport_sockets.tls"
        message.transport_socket.typed_config.CopyFrom(pack(context))
    return message


def _is_ip(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
