"""The proxies' objects, names and statuses."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import yaml
from gateway_rig import Server, envoy, json_backend, own_address, request, rig

from inferway.api.codec import decode
from inferway.api.core import Service
from inferway.api.gateway import Gateway, GatewayClass
from inferway.api.inferway import GatewayParameters
from inferway.gateway.controller.options import parse
from inferway.gateway.controller.statuses import merged_parents, stamped
from inferway.gateway.proxy.bootstrap import READY_PORT, Xds, bootstrap
from inferway.gateway.proxy.naming import NAME_CHARACTERS_MAX, gateway_label, object_name
from inferway.gateway.proxy.objects import proxy_objects
from inferway.gateway.proxy.parameters import Parameters, parameters
from inferway.gateway.proxy.status import ProxyState, addresses, complete
from inferway.gateway.translate import ir
from inferway.gateway.translate.snapshot import CONTROLLER_NAME, Snapshot
from inferway.gateway.translate.translation import PlannedGateway, translate


def gateway(**spec: Any) -> Gateway:
    raw = {
        "metadata": {"name": "gw", "namespace": "ns", "uid": "u", "generation": 7},
        "spec": {
            "gatewayClassName": "inferway",
            "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}],
            **spec,
        },
    }
    return decode(Gateway, raw)


def gateway_class(**spec: Any) -> GatewayClass:
    raw = {"metadata": {"name": "inferway"}, "spec": {"controllerName": CONTROLLER_NAME, **spec}}
    return decode(GatewayClass, raw)


def plan(item: Gateway) -> PlannedGateway:
    snapshot = Snapshot(
        gateway_classes={("", "inferway"): gateway_class()}, gateways={("ns", "gw"): item}
    )
    return translate(snapshot).gateways["ns", "gw"]


def service(type_: str = "LoadBalancer", **ingress: str) -> Service:
    raw = {
        "spec": {"type": type_, "clusterIP": "10.0.0.1"},
        "status": {"loadBalancer": {"ingress": [ingress] if ingress else []}},
    }
    return decode(Service, raw)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("gw", "gw-inferway"), ("inference-gateway", "inference-gateway-inferway")],
)
def test_short_names_are_readable(name: str, expected: str) -> None:
    assert object_name(name, "inferway") == expected


def test_long_and_odd_names_are_cut_and_stay_apart() -> None:
    names = ["a" * 253, "a" * 252 + "b", "a.b", "a-b", "1a", "gw-1a"]
    made = [object_name(name, "inferway") for name in names]
    assert len(set(made)) == len(names)
    for name in made:
        assert len(name) <= NAME_CHARACTERS_MAX
        assert name[0].isalpha()
        assert name.replace("-", "").isalnum()
    assert len(gateway_label("a" * 253)) == 63


def test_objects_carry_what_the_gateway_says() -> None:
    item = gateway(infrastructure={"labels": {"team": "ml"}, "annotations": {"a/b": "c"}})
    chosen = Parameters(
        replicas=3,
        image="my/envoy:1",
        resources={"limits": {"cpu": "2"}},
        service_type="ClusterIP",
        pod_labels={"zone": "x", "app.kubernetes.io/managed-by": "nobody"},
    )
    objects = proxy_objects(item, (80, 8080), chosen, Xds("10.1.1.1"))
    deployment, made = objects.deployment, objects.service
    assert deployment["metadata"]["ownerReferences"][0]["uid"] == "u"
    assert made["metadata"]["labels"]["team"] == "ml"
    assert made["metadata"]["annotations"] == {"a/b": "c"}
    assert [(p["port"], p["targetPort"]) for p in made["spec"]["ports"]] == [
        (80, 10080),
        (8080, 8080),
    ]
    assert made["spec"]["type"] == "ClusterIP"
    template = deployment["spec"]["template"]
    assert deployment["spec"]["replicas"] == 3
    assert template["metadata"]["labels"]["zone"] == "x"
    selector = deployment["spec"]["selector"]["matchLabels"]
    assert selector.items() <= template["metadata"]["labels"].items()
    assert made["spec"]["selector"] == selector
    (container,) = template["spec"]["containers"]
    assert container["image"] == "my/envoy:1"
    assert container["resources"] == {"limits": {"cpu": "2"}}
    config = yaml.safe_load(container["args"][1])
    assert config["node"]["cluster"] == "ns/gw"
    assert {item["name"] for item in container["env"]} >= {"POD_IP", "BIND_ADDRESS"}


def test_equal_input_gives_equal_objects() -> None:
    first = proxy_objects(gateway(), (80,), Parameters(), Xds("10.1.1.1"))
    assert first == proxy_objects(gateway(), (80,), Parameters(), Xds("10.1.1.1"))


@pytest.mark.parametrize(
    ("address", "kind"),
    [("10.0.0.1", "STATIC"), ("fd00::1", "STATIC"), ("inferway.ns.svc", "STRICT_DNS")],
)
def test_controller_is_found_by_address_or_name(address: str, kind: str) -> None:
    static = bootstrap(("ns", "gw"), "u", Xds(address))["static_resources"]
    assert static["clusters"][0]["type"] == kind


def test_parameters_of_the_gateway_stand_over_those_of_its_class() -> None:
    def made(name: str, **spec: Any) -> GatewayParameters:
        meta = {"name": name, "namespace": "ns"}
        return decode(GatewayParameters, {"metadata": meta, "spec": spec})

    ref = {"group": "inferway.dev", "kind": "GatewayParameters"}
    snapshot = Snapshot(
        gateway_parameters={
            ("ns", "base"): made("base", image="base:1", podLabels={"a": "1", "b": "1"}),
            ("ns", "own"): made("own", replicas=2, podLabels={"b": "2"}),
        }
    )
    own_class = gateway_class(parametersRef={**ref, "name": "base", "namespace": "ns"})
    item = gateway(infrastructure={"parametersRef": {**ref, "name": "own"}})
    found = parameters(snapshot, own_class, item)
    assert (found.image, found.replicas) == ("base:1", 2)
    assert found.pod_labels == {"a": "1", "b": "2"}
    assert parameters(Snapshot(), own_class, item) == Parameters()


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (service(ip="1.2.3.4"), [("IPAddress", "1.2.3.4")]),
        (service(hostname="a.example"), [("Hostname", "a.example")]),
        (service("ClusterIP"), [("IPAddress", "10.0.0.1")]),
        (service(), []),
        (None, []),
    ],
)
def test_addresses(found: Service | None, expected: list[tuple[str, str]]) -> None:
    assert [(item["type"], item["value"]) for item in addresses(found)] == expected


@pytest.mark.parametrize(
    ("found", "state", "reason", "words"),
    [
        (None, ProxyState(1, 0, True), "AddressNotAssigned", "no address"),
        (service(ip="1.2.3.4"), ProxyState(), "Pending", "No proxy is connected"),
        (service(ip="1.2.3.4"), ProxyState(3, 2), "Pending", "2 of 3 proxies"),
        (service(ip="1.2.3.4"), ProxyState(1, 0, True, ("x: bad",)), "Invalid", "x: bad"),
        (service(ip="1.2.3.4"), ProxyState(trouble="No Service."), "NoResources", "No Service."),
        (service(ip="1.2.3.4"), ProxyState(1, 0, True), "Programmed", ""),
        (
            service(ip="1.2.3.4"),
            ProxyState(1, 0, True, (), ((80, 8080),)),
            "Programmed",
            "port 80 as 8080",
        ),
    ],
)
def test_programmed(found: Service | None, state: ProxyState, reason: str, words: str) -> None:
    status = complete(plan(gateway()), found, state)
    programmed = status["conditions"][-1]
    assert (programmed["type"], programmed["reason"]) == ("Programmed", reason)
    assert words in programmed["message"]
    assert programmed["observedGeneration"] == 7
    listener = status["listeners"][0]["conditions"][-1]
    assert listener["status"] == programmed["status"]


def test_gateway_that_is_not_accepted_is_not_programmed() -> None:
    listeners = [{"name": "x", "port": 53, "protocol": "UDP"}]
    status = complete(plan(gateway(listeners=listeners)), service(ip="1.2.3.4"), ProxyState())
    assert status["addresses"] == []
    assert status["conditions"][-1]["reason"] == "Invalid"


def test_times_change_with_the_status_only() -> None:
    old = {"type": "A", "status": "True", "lastTransitionTime": "then"}
    wanted = {"conditions": [{"type": "A", "status": "True", "message": "new words"}]}
    kept = stamped(wanted, {"conditions": [old]}, 0.0)
    assert kept["conditions"][0]["lastTransitionTime"] == "then"
    assert kept["conditions"][0]["message"] == "new words"
    turned = {"conditions": [{"type": "A", "status": "False"}]}
    changed = stamped(turned, {"conditions": [old]}, 0.0)
    assert changed["conditions"][0]["lastTransitionTime"] == "1970-01-01T00:00:00Z"


def test_entries_of_other_controllers_stay() -> None:
    foreign = {"controllerName": "example.com/other", "parentRef": {"name": "x"}, "conditions": []}
    nameless = {"parentRef": {"name": "y"}}
    stale = {"controllerName": CONTROLLER_NAME, "parentRef": {"name": "z"}, "conditions": []}
    ours = {"controllerName": CONTROLLER_NAME, "parentRef": {"name": "gw"}, "conditions": []}
    assert merged_parents([ours], [foreign, stale, nameless], 0.0) == [foreign, nameless, ours]
    assert merged_parents([], [foreign, stale], 0.0) == [foreign]


def test_options_flags_over_environment() -> None:
    env = {
        "POD_NAMESPACE": "sys",
        "INFERWAY_POD_IP": "127.77.1.1",
        "INFERWAY_XDS_SERVICE": "inferway",
        "INFERWAY_EXTRA_GATEWAY_CLASSES": "agentgateway, other",
        "INFERWAY_INFERENCE_EXTENSION": "false",
    }
    found = parse([], env)
    assert found.bind_address == "127.77.1.1"
    assert found.extra_classes == ("agentgateway", "other")
    assert (found.namespace, found.xds_service, found.inference) == ("sys", "inferway", False)
    assert parse(["--bind-address", "::"], env).bind_address == "::"
    assert parse([], {}).bind_address == "0.0.0.0"


@pytest.mark.slow
async def test_draining_proxy_waits_for_its_last_request() -> None:
    go_on, arrived = asyncio.Event(), asyncio.Event()
    server = Server(json_backend("slow"))
    at_once = server.handler

    async def slow(asked: Any, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await go_on.wait()
        await at_once(asked, writer)

    server.handler = slow
    await server.start(own_address(40))
    cluster = ir.Cluster(
        "service/ns/web/80", ir.ClusterKind.SERVICE, (ir.Endpoint(server.host, server.port),)
    )
    route = ir.Route("r", ir.RequestMatch(), (ir.Share(cluster.name),))
    async with rig() as made:
        await made.publish(
            ir.Gateway("ns", "gw", (ir.Port(80, (ir.Host("*", (route,)),)),), (cluster,))
        )
        objects = proxy_objects(gateway(), (80,), Parameters(), made.xds)
        container = objects.deployment["spec"]["template"]["spec"]["containers"][0]
        host = own_address(41)
        async with envoy(container["args"], host, made.log):
            await made.until(lambda: made.hub.progress("ns/gw").connected == 2)
            await made.until(lambda: made.hub.progress("ns/gw").behind == 0)
            ready = await request((host, READY_PORT), "/ready", method="GET")
            assert ready.status == 200
            hidden = await request((host, READY_PORT), "/drain_listeners")
            assert hidden.status == 404
            async with asyncio.TaskGroup() as group:
                asked = group.create_task(request((host, 8080)))
                await arrived.wait()
                hook = await asyncio.create_subprocess_exec(
                    *container["lifecycle"]["preStop"]["exec"]["command"],
                    env={"POD_IP": host, "PATH": "/usr/bin:/bin"},
                )
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(hook.wait(), 0.5)
                go_on.set()
                assert await asyncio.wait_for(hook.wait(), 10) == 0
            assert asked.result().status == 200
    server.stop()
