"""Tables of the summary that status prints and up waits for."""

from __future__ import annotations

from typing import Any

import pytest

from inferway.cli import state, status, summary


def node(*, ready: str = "True", **annotations: str) -> dict[str, Any]:
    return {
        "metadata": {"name": "n", "annotations": annotations},
        "status": {"conditions": [{"type": "Ready", "status": ready}]},
    }


def deployment(ready: int, wanted: int) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "default", "name": "d"},
        "spec": {"replicas": wanted},
        "status": {"availableReplicas": ready} if ready else {},
    }


def gateway(programmed: str = "True", port: int = 80) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "default", "name": "g"},
        "spec": {"listeners": [{"name": "http", "port": port, "protocol": "HTTP"}]},
        "status": {
            "addresses": [{"type": "IPAddress", "value": "127.77.128.1"}],
            "conditions": [{"type": "Programmed", "status": programmed, "message": "m"}],
        },
    }


@pytest.mark.parametrize(
    ("nodes", "deployments", "gateways", "demo", "ready"),
    [
        ([node()], [], [], False, True),
        ([node()], [], [], True, False),
        ([], [], [], False, False),
        ([node(ready="False")], [], [], False, False),
        ([node()], [deployment(3, 3)], [gateway()], True, True),
        ([node()], [deployment(2, 3)], [gateway()], True, False),
        ([node()], [deployment(3, 3)], [gateway("False")], True, False),
        ([node()], [deployment(0, 0)], [gateway()], True, True),
    ],
)
def test_ready_means_that_every_part_answers(
    nodes: list[Any], deployments: list[Any], gateways: list[Any], demo: bool, ready: bool
) -> None:
    objects = summary.StackObjects(nodes=nodes, deployments=deployments, gateways=gateways)
    assert summary.is_ready(objects, demo=demo) is ready


@pytest.mark.parametrize(
    ("port", "offset", "url"),
    [
        (80, 0, "http://127.77.128.1:80"),
        (80, 8000, "http://127.77.128.1:8080"),
        (8080, 8000, "http://127.77.128.1:8080"),
    ],
)
def test_the_url_carries_the_port_that_is_really_bound(port: int, offset: int, url: str) -> None:
    assert summary.gateway(gateway(port=port), offset).url == url


def test_a_gateway_without_an_address_has_no_url() -> None:
    bare = {"metadata": {"namespace": "default", "name": "g"}, "spec": {"listeners": []}}
    row = summary.gateway(bare, 0)
    assert (row.url, row.programmed) == ("", False)
    assert row.message


def pod(state: dict[str, Any], last: dict[str, Any]) -> dict[str, Any]:
    status = {"name": "vllm", "state": state, "lastState": last}
    meta = {"namespace": "default", "name": "p"}
    return {"metadata": meta, "status": {"containerStatuses": [status]}}


LOOPS = {"waiting": {"reason": "CrashLoopBackOff"}}


@pytest.mark.parametrize(
    ("pods", "said"),
    [
        ([], ""),
        ([{"metadata": {"namespace": "default", "name": "p"}}], ""),
        ([pod({"running": {}}, {"terminated": {"exitCode": 143}})], ""),
        ([pod(LOOPS, {"terminated": {"exitCode": 1, "message": "no model\n"}})], "no model"),
        ([pod(LOOPS, {"terminated": {"exitCode": 9}})], "exit code 9"),
        ([pod(LOOPS, {})], "exit code unknown"),
    ],
)
def test_a_container_that_ends_again_and_again_is_told_with_its_last_words(
    pods: list[Any], said: str
) -> None:
    expected = f"vllm of Pod default/p: {said}" if said else ""
    assert summary.crash(pods) == expected


def test_the_engine_is_told_with_its_reason() -> None:
    assert status.engine_text(state.EngineNote()) == "simulated vLLM"
    note = state.EngineNote("vllm", "asked for", "0.32.0")
    assert status.engine_text(note) == "vLLM 0.32.0 (asked for)"
