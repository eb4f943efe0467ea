"""A listening port and its HTTP connection manager."""

from __future__ import annotations

from dataclasses import dataclass

from envoy.config.core.v3 import address_pb2, base_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm_pb2,
)
from envoy.extensions.request_id.uuid.v3 import uuid_pb2
from google.protobuf import any_pb2

from inferway.gateway.envoy.feedback import access_logs
from inferway.gateway.envoy.filters import http_filters, plan_filters
from inferway.gateway.envoy.hygiene import early_mutation
from inferway.gateway.envoy.names import STAT_PREFIX
from inferway.gateway.envoy.pack import flag, pack, seconds
from inferway.gateway.envoy.replies import local_replies
from inferway.gateway.envoy.tracing import Tracing, manager_tracing
from inferway.gateway.translate.ir import Gateway, Port

# A reasoning model that does not stream is silent for tens of minutes, and so is a request that
# waits in a picker's queue. This ends only streams whose peer is gone without a word.
STREAM_IDLE_SECONDS = 3600.0
# Headers come in one piece from honest clients; the rest are slow on purpose.
REQUEST_HEADERS_SECONDS = 60.0
# HTTP/1.0 knows no host: such a request meets the routes that are for every host.
HTTP_10_HOST = "inferway.invalid"
# Ports below need a privilege, and are moved by the offset that a proxy's machine asks for.
UNPRIVILEGED_PORT_MIN = 1024


@dataclass(frozen=True, slots=True, order=True)
class Site:
    """Where a proxy listens: its address, and the offset of its privileged ports (0: none).

    ``pod_ip`` is set where the address is not the Pod's own but that of its Service, which proxies
    share. There the proxy listens at its Pod's address too, on the ports that the Service maps to,
    so that EndpointSlices tell the truth. ``native``: the proxy has the native pick filter.
    """

    bind_address: str = "0.0.0.0"
    privileged_port_offset: int = 10000
    pod_ip: str = ""
    native: bool = False

    def bound_port(self, port: int) -> int:
        """The port that is really bound for a listener's port."""
        return port + self.privileged_port_offset if port < UNPRIVILEGED_PORT_MIN else port


def is_wildcard(address: str) -> bool:
    """Whether the address stands for all addresses of the Pod."""
    return address in ("0.0.0.0", "::")


def listener_name(port: Port) -> str:
    """Named by the port, so that other changes keep its connections."""
    return f"http/{port.number}"


def route_table_name(port: Port) -> str:
    """The RouteConfiguration of a port."""
    return f"http/{port.number}"


def listeners(
    gateway: Gateway, site: Site, tracing: Tracing | None = None
) -> list[listener_pb2.Listener]:
    """The listeners of a Gateway at one site."""
    shared = _shared(gateway, native=site.native)
    if tracing is not None:
        shared.tracing.CopyFrom(manager_tracing(tracing, gateway))
    return [_listener(port, site, shared) for port in gateway.ports]


def _listener(
    port: Port, site: Site, shared: hcm_pb2.HttpConnectionManager
) -> listener_pb2.Listener:
    manager = hcm_pb2.HttpConnectionManager()
    manager.CopyFrom(shared)
    manager.rds.route_config_name = route_table_name(port)
    manager.rds.config_source.ads.SetInParent()
    manager.rds.config_source.resource_api_version = 2
    message = listener_pb2.Listener(
        name=listener_name(port),
        address=address_pb2.Address(
            socket_address=address_pb2.SocketAddress(
                address=site.bind_address, port_value=site.bound_port(port.number)
            )
        ),
        # Inbound listeners are those that a proxy drains before it ends.
        traffic_direction=base_pb2.INBOUND,
    )
    if site.pod_ip:
        own = message.additional_addresses.add().address.socket_address
        own.address, own.port_value = site.pod_ip, Site().bound_port(port.number)
    chain = message.filter_chains.add()
    chain.filters.add(
        name="envoy.filters.network.http_connection_manager", typed_config=pack(manager)
    )
    return message


def _shared(gateway: Gateway, *, native: bool) -> hcm_pb2.HttpConnectionManager:
    """What all ports have in common."""
    manager = hcm_pb2.HttpConnectionManager(
        stat_prefix=STAT_PREFIX,
        http_filters=http_filters(plan_filters(gateway, native=native)),
        access_log=[] if native else access_logs(gateway),
        early_header_mutation_extensions=[early_mutation()],
        local_reply_config=local_replies(),
        # The answer is the model server's, and says so.
        server_header_transformation=hcm_pb2.HttpConnectionManager.PASS_THROUGH,
        use_remote_address=flag(True),
        # A client that traces its own requests keeps its id; everybody else gets one.
        preserve_external_request_id=True,
        always_set_request_id_in_response=True,
        normalize_path=flag(True),
        merge_slashes=True,
        # Model names have slashes, and clients escape them: /v1/models/org%2Fname.
        path_with_escaped_slashes_action=hcm_pb2.HttpConnectionManager.KEEP_UNCHANGED,
        stream_idle_timeout=seconds(STREAM_IDLE_SECONDS),
        request_headers_timeout=seconds(REQUEST_HEADERS_SECONDS),
    )
    # Old load generators and health checkers speak it.
    manager.http_protocol_options.accept_http_10 = True
    manager.http_protocol_options.default_host_for_http_10 = HTTP_10_HOST
    manager.request_id_extension.typed_config.CopyFrom(_request_id())
    return manager


def _request_id() -> any_pb2.Any:
    # An id that a client gave is passed on as it is.
    return pack(uuid_pb2.UuidRequestIdConfig(pack_trace_reason=flag(False)))
