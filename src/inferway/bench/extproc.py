"""A foreign gateway's data path: Envoy with full-duplex ext_proc, configured by hand, and a picker.

The configuration is Istio's way: override_host follows the metadata of the picker, which is asked
over TLS as it presents itself. Measures nothing itself.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from inferway.bench import backends, processes
from inferway.bench.target import Target

PORT = 18082
PICKER_PORT = 9002
_TYPE = "type.googleapis.com/envoy.extensions"
_DESTINATION = "x-gateway-destination-endpoint"
_HTTP = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def config(address: str, upstreams: Sequence[str]) -> dict[str, Any]:
    """A fixed configuration: every request goes through the picker, both ways."""
    routes = [{"match": {"prefix": "/"}, "route": {"cluster": "pool", "timeout": "300s"}}]
    listener = backends.listener("ext-proc", address, PORT, routes)
    filters = listener["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"]
    filters.insert(0, _ext_proc())
    return {
        "static_resources": {
            "listeners": [listener],
            "clusters": [_picker(address), _pool(upstreams)],
        }
    }


def _ext_proc() -> dict[str, Any]:
    sides = ("request", "response")
    mode = {f"{side}_header_mode": "SEND" for side in sides}
    mode |= {f"{side}_body_mode": "FULL_DUPLEX_STREAMED" for side in sides}
    mode |= {f"{side}_trailer_mode": "SEND" for side in sides}
    return {
        "name": "ext_proc",
        "typed_config": {
            "@type": f"{_TYPE}.filters.http.ext_proc.v3.ExternalProcessor",
            "grpc_service": {"envoy_grpc": {"cluster_name": "picker"}},
            "processing_mode": mode,
            "message_timeout": "300s",
            "metadata_options": {
                "forwarding_namespaces": {"untyped": ["envoy.lb"]},
                "receiving_namespaces": {"untyped": ["envoy.lb"]},
            },
        },
    }


def _picker(address: str) -> dict[str, Any]:
    tls = {
        "@type": f"{_TYPE}.transport_sockets.tls.v3.UpstreamTlsContext",
        "common_tls_context": {"validation_context": {}},
    }
    http2 = {
        "@type": f"type.googleapis.com/{_HTTP}",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    return {
        **_cluster("picker", [(address, PICKER_PORT)]),
        "transport_socket": {"name": "tls", "typed_config": tls},
        "typed_extension_protocol_options": {_HTTP: http2},
    }


def _pool(upstreams: Sequence[str]) -> dict[str, Any]:
    prefix = f"{_TYPE}.load_balancing_policies"
    fallback = {"name": "rr", "typed_config": {"@type": f"{prefix}.round_robin.v3.RoundRobin"}}
    override = {
        "@type": f"{prefix}.override_host.v3.OverrideHost",
        "override_host_sources": [
            {"metadata": {"key": "envoy.lb", "path": [{"key": _DESTINATION}]}}
        ],
        "selected_host_key": {"key": "envoy.lb", "path": [{"key": f"{_DESTINATION}-served"}]},
        "fallback_policy": {"policies": [{"typed_extension_config": fallback}]},
    }
    policy = {"typed_extension_config": {"name": "override_host", "typed_config": override}}
    return {
        **_cluster("pool", [(host, backends.PORT) for host in upstreams]),
        "load_balancing_policy": {"policies": [policy]},
    }


def _cluster(name: str, addresses: Sequence[tuple[str, int]]) -> dict[str, Any]:
    endpoints = [
        {"endpoint": {"address": {"socket_address": {"address": host, "port_value": port}}}}
        for host, port in addresses
    ]
    return {
        "name": name,
        "type": "STATIC",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
    }


@contextmanager
def running(
    address: str, upstreams: Sequence[str], folder: Path, concurrency: int
) -> Iterator[Target]:
    """Picker and Envoy while the block runs. Raises InferwayError when one does not start."""
    servers = ",".join(f"{host}:{backends.PORT}" for host in upstreams)
    words = [
        *(sys.executable, "-m", "inferway", "picker"),
        *("--pool-name", "bench", "--pool-namespace", "default"),
        *("--endpoints", servers, "--bind-address", address, "--grpc-port", str(PICKER_PORT)),
    ]
    started: list[subprocess.Popen[str]] = []
    try:
        picker = backends.start(words, folder)
        started.append(picker)
        backends.wait_for_port(address, PICKER_PORT, picker, folder)
        proxy = backends.start_envoy(config(address, upstreams), folder, concurrency)
        started.append(proxy)
        backends.wait_for_port(address, PORT, proxy, folder)
        parts = {"envoy": [proxy.pid], "picker": [picker.pid]}
        yield Target("inferway-ext-proc", f"http://{address}:{PORT}", parts)
    finally:
        for process in reversed(started):
            processes.stop(process)
