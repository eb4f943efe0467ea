"""Route tables: one RouteConfiguration for each port."""

from __future__ import annotations

from envoy.config.route.v3 import route_components_pb2, route_pb2

from inferway.gateway.envoy import headers
from inferway.gateway.envoy.feedback import picker_id, several_pickers
from inferway.gateway.envoy.filters import FilterPlan, entry_filters, plan_filters
from inferway.gateway.envoy.hygiene import CONTROL_HEADERS
from inferway.gateway.envoy.listener import route_table_name
from inferway.gateway.envoy.match import route_match
from inferway.gateway.envoy.names import BODY_BYTES_MAX, PICKER_HEADER, SERVED_BY_POOL_HEADER
from inferway.gateway.envoy.pack import number, seconds
from inferway.gateway.envoy.redirect import redirect_action
from inferway.gateway.envoy.replies import error_body
from inferway.gateway.envoy.tracing import Tracing
from inferway.gateway.translate.ir import Gateway, Host, Port, Route, Share

# A cluster that does not exist: Envoy answers 500, as Gateway API asks for a broken reference.
BROKEN_CLUSTER = "inferway-broken-reference"
# A picker names two or three servers; more tries would only keep the client waiting.
POOL_RETRIES = 3
SERVICE_RETRIES = 1
# A refused connection says so at once, and the next server is another machine.
RETRY_PAUSE_SECONDS = 0.005
RETRY_PAUSE_SECONDS_MAX = 0.1
# A pool's server that went away before its first byte has done nothing that a client saw.
_POOL_RETRY_ON = "connect-failure,refused-stream,reset"
_SERVICE_RETRY_ON = "connect-failure,refused-stream"


def route_tables(
    gateway: Gateway,
    *,
    pool_header: bool,
    native: bool = False,
    tracing: Tracing | None = None,
) -> list[route_pb2.RouteConfiguration]:
    """All tables of a Gateway, for proxies with the native pick filter or without.

    ``pool_header``: whether answers of pools carry their mark.
    """
    # Only access logs have to tell the requests of pickers apart.
    tell_apart = several_pickers(gateway) and not native
    plan = plan_filters(gateway, native=native, tracing=tracing)
    builder = _Builder(plan, tell_apart, pool_header)
    return [builder.table(port) for port in gateway.ports]


class _Builder:
    def __init__(self, plan: FilterPlan, tell_apart: bool, pool_header: bool) -> None:
        self._plan = plan
        self._tell_apart = tell_apart
        self._pool_header = pool_header

    def table(self, port: Port) -> route_pb2.RouteConfiguration:
        return route_pb2.RouteConfiguration(
            name=route_table_name(port),
            virtual_hosts=[self._host(host) for host in port.hosts],
            # Clients may write the port into the host; hostnames of routes have none.
            ignore_port_in_host_matching=True,
        )

    def _host(self, host: Host) -> route_components_pb2.VirtualHost:
        message = route_components_pb2.VirtualHost(
            name=host.domain,
            domains=[host.domain],
            routes=[self._route(route) for route in host.routes],
        )
        message.request_body_buffer_limit.value = BODY_BYTES_MAX
        return message

    def _route(self, route: Route) -> route_components_pb2.Route:
        message = route_components_pb2.Route(name=route.name, match=route_match(route.match))
        headers.apply_request(message, route.request)
        headers.apply_response(message, route.response)
        if route.redirect is not None:
            message.redirect.CopyFrom(redirect_action(route.redirect, route.match.path))
            return message
        live = [share for share in route.shares if share.weight > 0]
        if not any(share.cluster for share in live):
            message.direct_response.status = 500
            message.direct_response.body.inline_string = error_body(
                "This route has no backend that can be used.", "server_error", "backend_not_found"
            )
            headers.put(message, "content-type", "application/json")
            return message
        self._forward(message.route, route, live)
        return message

    def _forward(
        self, action: route_components_pb2.RouteAction, route: Route, live: list[Share]
    ) -> None:
        for share in live:
            action.weighted_clusters.clusters.append(self._entry(share))
        if any(not share.cluster for share in live):
            action.cluster_not_found_response_code = (
                route_components_pb2.RouteAction.INTERNAL_SERVER_ERROR
            )
        # Answers take as long as they take; without a word of the user only idleness ends them.
        action.timeout.CopyFrom(seconds(route.request_seconds or 0.0))
        pool = any(share.pool for share in live)
        retry = action.retry_policy
        retry.retry_on = _POOL_RETRY_ON if pool else _SERVICE_RETRY_ON
        retry.num_retries.value = POOL_RETRIES if pool else SERVICE_RETRIES
        retry.retry_back_off.base_interval.CopyFrom(seconds(RETRY_PAUSE_SECONDS))
        retry.retry_back_off.max_interval.CopyFrom(seconds(RETRY_PAUSE_SECONDS_MAX))
        if route.attempt_seconds:
            retry.per_try_timeout.CopyFrom(seconds(route.attempt_seconds))

    def _entry(self, share: Share) -> route_components_pb2.WeightedCluster.ClusterWeight:
        entry = route_components_pb2.WeightedCluster.ClusterWeight(
            name=share.cluster or BROKEN_CLUSTER, weight=number(share.weight)
        )
        headers.apply_request(entry, share.request)
        headers.apply_response(entry, share.response)
        for name, settings in sorted(entry_filters(share, self._plan).items()):
            entry.typed_per_filter_config[name].CopyFrom(settings)
        if share.pool and self._pool_header:
            headers.put(entry, SERVED_BY_POOL_HEADER, "true")
        if share.pick is not None:
            entry.request_headers_to_remove.extend(CONTROL_HEADERS)
        if share.pick is not None and self._tell_apart:
            headers.put_request(entry, PICKER_HEADER, picker_id(share.pick.picker))
        return entry
