"""The words of ``kubectl get``: cells of objects in all their states."""

from __future__ import annotations

from typing import Any

import pytest

from inferway.base.clock import parse_rfc3339
from inferway.local.apiserver.registry.builtin import builtin_kinds
from inferway.local.apiserver.registry.printers import builtin_printers
from inferway.local.apiserver.registry.printers.pods import POD, phase_text

NOW = parse_rfc3339("2026-01-01T01:00:00Z")
BORN = "2026-01-01T00:00:00Z"


def pod(status: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "p", "creationTimestamp": BORN, **metadata},
        "spec": {
            "containers": [{"name": "c"}, {"name": "d"}],
            "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}],
        },
        "status": status,
    }


def state(name: str, ready: bool = False, **what: Any) -> dict[str, Any]:
    return {"name": name, "ready": ready, "restartCount": 0, "state": what}


def waiting(reason: str) -> dict[str, str]:
    return {"reason": reason}


INIT_DONE = [
    state("i", terminated={"exitCode": 0}),
    {**state("s", ready=True, running={}), "started": True},
]


@pytest.mark.parametrize(
    ("status", "text"),
    [
        ({}, "<unknown>"),
        ({"phase": "Pending"}, "Pending"),
        ({"phase": "Failed", "reason": "Evicted"}, "Evicted"),
        (
            {"phase": "Pending", "initContainerStatuses": [state("i", running={}), state("s")]},
            "Init:0/2",
        ),
        (
            {
                "phase": "Pending",
                "initContainerStatuses": [state("i", waiting=waiting("CrashLoopBackOff"))],
            },
            "Init:CrashLoopBackOff",
        ),
        (
            {"phase": "Pending", "initContainerStatuses": [state("i", terminated={"exitCode": 3})]},
            "Init:ExitCode:3",
        ),
        (
            {
                "phase": "Pending",
                "initContainerStatuses": INIT_DONE,
                "containerStatuses": [state("c", waiting=waiting("ErrImagePull"))],
            },
            "ErrImagePull",
        ),
        (
            {
                "phase": "Running",
                "initContainerStatuses": INIT_DONE,
                "containerStatuses": [
                    state("c", ready=True, running={}),
                    state("d", terminated={"reason": "Completed", "exitCode": 0}),
                ],
            },
            "NotReady",
        ),
        (
            {
                "phase": "Failed",
                "containerStatuses": [state("c", terminated={"exitCode": 137, "signal": 9})],
            },
            "Signal:9",
        ),
    ],
)
def test_the_status_of_a_pod(status: dict[str, Any], text: str) -> None:
    assert phase_text(pod(status)) == text


def test_a_pod_that_ends_is_terminating() -> None:
    going = pod({"phase": "Running"}, deletionTimestamp=BORN)
    assert phase_text(going) == "Terminating"


def test_restarts_are_those_of_init_containers_while_they_run() -> None:
    failing = {**state("i", waiting=waiting("CrashLoopBackOff")), "restartCount": 7}
    status = {
        "phase": "Pending",
        "initContainerStatuses": [failing],
        "containerStatuses": [state("c", waiting=waiting("PodInitializing"))],
    }
    assert POD.cells(pod(status), NOW)[3] == "7"


def test_the_cells_of_a_pod() -> None:
    restarted = {
        **state("c", ready=True, running={}),
        "restartCount": 2,
        "lastState": {"terminated": {"finishedAt": "2026-01-01T00:58:00Z"}},
    }
    status = {
        "phase": "Running",
        "podIP": "10.0.0.1",
        "initContainerStatuses": INIT_DONE,
        "containerStatuses": [restarted, state("d", ready=True, running={})],
    }
    cells = POD.cells(pod(status), NOW)
    assert cells[:6] == ["p", "3/3", "Running", "2 (2m ago)", "60m", "10.0.0.1"]


def test_every_printer_belongs_to_a_kind_and_bears_an_empty_object() -> None:
    printers = builtin_printers()
    kinds = {f"{kind.plural}.{kind.group}" for kind in builtin_kinds()}
    assert set(printers) <= kinds
    bare = {"metadata": {"name": "x", "creationTimestamp": BORN}}
    for name, printer in printers.items():
        cells = printer.cells(bare, NOW)
        assert len(cells) == len(printer.columns), name
        assert "x" in cells


@pytest.mark.parametrize(
    ("name", "obj", "cells"),
    [
        (
            "deployments.apps",
            {
                "spec": {"replicas": 3},
                "status": {"readyReplicas": 1, "updatedReplicas": 2, "availableReplicas": 1},
            },
            ["x", "1/3", 2, 1, "60m"],
        ),
        (
            "services.",
            {
                "spec": {
                    "type": "LoadBalancer",
                    "clusterIP": "10.0.0.2",
                    "ports": [{"port": 80, "nodePort": 30080}, {"port": 53, "protocol": "UDP"}],
                }
            },
            ["x", "LoadBalancer", "10.0.0.2", "<pending>", "80:30080/TCP,53/UDP", "60m"],
        ),
        (
            "nodes.",
            {
                "spec": {"unschedulable": True},
                "status": {
                    "conditions": [{"type": "Ready", "status": "True"}],
                    "nodeInfo": {"kubeletVersion": "v1"},
                },
            },
            ["x", "Ready,SchedulingDisabled", "<none>", "v1", "60m"],
        ),
        (
            "jobs.batch",
            {
                "spec": {"completions": 2},
                "status": {"succeeded": 1, "startTime": "2026-01-01T00:59:00Z"},
            },
            ["x", "Running", "1/2", "60s", "60m"],
        ),
        (
            "endpointslices.discovery.k8s.io",
            {
                "addressType": "IPv4",
                "ports": [{"port": 80}],
                "endpoints": [{"addresses": [f"10.0.0.{n}"]} for n in range(5)],
            },
            ["x", "IPv4", "80", "10.0.0.0,10.0.0.1,10.0.0.2 + 2 more...", "60m"],
        ),
        ("secrets.", {"type": "Opaque", "data": {"a": ""}}, ["x", "Opaque", 1, "60m"]),
    ],
)
def test_cells(name: str, obj: dict[str, Any], cells: list[Any]) -> None:
    whole = {"metadata": {"name": "x", "creationTimestamp": BORN}, **obj}
    assert builtin_printers()[name].cells(whole, NOW)[: len(cells)] == cells
