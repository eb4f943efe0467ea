"""The HTTP filters of a proxy, in the order in which a request meets them.

Everything but the router is off until an entry of a route switches it on, so that a request to a
plain Service meets nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from envoy.config.route.v3 import route_components_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm_pb2,
)
from google.protobuf import any_pb2

from inferway.gateway.envoy import pick, splice, usage
from inferway.gateway.envoy.pack import pack
from inferway.gateway.translate.ir import Gateway, Share


@dataclass(frozen=True, slots=True)
class _Filter:
    name: str
    build: Callable[[], any_pb2.Any]
    wanted: Callable[[Share], bool]


def _table() -> tuple[_Filter, ...]:
    return (
        # The picker sees the request as the client sent it.
        _Filter(
            pick.OPEN_FILTER,
            lambda: pick.pick_filter(fail_open=True),
            lambda share: share.pick is not None and share.pick.fail_open,
        ),
        _Filter(
            pick.CLOSED_FILTER,
            lambda: pick.pick_filter(fail_open=False),
            lambda share: share.pick is not None and not share.pick.fail_open,
        ),
        # Cuts the body by what the picker said.
        _Filter(
            splice.SPLICE_FILTER,
            splice.splice_filter,
            lambda share: share.pick is not None and share.pick.splice,
        ),
        # Responses meet the filters from below: usage is read first.
        _Filter(usage.JSON_FILTER, usage.json_filter, lambda share: share.pick is not None),
        _Filter(usage.STREAM_FILTER, usage.stream_filter, lambda share: share.pick is not None),
    )


def http_filters(gateway: Gateway) -> list[hcm_pb2.HttpFilter]:
    """The filters that some entry of the Gateway needs, and the router."""
    shares = [
        share
        for port in gateway.ports
        for host in port.hosts
        for route in host.routes
        for share in route.shares
    ]
    filters = [
        hcm_pb2.HttpFilter(name=entry.name, disabled=True, typed_config=entry.build())
        for entry in _table()
        if any(entry.wanted(share) for share in shares)
    ]
    # The router's own headers (x-envoy-upstream-service-time and others) are nobody's business.
    router = router_pb2.Router(suppress_envoy_headers=True)
    return [
        *filters,
        hcm_pb2.HttpFilter(name="envoy.filters.http.router", typed_config=pack(router)),
    ]


def entry_filters(share: Share) -> dict[str, any_pb2.Any]:
    """What an entry of a route switches on: filter name to its settings there."""
    if share.pick is None:
        return {}
    name, settings = pick.pick_entry(share.pick)
    plain = pack(route_components_pb2.FilterConfig(config=any_pb2.Any()))
    chosen = {name: settings, usage.JSON_FILTER: plain, usage.STREAM_FILTER: plain}
    if share.pick.splice:
        chosen[splice.SPLICE_FILTER] = splice.splice_entry()
    return chosen
