"""Envoy as other gateways configure it for an endpoint picker, written by hand.

``pool_by_header`` is the way of Envoy AI Gateway: ORIGINAL_DST, the address comes in the header.
``pool_by_metadata`` is Istio's: the pool's endpoints and override_host, which follows the list of
the metadata and tells the picker who answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

FILTERS = "type.googleapis.com/envoy.extensions.filters"
PORT = 18080
DESTINATION = "x-gateway-destination-endpoint"
SERVED = "x-gateway-destination-endpoint-served"
DUPLEX: dict[str, str] = {
    "request_header_mode": "SEND",
    "request_body_mode": "FULL_DUPLEX_STREAMED",
    "request_trailer_mode": "SEND",
    "response_header_mode": "SEND",
    "response_body_mode": "FULL_DUPLEX_STREAMED",
    "response_trailer_mode": "SEND",
}
BUFFERED: dict[str, str] = {
    "request_header_mode": "SEND",
    "request_body_mode": "BUFFERED",
    "response_header_mode": "SEND",
}
STREAMED: dict[str, str] = {
    "request_header_mode": "SEND",
    "request_body_mode": "STREAMED",
    "response_header_mode": "SEND",
    "response_body_mode": "STREAMED",
}


def endpoint(address: str) -> dict[str, Any]:
    host, _, port = address.rpartition(":")
    return {"endpoint": {"address": {"socket_address": {"address": host, "port_value": int(port)}}}}


def cluster(name: str, addresses: Sequence[str], **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [endpoint(one) for one in addresses]}],
        },
        **more,
    }


def picker(address: str, *, tls: bool = True) -> dict[str, Any]:
    """gRPC to the picker; its certificate is not verified, as no gateway does it."""
    http2 = {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        }
    }
    made = cluster("picker", [address], typed_extension_protocol_options=http2)
    if tls:
        made["transport_socket"] = {
            "name": "tls",
            "typed_config": {
                "@type": "type.googleapis.com/"
                "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "common_tls_context": {"validation_context": {}},
            },
        }
    return made


def pool_by_header() -> dict[str, Any]:
    return {
        "name": "pool",
        "type": "ORIGINAL_DST",
        "lb_policy": "CLUSTER_PROVIDED",
        "connect_timeout": "1s",
        "original_dst_lb_config": {"use_http_header": True, "http_header_name": DESTINATION},
    }


def http1_with_trailers() -> dict[str, Any]:
    kind = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    http1 = {"http_protocol_options": {"enable_trailers": True}}
    return {
        kind: {"@type": f"type.googleapis.com/{kind}", "explicit_http_config": http1},
    }


def pool_by_metadata(addresses: Sequence[str]) -> dict[str, Any]:
    prefix = "type.googleapis.com/envoy.extensions.load_balancing_policies"
    fallback = {
        "name": "round_robin",
        "typed_config": {"@type": f"{prefix}.round_robin.v3.RoundRobin"},
    }
    override = {
        "@type": f"{prefix}.override_host.v3.OverrideHost",
        "override_host_sources": [
            {"metadata": {"key": "envoy.lb", "path": [{"key": DESTINATION}]}}
        ],
        "selected_host_key": {"key": "envoy.lb", "path": [{"key": SERVED}]},
        "fallback_policy": {"policies": [{"typed_extension_config": fallback}]},
    }
    policy = {"policies": [{"typed_extension_config": {"name": "oh", "typed_config": override}}]}
    return cluster(
        "pool",
        addresses,
        load_balancing_policy=policy,
        typed_extension_protocol_options=http1_with_trailers(),
    )


def ext_proc(mode: dict[str, str], **more: Any) -> dict[str, Any]:
    return {
        "name": "ext_proc",
        "typed_config": {
            "@type": f"{FILTERS}.http.ext_proc.v3.ExternalProcessor",
            "grpc_service": {"envoy_grpc": {"cluster_name": "picker", "authority": "p.ns:9002"}},
            "processing_mode": mode,
            "message_timeout": "300s",
            "metadata_options": {
                "forwarding_namespaces": {"untyped": ["envoy.lb", "envoy.lb.subset_hint"]},
                "receiving_namespaces": {"untyped": ["envoy.lb"]},
            },
            **more,
        },
    }


def subset_hint(value: Any) -> dict[str, Any]:
    """What a gateway that restricts the choice puts before the picker's filter."""
    return {
        "name": "subset",
        "typed_config": {
            "@type": f"{FILTERS}.http.set_metadata.v3.Config",
            "metadata": [
                {
                    "metadata_namespace": "envoy.lb.subset_hint",
                    "value": {"x-gateway-destination-endpoint-subset": value},
                }
            ],
        },
    }


def config(
    host: str,
    clusters: Sequence[dict[str, Any]],
    filters: Sequence[dict[str, Any]],
    *,
    retries: bool = True,
) -> dict[str, Any]:
    route: dict[str, Any] = {"cluster": "pool", "timeout": "0s"}
    if retries:
        route["retry_policy"] = {"retry_on": "connect-failure,refused-stream", "num_retries": 2}
    router = {"name": "router", "typed_config": {"@type": f"{FILTERS}.http.router.v3.Router"}}
    virtual = {
        "name": "all",
        "domains": ["*"],
        "routes": [{"match": {"prefix": "/"}, "route": route}],
        "request_body_buffer_limit": 64 * 1024 * 1024,
    }
    manager = {
        "@type": f"{FILTERS}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "http2_protocol_options": {"allow_connect": True},
        "http_protocol_options": {"enable_trailers": True},
        "route_config": {"virtual_hosts": [virtual]},
        "http_filters": [*filters, router],
    }
    listener = {
        "name": "in",
        "address": {"socket_address": {"address": host, "port_value": PORT}},
        "filter_chains": [{"filters": [{"name": "hcm", "typed_config": manager}]}],
    }
    return {"static_resources": {"listeners": [listener], "clusters": list(clusters)}}
