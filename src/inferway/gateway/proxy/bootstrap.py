"""What a proxy knows before it has asked anybody: who it is and where the controller is.

Pure. Everything that differs between Pods is ``$(NAME)``, which the kubelet replaces from the
container's environment, so that one text serves all Pods of a Gateway.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

READY_PORT = 19001
XDS_CLUSTER = "inferway-xds"
_ADMIN_CLUSTER = "inferway-admin"
_TYPE = "type.googleapis.com/"
# Abstract, so that it needs no writable folder and no port, and named by the Pod, because local
# proxies share one network. An address of this family has at most 107 bytes.
_ADMIN_SOCKET = "@inferway-envoy-$(POD_NAME)"
# A proxy without the controller keeps what it has, and asks again soon.
_RECONNECT_SECONDS_MAX = 5
_FETCH_SECONDS_MAX = 15
DRAIN_HEADER = "x-inferway-drain"


@dataclass(frozen=True, slots=True)
class Xds:
    """Where the controller serves configurations; ``address`` is an IP or a DNS name."""

    address: str
    port: int = 18000


def drain_token(gateway_uid: str) -> str:
    """What a drain request must carry: known to those who may read the Deployment."""
    return hashlib.sha256(f"inferway-drain/{gateway_uid}".encode()).hexdigest()[:32]


def bootstrap(gateway: tuple[str, str], uid: str, xds: Xds) -> dict[str, Any]:
    """Envoy's bootstrap for the proxies of the Gateway ``(namespace, name)``."""
    namespace, name = gateway
    return {
        "node": {
            "id": "$(POD_NAMESPACE)/$(POD_NAME)",
            "cluster": f"{namespace}/{name}",
            "metadata": {
                "bind_address": "$(BIND_ADDRESS)",
                "pick_module": "$(ENVOY_DYNAMIC_MODULES_SEARCH_PATH)",
                "pod_ip": "$(POD_IP)",
                "privileged_port_offset": "$(PRIVILEGED_PORT_OFFSET)",
            },
        },
        "admin": {"address": {"pipe": {"path": _ADMIN_SOCKET}}},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "grpc_services": [
                    {
                        "envoy_grpc": {
                            "cluster_name": XDS_CLUSTER,
                            "retry_policy": {
                                "retry_back_off": {
                                    "base_interval": "0.1s",
                                    "max_interval": f"{_RECONNECT_SECONDS_MAX}s",
                                }
                            },
                        }
                    }
                ],
            },
            "cds_config": _ads(),
            "lds_config": _ads(),
        },
        "static_resources": {
            "listeners": [_ready_listener(drain_token(uid))],
            "clusters": [_xds_cluster(xds), _admin_cluster()],
        },
    }


def bootstrap_text(gateway: tuple[str, str], uid: str, xds: Xds) -> str:
    """The bootstrap for ``--config-yaml``; JSON is YAML too, and has one spelling."""
    return json.dumps(bootstrap(gateway, uid, xds), sort_keys=True, separators=(",", ":"))


def _ads() -> dict[str, Any]:
    return {
        "ads": {},
        "resource_api_version": "V3",
        "initial_fetch_timeout": f"{_FETCH_SECONDS_MAX}s",
    }


def _xds_cluster(xds: Xds) -> dict[str, Any]:
    name = xds.address.replace(".", "").replace(":", "")
    literal = all(char in "0123456789abcdef" for char in name) and not name.isalpha()
    return {
        "name": XDS_CLUSTER,
        "type": "STATIC" if literal else "STRICT_DNS",
        "connect_timeout": "2s",
        "load_assignment": _assignment(
            XDS_CLUSTER,
            {"socket_address": {"address": xds.address, "port_value": xds.port}},
        ),
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_TYPE}envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {
                    "http2_protocol_options": {
                        # A controller whose machine vanished is noticed, and asked for anew.
                        "connection_keepalive": {"interval": "30s", "timeout": "10s"}
                    }
                },
            }
        },
    }


def _admin_cluster() -> dict[str, Any]:
    return {
        "name": _ADMIN_CLUSTER,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": _assignment(_ADMIN_CLUSTER, {"pipe": {"path": _ADMIN_SOCKET}}),
    }


def _assignment(name: str, address: dict[str, Any]) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": address}}
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]}


def _ready_listener(token: str) -> dict[str, Any]:
    """Shows readiness and metrics to everybody, and drains for those who know the token."""
    admin = {"cluster": _ADMIN_CLUSTER}
    secret = [{"name": DRAIN_HEADER, "string_match": {"exact": token}}]
    routes = [
        {"match": {"path": "/ready"}, "route": admin},
        {"match": {"path": "/stats/prometheus"}, "route": admin},
        {"match": {"path": "/drain_listeners", "headers": secret}, "route": admin},
        {"match": {"path": "/stats", "headers": secret}, "route": admin},
    ]
    manager = {
        "@type": f"{_TYPE}envoy.extensions.filters.network.http_connection_manager.v3"
        ".HttpConnectionManager",
        "stat_prefix": "ready",
        "route_config": {"virtual_hosts": [{"name": "ready", "domains": ["*"], "routes": routes}]},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_TYPE}envoy.extensions.filters.http.router.v3.Router"},
            }
        ],
    }
    return {
        "name": "ready",
        # The Pod's own address: proxies of one Gateway may share the address they serve at.
        "address": {"socket_address": {"address": "$(POD_IP)", "port_value": READY_PORT}},
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": manager,
                    }
                ]
            }
        ],
    }
