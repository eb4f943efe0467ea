"""The HTTP filters of a proxy, in the order in which a request meets them.

Everything but the router is off until an entry of a route switches it on, so that a request to a
plain Service meets nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from envoy.config.route.v3 import route_components_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm_pb2,
)
from google.protobuf import any_pb2

from inferway.gateway.envoy import native, pick, splice, usage
from inferway.gateway.envoy.pack import pack
from inferway.gateway.envoy.tracing import Tracing
from inferway.gateway.translate.ir import ClusterKind, Endpoint, Gateway, Pick, Share


@dataclass(frozen=True, slots=True)
class FilterPlan:
    """What the entries of a Gateway's routes need together.

    ``native``: the proxy has the native pick filter, which needs to know where ``pickers`` are,
    by the name of their cluster, and how requests are sampled if there is ``tracing``.
    """

    picks: tuple[Pick, ...]
    native: bool = False
    pickers: Mapping[str, tuple[Endpoint, ...]] = field(default_factory=dict)
    tracing: Tracing | None = None

    @property
    def splice(self) -> bool:
        return any(pick.splice for pick in self.picks)


def plan_filters(gateway: Gateway, *, native: bool, tracing: Tracing | None = None) -> FilterPlan:
    """The picks of all entries, each once, by path."""
    picks = {
        share.pick
        for port in gateway.ports
        for host in port.hosts
        for route in host.routes
        for share in route.shares
        if share.pick is not None
    }
    pickers = {
        cluster.name: cluster.endpoints
        for cluster in gateway.clusters
        if cluster.kind is ClusterKind.PICKER
    }
    ordered = tuple(sorted(picks, key=lambda pick: pick.path_prefix))
    return FilterPlan(ordered, native, pickers, tracing)


def http_filters(plan: FilterPlan) -> list[hcm_pb2.HttpFilter]:
    """The table: filters in the order in which a request meets them."""
    table: list[tuple[str, any_pb2.Any]] = []
    if plan.picks and plan.native:
        table.append((native.FILTER, native.native_filter()))
    elif plan.picks:
        # The picker sees the request as the client sent it.
        table += pick.pick_filters(plan.picks)
        if plan.splice:
            # Cuts the body by what the picker said.
            table.append((splice.SPLICE_FILTER, splice.splice_filter()))
        # Responses meet the filters from below: usage is read first.
        table.append((usage.JSON_FILTER, usage.json_filter()))
        table.append((usage.STREAM_FILTER, usage.stream_filter()))
    filters = [
        hcm_pb2.HttpFilter(name=name, disabled=True, typed_config=config) for name, config in table
    ]
    # The router's own headers (x-envoy-upstream-service-time and others) are nobody's business.
    router = router_pb2.Router(suppress_envoy_headers=True)
    return [
        *filters,
        hcm_pb2.HttpFilter(name="envoy.filters.http.router", typed_config=pack(router)),
    ]


def entry_filters(share: Share, plan: FilterPlan) -> dict[str, any_pb2.Any]:
    """What an entry of a route switches on: filter name to its settings there."""
    if share.pick is None:
        return {}
    if plan.native:
        picker = plan.pickers.get(share.pick.picker, ())
        return {native.FILTER: native.native_entry(share.pick, picker, plan.tracing)}
    name, settings = pick.pick_entry(share.pick, share=pick.shared(plan.picks))
    plain = pack(route_components_pb2.FilterConfig(config=any_pb2.Any()))
    chosen = {name: settings, usage.JSON_FILTER: plain, usage.STREAM_FILTER: plain}
    if share.pick.splice:
        chosen[splice.SPLICE_FILTER] = splice.splice_entry()
    return chosen
