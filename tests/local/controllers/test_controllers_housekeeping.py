"""Nodes that fall silent, Pods that nobody ends, namespaces and their accounts."""

from __future__ import annotations

from typing import Any

from inferway.api.resources import CONFIG_MAPS, PODS
from inferway.base.clock import rfc3339
from inferway.local.controllers import accounts, namespaces, nodes, pod_gc
from inferway.local.controllers.actions import Again, Create, Delete, Note, Patch
from inferway.local.controllers.discovery import resources_of

NOW = 1_800_000_000.0


def node(ready: str = "True", taints: Any = ()) -> dict[str, Any]:
    conditions = [
        {"type": "Ready", "status": ready, "reason": "KubeletReady"},
        {"type": "MemoryPressure", "status": "False"},
    ]
    return {
        "metadata": {"name": "n", "uid": "n", "resourceVersion": "7"},
        "spec": {"taints": list(taints)},
        "status": {"conditions": conditions},
    }


def pod(name: str = "p", **more: Any) -> dict[str, Any]:
    meta: dict[str, Any] = {"name": name, "namespace": "d", "uid": name}
    meta["creationTimestamp"] = rfc3339(NOW + more.pop("created", 0))
    if more.pop("deleting", False):
        meta["deletionTimestamp"] = rfc3339(NOW)
    phase = more.pop("phase", "Running")
    ready = {"type": "Ready", "status": "True"}
    return {"metadata": meta, "spec": more, "status": {"phase": phase, "conditions": [ready]}}


def test_a_silent_node_and_its_pods() -> None:
    status, note, taint, ready, pod_note = nodes.plan(node(), [pod()], True, NOW)
    assert isinstance(status, Patch)
    assert isinstance(note, Note)
    assert isinstance(taint, Patch)
    assert isinstance(ready, Patch)
    assert isinstance(pod_note, Note)
    found = {c["type"]: c for c in status.patch["status"]["conditions"]}
    assert found["Ready"]["status"] == "Unknown"
    assert found["Ready"]["message"] == "Kubelet stopped posting node status."
    assert found["MemoryPressure"]["status"] == "Unknown"
    assert note.reason == "NodeNotReady"
    assert taint.patch["spec"]["taints"][0]["key"] == "node.kubernetes.io/unreachable"
    assert ready.patch["status"]["conditions"][0]["status"] == "False"


def test_a_node_that_returns_loses_the_taint() -> None:
    taints = [
        {"key": "node.kubernetes.io/unreachable", "effect": "NoSchedule"},
        {"key": "gpu", "effect": "NoSchedule"},
    ]
    (patch,) = nodes.plan(node(taints=taints), [pod()], False, NOW)
    assert isinstance(patch, Patch)
    assert [t["key"] for t in patch.patch["spec"]["taints"]] == ["gpu"]
    assert nodes.plan(node(), [pod()], False, NOW) == []
    assert nodes.plan({"metadata": {"name": "new"}}, [], False, NOW) == []


def test_a_node_that_says_it_is_not_ready() -> None:
    taint, ready, _ = nodes.plan(node("False"), [pod()], False, NOW)
    assert isinstance(taint, Patch)
    assert taint.patch["spec"]["taints"][0]["key"] == "node.kubernetes.io/not-ready"
    assert isinstance(ready, Patch)


LIMITS = pod_gc.Limits(finished_max=1, orphaned_seconds=40)


def test_the_oldest_finished_pods_go() -> None:
    pods = [
        pod("new", phase="Failed", created=9, nodeName="n"),
        pod("old", phase="Succeeded", created=1, nodeName="n"),
        pod("runs", nodeName="n"),
    ]
    (deletion,) = pod_gc.plan(pods, {"n"}, {}, 0, LIMITS)
    assert isinstance(deletion, Delete)
    assert deletion.obj["metadata"]["name"] == "old"


def test_pods_of_missing_nodes_go_after_a_while() -> None:
    (again,) = pod_gc.plan([pod(nodeName="gone")], {"n"}, {"gone": 100.0}, 110.0, LIMITS)
    assert again == Again(30.0)
    note, deletion = pod_gc.plan([pod(nodeName="gone")], {"n"}, {"gone": 100.0}, 140.0, LIMITS)
    assert isinstance(note, Note)
    assert isinstance(deletion, Delete)
    assert deletion.grace_seconds == 0


def test_unbound_pods_that_are_deleted_go_at_once() -> None:
    (deletion,) = pod_gc.plan([pod(deleting=True), pod("waits")], set(), {}, 0, LIMITS)
    assert isinstance(deletion, Delete)


def test_every_namespace_gets_an_account_and_the_certificate() -> None:
    account, root = accounts.plan("d", None, None, "CA")
    assert isinstance(account, Create)
    assert isinstance(root, Create)
    assert account.obj["kind"] == "ServiceAccount"
    assert root.obj["metadata"]["name"] == "kube-root-ca.crt"
    assert root.obj["data"] == {"ca.crt": "CA"}
    assert accounts.plan("d", account.obj, root.obj, "CA") == []
    changed = {**root.obj, "data": {"ca.crt": "OLD", "more": "x"}}
    (patch,) = accounts.plan("d", account.obj, changed, "CA")
    assert isinstance(patch, Patch)
    assert patch.patch == {"data": {"ca.crt": "CA", "more": None}}


def test_the_words_about_a_namespace_that_ends() -> None:
    held = {"metadata": {"name": "a", "finalizers": ["x/y"]}}
    left = {PODS: [held, {"metadata": {"name": "b"}}], CONFIG_MAPS: []}
    status = namespaces.conditions({"metadata": {"name": "d"}}, left, NOW)
    content, finalizers = status["conditions"]
    assert status["phase"] == "Terminating"
    assert (content["status"], content["reason"], content["message"]) == (
        "True",
        "SomeResourcesRemain",
        "Some resources are remaining: pods. has 2 resource instances",
    )
    assert finalizers["message"].endswith("x/y in 1 resource instances")
    empty = namespaces.conditions({"metadata": {"name": "d"}}, {}, NOW)
    assert [c["reason"] for c in empty["conditions"]] == [
        "ContentRemoved",
        "ContentHasNoFinalizers",
    ]


def test_discovery_leaves_out_what_can_not_be_collected() -> None:
    verbs = ["create", "delete", "get", "list", "watch"]
    document = {
        "resources": [
            {"name": "pods", "kind": "Pod", "namespaced": True, "verbs": verbs},
            {"name": "pods/log", "kind": "Pod", "namespaced": True, "verbs": ["get"]},
            {"name": "bindings", "kind": "Binding", "namespaced": True, "verbs": ["create"]},
        ]
    }
    assert resources_of("", "v1", document) == [PODS]
