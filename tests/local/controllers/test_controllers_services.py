"""EndpointSlices and addresses of Services."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferway.local.controllers import addresses, endpoints
from inferway.local.controllers.actions import Create, Delete, Note, Patch

NETWORK = IPv4Network("127.77.128.0/17")


def service(name: str = "web", **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "d", "uid": "s", "labels": {"team": "a"}},
        "spec": {"selector": {"app": "x"}, "ports": [{"port": 80, "targetPort": 8000}], **spec},
    }


def pod(name: str, *, ready: bool = True, ip: str = "", **more: Any) -> dict[str, Any]:
    meta: dict[str, Any] = {
        "name": name,
        "namespace": "d",
        "uid": name,
        "labels": more.pop("labels", {"app": "x"}),
    }
    if more.pop("deleting", False):
        meta["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    phase = more.pop("phase", "Running")
    return {
        "metadata": meta,
        "spec": {"nodeName": "n", "containers": [], **more},
        "status": {
            "phase": phase,
            "podIP": ip or f"127.77.1.{len(name)}",
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    }


def only(actions: list[Any]) -> Any:
    assert len(actions) == 1, actions
    return actions[0]


def test_a_first_slice() -> None:
    made = only(endpoints.plan(service(), [pod("a"), pod("bb", ready=False)], []))
    assert isinstance(made, Create)
    assert made.obj["metadata"]["labels"] == {
        "team": "a",
        "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }
    assert made.obj["metadata"]["generateName"] == "web-"
    assert made.obj["ports"] == [{"name": "", "port": 8000, "protocol": "TCP"}]
    first, second = made.obj["endpoints"]
    assert first == {
        "addresses": ["127.77.1.1"],
        "conditions": {"ready": True, "serving": True, "terminating": False},
        "nodeName": "n",
        "targetRef": {"kind": "Pod", "namespace": "d", "name": "a", "uid": "a"},
    }
    assert second["conditions"]["ready"] is False


CONDITIONS = [
    # pod, publishNotReadyAddresses -> ready, serving, terminating
    (pod("a"), False, (True, True, False)),
    (pod("a", ready=False), False, (False, False, False)),
    (pod("a", deleting=True), False, (False, True, True)),
    (pod("a", deleting=True, ready=False), False, (False, False, True)),
    (pod("a", ready=False), True, (True, False, False)),
    (pod("a", deleting=True), True, (True, True, True)),
]


@pytest.mark.parametrize(("one", "publish", "expected"), CONDITIONS)
def test_conditions(one: Any, publish: bool, expected: tuple[bool, bool, bool]) -> None:
    made = only(endpoints.plan(service(publishNotReadyAddresses=publish), [one], []))
    found = made.obj["endpoints"][0]["conditions"]
    assert (found["ready"], found["serving"], found["terminating"]) == expected


def test_who_is_left_out() -> None:
    strangers = [pod("a", labels={"app": "y"}), pod("b", phase="Failed")]
    unaddressed = pod("c")
    del unaddressed["status"]["podIP"]
    made = only(endpoints.plan(service(), [*strangers, unaddressed], []))
    assert made.obj["endpoints"] == []
    assert made.obj["ports"][0]["port"] == 8000


def test_named_ports_are_looked_up_and_split() -> None:
    named = service(ports=[{"name": "http", "port": 80, "targetPort": "web"}])

    def with_port(name: str, number: int) -> Any:
        ports = [{"name": "web", "containerPort": number}]
        return pod(name, containers=[{"ports": ports}])

    pods = [with_port("a", 1000), with_port("bb", 2000), with_port("ccc", 1000)]
    made = endpoints.plan(named, pods, [])
    found = {m.obj["ports"][0]["port"]: len(m.obj["endpoints"]) for m in made}  # type: ignore[union-attr]
    assert found == {1000: 2, 2000: 1}
    sidecar = pod(
        "s",
        initContainers=[
            {"restartPolicy": "Always", "ports": [{"name": "web", "containerPort": 3000}]}
        ],
    )
    assert only(endpoints.plan(named, [sidecar], [])).obj["ports"][0]["port"] == 3000


def stored(created: Any, name: str = "web-1") -> dict[str, Any]:
    return {**created.obj, "metadata": {**created.obj["metadata"], "name": name, "uid": name}}


def test_a_change_is_a_small_patch_and_no_change_is_none() -> None:
    pods = [pod("a"), pod("bb")]
    current = stored(only(endpoints.plan(service(), pods, [])))
    assert endpoints.plan(service(), pods, [current]) == []
    # Endpoints stay where they are, whatever the order of the Pods.
    assert endpoints.plan(service(), pods[::-1], [current]) == []
    patch = only(endpoints.plan(service(), [pods[0], pod("bb", ready=False)], [current]))
    assert isinstance(patch, Patch)
    assert set(patch.patch) == {"endpoints"}
    ports = [{"port": 80, "targetPort": 9000}]
    patch = only(endpoints.plan(service(ports=ports), pods, [current]))
    assert set(patch.patch) == {"ports"}


def test_many_endpoints_are_cut_into_slices() -> None:
    pods = [pod(f"p{i}", ip=f"127.77.2.{i % 250}") for i in range(230)]
    made = endpoints.plan(service(), pods, [])
    assert [len(m.obj["endpoints"]) for m in made] == [100, 100, 30]  # type: ignore[union-attr]
    slices = [stored(m, f"web-{i}") for i, m in enumerate(made)]
    fewer = endpoints.plan(service(), pods[:50], slices)
    assert [type(a) for a in fewer] == [Patch, Delete, Delete]


def test_services_that_have_no_slices() -> None:
    without = service()
    del without["spec"]["selector"]
    assert endpoints.plan(without, [pod("a")], []) == []
    named = service(type="ExternalName", externalName="example.org")
    assert endpoints.plan(named, [pod("a")], []) == []
    headless = only(endpoints.plan(service(clusterIP="None"), [pod("a")], []))
    assert headless.obj["metadata"]["labels"]["service.kubernetes.io/headless"] == ""


def test_a_service_gets_a_cluster_ip() -> None:
    patch = only(addresses.plan(service(), set(), NETWORK))
    address = patch.patch["spec"]["clusterIP"]
    assert patch.patch["spec"]["clusterIPs"] == [address]
    assert address.startswith("127.77.")
    # The same name leads to the same place, unless that is taken.
    assert only(addresses.plan(service(), set(), NETWORK)).patch == patch.patch
    other = only(addresses.plan(service(), {address}, NETWORK)).patch["spec"]["clusterIP"]
    assert other != address


def test_a_load_balancer_gets_a_second_address() -> None:
    cluster, balancer, note = addresses.plan(service(type="LoadBalancer"), set(), NETWORK)
    assert isinstance(cluster, Patch)
    assert isinstance(balancer, Patch)
    assert isinstance(note, Note)
    ip = balancer.patch["status"]["loadBalancer"]["ingress"][0]["ip"]
    assert balancer.subresource == "status"
    assert ip != cluster.patch["spec"]["clusterIP"]
    done = {
        **service(type="LoadBalancer", clusterIP="127.77.128.9"),
        "status": {"loadBalancer": {"ingress": [{"ip": ip}]}},
    }
    assert addresses.plan(done, {ip}, NETWORK) == []
    assert addresses.taken([done]) == {ip, "127.77.128.9"}
    done["spec"]["type"] = "ClusterIP"
    assert only(addresses.plan(done, {ip}, NETWORK)).patch["status"]["loadBalancer"] == {
        "ingress": None
    }


UNTOUCHED = [
    {"type": "ExternalName", "externalName": "example.org"},
    {"clusterIP": "None"},
    {"clusterIP": "127.77.128.1"},
]


@pytest.mark.parametrize("spec", UNTOUCHED)
def test_services_that_are_left_alone(spec: dict[str, Any]) -> None:
    assert addresses.plan(service(**spec), set(), NETWORK) == []


def test_a_wish_is_granted_or_refused_in_an_event() -> None:
    def asking(ip: str, used: set[str]) -> Any:
        asked = service(type="LoadBalancer", clusterIP="127.77.128.1", loadBalancerIP=ip)
        return addresses.plan(asked, used, NETWORK)[0]

    wish = asking("127.77.200.1", set())
    assert wish.patch["status"]["loadBalancer"]["ingress"][0]["ip"] == "127.77.200.1"
    assert "is taken" in asking("127.77.200.1", {"127.77.200.1"}).message
    assert "is not in 127.77.128.0/17" in asking("10.0.0.1", set()).message
    assert "is not in" in asking("nonsense", set()).message


def test_a_used_up_range_is_told() -> None:
    tiny = IPv4Network("127.77.128.0/30")
    note = only(addresses.plan(service(), {"127.77.128.1", "127.77.128.2"}, tiny))
    assert isinstance(note, Note)
    assert note.reason == "AddressRangeExhausted"
    assert "all 2 addresses of 127.77.128.0/30 are in use" in note.message


@given(st.lists(st.text(max_size=5), min_size=1, max_size=14, unique=True))
def test_addresses_are_unique_and_inside(names: list[str]) -> None:
    network = IPv4Network("127.77.128.0/28")
    used: set[str] = set()
    for name in names:
        address = addresses.pick(network, used, name)
        assert address is not None
        assert address not in used
        assert address not in ("127.77.128.0", "127.77.128.15")
        used.add(address)
    if len(names) == 14:
        assert addresses.pick(network, used, "one more") is None
