"""Jobs from start to end."""

from __future__ import annotations

from typing import Any

import pytest

from inferway.base.clock import rfc3339
from inferway.local.controllers.actions import Again, Create, Delete, Note, Status
from inferway.local.controllers.job import plan

NOW = 1_800_000_000.0


def job(conditions: Any = (), started: float = 10, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "hook", "namespace": "d", "uid": "job-uid"},
        "spec": {
            "parallelism": 1,
            "completions": 1,
            "backoffLimit": 2,
            "template": {"spec": {"restartPolicy": "Never"}},
            **spec,
        },
        "status": {"startTime": rfc3339(NOW - started), "conditions": list(conditions)},
    }


def pod(name: str, phase: str, ended: float = 1000, **more: Any) -> dict[str, Any]:
    terminated = {"terminated": {"finishedAt": rfc3339(NOW - ended)}}
    meta: dict[str, Any] = {"name": name, "uid": name, "namespace": "d"}
    if more.pop("deleting", False):
        meta["deletionTimestamp"] = rfc3339(NOW)
    return {
        "metadata": meta,
        "spec": {"restartPolicy": more.pop("policy", "Never")},
        "status": {
            "phase": phase,
            "containerStatuses": [{"state": terminated, "restartCount": more.pop("restarts", 0)}],
        },
    }


def split(actions: list[Any]) -> tuple[list[str], Any]:
    words = []
    status = None
    for action in actions:
        if isinstance(action, Status):
            status = action.status
        elif isinstance(action, Delete):
            words.append(f"delete {action.obj['metadata']['name']}")
        elif isinstance(action, Create):
            words.append("create")
        elif isinstance(action, Note):
            words.append(action.reason)
        elif isinstance(action, Again):
            words.append(f"again {action.seconds:.0f}")
    return words, status


STEPS: list[tuple[dict[str, Any], list[Any], list[str]]] = [
    ({}, [], ["create"]),
    ({}, [pod("a", "Running")], []),
    ({}, [pod("a", "Succeeded")], ["Completed"]),
    ({"completions": 3, "parallelism": 2}, [], ["create", "create"]),
    ({"completions": 3, "parallelism": 2}, [pod("a", "Succeeded")], ["create", "create"]),
    (
        {"completions": 3, "parallelism": 2},
        [pod("a", "Succeeded"), pod("b", "Succeeded")],
        ["create"],
    ),
    ({"parallelism": 0}, [pod("a", "Running")], ["delete a"]),
    ({}, [pod("a", "Failed")], ["create"]),
    ({}, [pod("a", "Failed", ended=4)], ["again 6"]),
    ({}, [pod("a", "Failed"), pod("b", "Failed", ended=5)], ["again 15"]),
    (
        {},
        [pod("a", "Failed"), pod("b", "Failed"), pod("c", "Failed"), pod("d", "Running")],
        ["delete d", "BackoffLimitExceeded"],
    ),
    (
        {"backoffLimit": 0},
        [pod("a", "Running", restarts=1, policy="OnFailure")],
        ["delete a", "BackoffLimitExceeded"],
    ),
    (
        {"activeDeadlineSeconds": 10},
        [pod("a", "Running")],
        ["delete a", "DeadlineExceeded"],
    ),
    ({"activeDeadlineSeconds": 30}, [pod("a", "Running")], ["again 20"]),
    ({"suspend": True}, [pod("a", "Running")], ["delete a"]),
    ({"completions": None, "parallelism": 2}, [pod("a", "Succeeded")], ["Completed"]),
    ({"completions": None}, [pod("a", "Succeeded"), pod("b", "Running")], []),
]


@pytest.mark.parametrize(("spec", "pods", "expected"), STEPS)
def test_steps(spec: dict[str, Any], pods: list[Any], expected: list[str]) -> None:
    assert split(plan(job(**spec), pods, NOW))[0] == expected


def test_the_pods_of_a_job_are_labelled() -> None:
    made = plan(job(), [], NOW)[0]
    assert isinstance(made, Create)
    labels = made.obj["metadata"]["labels"]
    assert labels["job-name"] == labels["batch.kubernetes.io/job-name"] == "hook"
    assert labels["controller-uid"] == "job-uid"


def test_the_end_has_two_conditions() -> None:
    _, status = split(plan(job(), [pod("a", "Succeeded")], NOW))
    assert status["succeeded"] == 1
    assert status["completionTime"] == rfc3339(NOW)
    assert [(c["type"], c["reason"]) for c in status["conditions"]] == [
        ("SuccessCriteriaMet", "CompletionsReached"),
        ("Complete", "CompletionsReached"),
    ]
    _, status = split(plan(job(backoffLimit=0), [pod("a", "Failed")], NOW))
    assert [c["type"] for c in status["conditions"]] == ["FailureTarget", "Failed"]
    assert status["conditions"][1]["message"] == "Job has reached the specified backoff limit"


def test_after_the_end() -> None:
    over = [{"type": "Complete", "status": "True", "lastTransitionTime": rfc3339(NOW - 5)}]
    assert split(plan(job(over), [pod("a", "Running")], NOW))[0] == ["delete a"]
    assert split(plan(job(over, ttlSecondsAfterFinished=8), [], NOW))[0] == ["again 3"]
    assert split(plan(job(over, ttlSecondsAfterFinished=5), [], NOW))[0] == ["delete hook"]
