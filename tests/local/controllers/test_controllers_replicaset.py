"""ReplicaSets: who is deleted first, who is adopted, what the status says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferway.base.clock import rfc3339
from inferway.local.controllers.replicaset import plan, victims, with_failure

NOW = 1_800_000_000.0


def replica_set(replicas: int = 2, **spec: Any) -> dict[str, Any]:
    labels = {"app": "x"}
    return {
        "metadata": {"name": "rs", "namespace": "d", "uid": "rs-uid", "generation": 3},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": []}},
            **spec,
        },
    }


def pod(
    name: str,
    *,
    owner: str = "rs-uid",
    node: str = "n",
    phase: str = "Running",
    ready: float | None = 100.0,
    created: float = 500.0,
    **more: Any,
) -> dict[str, Any]:
    """``ready`` and ``created`` are seconds before now."""
    meta: dict[str, Any] = {
        "name": name,
        "namespace": "d",
        "uid": f"uid-{name}",
        "labels": more.pop("labels", {"app": "x"}),
        "creationTimestamp": rfc3339(NOW - created),
        "annotations": more.pop("annotations", {}),
    }
    if owner:
        meta["ownerReferences"] = [{"uid": owner, "controller": True, "name": "rs"}]
    if more.pop("deleting", False):
        meta["deletionTimestamp"] = rfc3339(NOW)
    status: dict[str, Any] = {"phase": phase}
    if ready is not None:
        time = rfc3339(NOW - ready)
        status["conditions"] = [{"type": "Ready", "status": "True", "lastTransitionTime": time}]
    if "restarts" in more:
        status["containerStatuses"] = [{"restartCount": more.pop("restarts")}]
    return {"metadata": meta, "spec": {"nodeName": node} if node else {}, "status": status}


RANKS = [
    (pod("a", node="", phase="Pending", ready=None), pod("b", phase="Pending", ready=None)),
    (pod("a", phase="Pending", ready=None), pod("b", ready=None)),
    (pod("a", ready=None), pod("b")),
    (
        pod("a", annotations={"controller.kubernetes.io/pod-deletion-cost": "-1"}),
        pod("b", ready=1),
    ),
    (pod("a", ready=10), pod("b", ready=100)),
    (pod("a", restarts=3), pod("b", restarts=1)),
    (pod("a", created=10), pod("b", created=100)),
]


@pytest.mark.parametrize(("first", "second"), RANKS)
def test_the_more_dispensable_pod_goes_first(first: Any, second: Any) -> None:
    for pods in ([first, second], [second, first]):
        assert [p["metadata"]["name"] for p in victims(pods, 1, NOW)] == ["a"]


def test_the_crowded_node_loses_first() -> None:
    pods = [pod("a", node="m"), pod("b", node="n"), pod("c", node="n")]
    assert [p["metadata"]["name"] for p in victims(pods, 1, NOW)] == ["b"]


def test_missing_pods_are_created_from_the_template() -> None:
    found = plan(replica_set(3), [pod("a"), pod("b", phase="Failed"), pod("c", deleting=True)], NOW)
    assert len(found.create) == 2
    made = found.create[0].obj
    assert made["metadata"]["generateName"] == "rs-"
    assert made["metadata"]["labels"] == {"app": "x"}
    owner = made["metadata"]["ownerReferences"][0]
    assert (owner["uid"], owner["controller"], owner["blockOwnerDeletion"]) == (
        "rs-uid",
        True,
        True,
    )
    assert found.delete == []


def test_a_surplus_is_deleted() -> None:
    found = plan(replica_set(1), [pod("a"), pod("b", ready=None)], NOW)
    assert [d.obj["metadata"]["name"] for d in found.delete] == ["b"]


def test_a_set_that_is_deleted_does_nothing() -> None:
    doomed = replica_set(3)
    doomed["metadata"]["deletionTimestamp"] = rfc3339(NOW)
    found = plan(doomed, [pod("a"), pod("b", owner="")], NOW)
    assert (list(found.create), list(found.delete), list(found.claims)) == ([], [], [])


def test_orphans_are_adopted_and_strangers_released() -> None:
    pods = [
        pod("mine"),
        pod("orphan", owner=""),
        pod("other", owner="other-uid"),
        pod("stranger", labels={"app": "y"}),
        pod("dead", owner="", phase="Succeeded"),
    ]
    found = plan(replica_set(2), pods, NOW)
    claims = {
        c.obj["metadata"]["name"]: [r["uid"] for r in c.patch["metadata"]["ownerReferences"]]
        for c in found.claims
    }
    assert claims == {"orphan": ["rs-uid"], "stranger": []}
    assert (len(found.create), len(found.delete)) == (0, 0)
    assert found.status["replicas"] == 2


def test_the_status_counts() -> None:
    pods = [pod("a"), pod("b", ready=5), pod("c", ready=None), pod("d", labels={"app": "x"})]
    found = plan(replica_set(4, minReadySeconds=30), pods, NOW)
    assert found.status == {
        "replicas": 4,
        "fullyLabeledReplicas": 4,
        "readyReplicas": 3,
        "availableReplicas": 2,
        "observedGeneration": 3,
    }
    assert found.again_seconds == pytest.approx(25)


def test_failures_show_in_a_condition_and_go_again() -> None:
    failed = with_failure({"replicas": 0}, "FailedCreate", "quota", NOW)
    assert failed["conditions"][0]["type"] == "ReplicaFailure"
    assert with_failure(failed, "", "", NOW) == {"replicas": 0}


@given(
    st.integers(0, 6),
    st.lists(
        st.tuples(
            st.sampled_from(["Pending", "Running", "Failed", "Succeeded"]),
            st.booleans(),
            st.booleans(),
            st.sampled_from(["rs-uid", "", "other"]),
        ),
        max_size=8,
    ),
)
def test_a_plan_leads_to_the_wanted_number(replicas: int, states: list[Any]) -> None:
    pods = [
        pod(f"p{i}", phase=phase, ready=1.0 if ready else None, deleting=deleting, owner=owner)
        for i, (phase, ready, deleting, owner) in enumerate(states)
    ]
    found = plan(replica_set(replicas), pods, NOW)
    active = found.status["replicas"]
    assert active + len(found.create) - len(found.delete) == replicas
