"""The scheduler's choices and words."""

from __future__ import annotations

from typing import Any

import pytest

from inferway.local.controllers import requests
from inferway.local.controllers.scheduling import NO_NODES, choose, room


def node(name: str = "n", **options: Any) -> dict[str, Any]:
    allocatable = {"cpu": "4", "memory": "8Gi", "pods": "10", **options.pop("allocatable", {})}
    return {
        "metadata": {"name": name, "labels": options.pop("labels", {})},
        "spec": options,
        "status": {"allocatable": allocatable},
    }


def pod(cpu: str = "1", memory: str = "1Gi", **spec: Any) -> dict[str, Any]:
    container = {"name": "c", "resources": {"requests": {"cpu": cpu, "memory": memory}}}
    return {"metadata": {"name": "p"}, "spec": {"containers": [container], **spec}}


HEAD = "0/1 nodes are available: "
VICTIMS = " preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
NOT_HELPFUL = " preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
TAINT = {"key": "gpu", "value": "yes", "effect": "NoSchedule"}
AFFINITY = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [
                {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}
            ]
        }
    }
}

REFUSALS = [
    (
        pod("10", "16Gi"),
        node(),
        HEAD + "1 Insufficient cpu, 1 Insufficient memory." + VICTIMS,
    ),
    (pod("10"), node(), HEAD + "1 Insufficient cpu." + VICTIMS),
    (
        pod(),
        node(allocatable={"pods": "0"}),
        HEAD + "1 Too many pods." + VICTIMS,
    ),
    (
        pod(),
        node(unschedulable=True),
        HEAD + "1 node(s) were unschedulable." + NOT_HELPFUL,
    ),
    (
        pod(),
        node(taints=[TAINT]),
        HEAD + "1 node(s) had untolerated taint {gpu: yes}." + NOT_HELPFUL,
    ),
    (
        pod(nodeSelector={"disk": "ssd"}),
        node(),
        HEAD + "1 node(s) didn't match Pod's node affinity/selector." + NOT_HELPFUL,
    ),
    (
        pod(affinity=AFFINITY),
        node(),
        HEAD + "1 node(s) didn't match Pod's node affinity/selector." + NOT_HELPFUL,
    ),
]


@pytest.mark.parametrize(("asking", "place", "message"), REFUSALS)
def test_refusals_in_the_words_of_kubernetes(
    asking: dict[str, Any], place: dict[str, Any], message: str
) -> None:
    choice = choose(asking, [room(place, [])])
    assert (choice.node, choice.message) == ("", message)


def test_several_nodes_are_counted() -> None:
    rooms = [room(node("a"), []), room(node("b"), []), room(node("c", unschedulable=True), [])]
    assert choose(pod("10"), rooms).message == (
        "0/3 nodes are available: 1 node(s) were unschedulable, 2 Insufficient cpu. "
        "preemption: 0/3 nodes are available: 1 Preemption is not helpful for scheduling, "
        "2 No preemption victims found for incoming pod."
    )


def test_no_nodes() -> None:
    assert choose(pod(), []).message == NO_NODES


FITS = [
    (pod("4", "8Gi"), node()),
    (pod(nodeSelector={"disk": "ssd"}), node(labels={"disk": "ssd"})),
    (pod(affinity=AFFINITY), node(labels={"disk": "ssd"})),
    (pod(tolerations=[{"operator": "Exists"}]), node(taints=[TAINT])),
    (pod(tolerations=[{"key": "gpu", "value": "yes"}]), node(taints=[TAINT])),
    (pod(tolerations=[{"key": "gpu", "operator": "Exists"}]), node(taints=[TAINT])),
    (pod(), node(taints=[{**TAINT, "effect": "PreferNoSchedule"}])),
    (pod(tolerations=[{"operator": "Exists"}]), node(unschedulable=True)),
]


@pytest.mark.parametrize(("asking", "place"), FITS)
def test_what_fits(asking: dict[str, Any], place: dict[str, Any]) -> None:
    assert choose(asking, [room(place, [])]).node == "n"


def test_a_toleration_of_another_value_is_none() -> None:
    asking = pod(tolerations=[{"key": "gpu", "value": "no"}])
    assert choose(asking, [room(node(taints=[TAINT]), [])]).node == ""


def test_the_emptier_node_and_then_the_name() -> None:
    busy, idle = room(node("a"), [pod("2")]), room(node("b"), [])
    assert choose(pod(), [busy, idle]).node == "b"
    assert choose(pod(), [room(node("b"), []), room(node("a"), [])]).node == "a"


def test_finished_pods_take_no_room() -> None:
    done = {**pod("4"), "status": {"phase": "Succeeded"}}
    assert choose(pod("4"), [room(node(), [done])]).node == "n"


def container(cpu: str, **more: Any) -> dict[str, Any]:
    return {"name": "c", "resources": {"requests": {"cpu": cpu}}, **more}


REQUESTS = [
    ([container("1"), container("500m")], [], "1.5"),
    # An init container alone may be the heaviest.
    ([container("1")], [container("3")], "3"),
    # A sidecar stays beside the others,
    ([container("1")], [container("500m", restartPolicy="Always")], "1.5"),
    # and beside the init containers after it, but not before it.
    ([container("1")], [container("1", restartPolicy="Always"), container("2")], "3"),
    ([container("1")], [container("2"), container("1", restartPolicy="Always")], "2"),
    # A limit is a request.
    ([{"name": "c", "resources": {"limits": {"cpu": "2"}}}], [], "2"),
    ([{"name": "c", "resources": {"requests": {"cpu": "much"}}}], [], "0"),
]


@pytest.mark.parametrize(("running", "first", "cpu"), REQUESTS)
def test_requests_of_a_pod(running: list[Any], first: list[Any], cpu: str) -> None:
    asked = requests.of_pod({"spec": {"containers": running, "initContainers": first}})
    assert str(asked.get("cpu", 0).normalize() if "cpu" in asked else 0) == cpu


def test_overhead_is_added() -> None:
    asked = requests.of_pod({"spec": {"containers": [container("1")], "overhead": {"cpu": "1"}}})
    assert asked["cpu"] == 2
