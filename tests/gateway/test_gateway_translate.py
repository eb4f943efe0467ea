"""Rules of the translation that golden files show badly: precedence, hostnames, scale."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferway.api.codec import decode
from inferway.api.gateway import HTTPRouteMatch
from inferway.gateway.envoy.resources import Built
from inferway.gateway.translate import ir
from inferway.gateway.translate.hostnames import covering, intersect
from inferway.gateway.translate.hosts import HostTable
from inferway.gateway.translate.matches import UnsupportedValueError, precedence, request_match
from inferway.gateway.translate.rules import Candidate
from inferway.gateway.translate.snapshot import PodView, Snapshot
from inferway.gateway.translate.translation import translate
from inferway.gateway.translate_files import read_documents

labels = st.sampled_from(["a", "b", "example", "com"])
hostnames = st.one_of(
    st.just("*"),
    st.lists(labels, min_size=2, max_size=4).map(".".join),
    st.lists(labels, min_size=2, max_size=3).map(lambda parts: "*." + ".".join(parts)),
)


def hears(pattern: str, host: str) -> bool:
    """What a hostname means, said another way."""
    if pattern == "*":
        return True
    if pattern.startswith("*."):
        return host.endswith(pattern[1:]) and len(host) > len(pattern) - 1
    return pattern == host


@pytest.mark.parametrize(
    ("listener", "route", "expected"),
    [
        ("", "", "*"),
        ("", "a.com", "a.com"),
        ("a.com", "", "a.com"),
        ("a.com", "b.com", None),
        ("*.a.com", "x.a.com", "x.a.com"),
        ("*.a.com", "x.y.a.com", "x.y.a.com"),
        ("*.a.com", "a.com", None),
        ("x.a.com", "*.a.com", "x.a.com"),
        ("*.a.com", "*.x.a.com", "*.x.a.com"),
        ("*.x.a.com", "*.a.com", "*.x.a.com"),
        ("*.a.com", "*.b.com", None),
    ],
)
def test_intersection(listener: str, route: str, expected: str | None) -> None:
    assert intersect(listener, route) == expected


@pytest.mark.slow
@given(hostnames, hostnames, st.lists(labels, min_size=2, max_size=5).map(".".join))
def test_intersection_is_what_both_hear(left: str, right: str, host: str) -> None:
    both = intersect(left, right)
    assert (both is not None and hears(both, host)) == (hears(left, host) and hears(right, host))


@pytest.mark.slow
@given(hostnames, st.lists(labels, min_size=2, max_size=5).map(".".join))
def test_covering_names_every_pattern_that_hears(pattern: str, host: str) -> None:
    assert (pattern in list(covering(host))) == hears(pattern, host)


def candidate(name: str, path: str = "/") -> Candidate:
    match = ir.RequestMatch(ir.PathMatch(ir.MatchKind.PREFIX, path))
    return Candidate((precedence(match), "", name, 0, 0), ir.Route(name, match))


def asked(port: ir.Port, host: str) -> list[str]:
    """The routes that a request for ``host`` meets, as Envoy picks a domain."""
    known = {item.domain: item for item in port.hosts}
    for domain in covering(host):
        if domain in known:
            return [route.name for route in known[domain].routes]
    return []


def test_request_belongs_to_the_most_specific_listener() -> None:
    table = HostTable(80)
    for hostname in ("", "*.a.com", "x.a.com"):
        table.listen(hostname)
    table.add("", ["*", "y.a.com", "b.com"], [candidate("any")])
    table.add("*.a.com", ["*.a.com"], [candidate("wild")])
    port = table.port()
    assert asked(port, "x.a.com") == []
    assert asked(port, "y.a.com") == ["wild"]
    assert asked(port, "b.com") == ["any"]
    assert asked(port, "c.com") == ["any"]


def test_wider_hostnames_are_asked_after_narrower_ones() -> None:
    table = HostTable(80)
    table.listen("")
    table.add("", ["*"], [candidate("any", "/very/long/path")])
    table.add("", ["*.a.com"], [candidate("wild")])
    table.add("", ["x.a.com"], [candidate("exact")])
    port = table.port()
    assert asked(port, "x.a.com") == ["exact", "wild", "any"]
    assert asked(port, "y.a.com") == ["wild", "any"]


def test_precedence_of_matches() -> None:
    raw: list[dict[str, Any]] = [
        {"path": {"type": "Exact", "value": "/a"}},
        {"path": {"type": "RegularExpression", "value": "/a.*"}},
        {"path": {"type": "PathPrefix", "value": "/a/b"}},
        {"path": {"type": "PathPrefix", "value": "/a"}, "method": "GET"},
        {
            "path": {"type": "PathPrefix", "value": "/a"},
            "headers": [{"name": "x", "value": "1"}, {"name": "y", "value": "1"}],
        },
        {
            "path": {"type": "PathPrefix", "value": "/a"},
            "headers": [{"name": "x", "value": "1"}],
            "queryParams": [{"name": "q", "value": "1"}],
        },
        {"path": {"type": "PathPrefix", "value": "/a"}, "headers": [{"name": "x", "value": "1"}]},
        {"path": {"type": "PathPrefix", "value": "/a"}},
    ]
    matches = [request_match(decode(HTTPRouteMatch, item)) for item in raw]
    mixed = matches[::-1]
    assert sorted(mixed, key=precedence) == matches


@pytest.mark.parametrize("text", ["(", "(?=a)", "(?<!a)b", r"(a)\1", "a++"])
def test_expressions_that_envoy_can_not_read_are_refused(text: str) -> None:
    raw = {"path": {"type": "RegularExpression", "value": text}}
    with pytest.raises(UnsupportedValueError):
        request_match(decode(HTTPRouteMatch, raw))


def large(pods: int, routes: int) -> Snapshot:
    documents: list[dict[str, Any]] = [
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "GatewayClass",
            "metadata": {"name": "inferway"},
            "spec": {"controllerName": "inferway.dev/gateway-controller"},
        },
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": {"name": "gw", "namespace": "ns"},
            "spec": {
                "gatewayClassName": "inferway",
                "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}],
            },
        },
        {
            "apiVersion": "inference.networking.k8s.io/v1",
            "kind": "InferencePool",
            "metadata": {"name": "pool", "namespace": "ns"},
            "spec": {"selector": {"matchLabels": {"app": "x"}}, "targetPorts": [{"number": 8000}]},
        },
    ]
    pool = {"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": "pool"}
    documents += [
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {"name": f"r{number}", "namespace": "ns"},
            "spec": {
                "parentRefs": [{"name": "gw"}],
                "hostnames": [f"h{number}.example.com"],
                "rules": [{"backendRefs": [pool]}],
            },
        }
        for number in range(routes)
    ]
    snapshot, _ = read_documents(documents)
    views = {
        ("ns", f"p{n}"): PodView("ns", f"p{n}", f"10.0.{n // 250}.{n % 250}", True, {"app": "x"})
        for n in range(pods)
    }
    return Snapshot(
        gateway_classes=snapshot.gateway_classes,
        gateways=snapshot.gateways,
        http_routes=snapshot.http_routes,
        inference_pools=snapshot.inference_pools,
        pods=views,
    )


@pytest.mark.slow
def test_cost_grows_with_size_and_not_with_its_square() -> None:
    def cost(size: int) -> float:
        snapshot = large(size, size)
        begin = time.process_time()
        result = translate(snapshot)
        built = Built(result.gateways["ns", "gw"].ir)
        assert built.gateway.clusters[0].endpoints
        return time.process_time() - begin

    cost(10)
    small, big = min(cost(200) for _ in range(3)), min(cost(1600) for _ in range(2))
    # Eight times the size: 8 if linear, 64 if quadratic.
    assert big / small < 24, f"{small:.4f} s and {big:.4f} s"
