"""A machine that is too small says so in Kubernetes' words, and nothing is lost.

Method: nodes that claim to have little; real kubectl reads what users read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Stack, start
from watching import eventually

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]

ROOT = Path(__file__).resolve().parents[2]
REFUSAL = (
    "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory. preemption: "
    "0/1 nodes are available: 1 No preemption victims found for incoming pod."
)


@pytest.fixture
def started() -> Iterator[list[Stack]]:
    stacks: list[Stack] = []
    yield stacks
    for stack in stacks:
        if stack.process.poll() is None:
            stack.stop()


def test_the_guides_pod_waits_for_a_larger_machine(
    tmp_path: Path, kubectl: Path, started: list[Stack]
) -> None:
    stack = start(tmp_path / "state", "--empty", "--node-capacity", "cpu=2,memory=4Gi")
    started.append(stack)
    stack.wait_for("Ctrl-C stops it all.")
    stack.kubectl(kubectl, "apply", "-f", str(ROOT / "examples/guide/1-model-server.yaml"))

    def refusals() -> list[str]:
        events = json.loads(stack.kubectl(kubectl, "get", "events", "-o", "json"))["items"]
        return [e["message"] for e in events if e["reason"] == "FailedScheduling"]

    assert eventually(refusals, "an Event of the scheduler") == [REFUSAL]
    table = stack.kubectl(kubectl, "get", "pods", "--no-headers")
    assert "Pending" in table


def test_a_demo_that_does_not_fit_says_what_is_missing_and_stays(
    tmp_path: Path, kubectl: Path, started: list[Stack]
) -> None:
    stack = start(
        tmp_path / "state", "--timeout", "3", "--node-capacity", "cpu=100m,memory=128Mi"
    )  # fmt: skip
    started.append(stack)
    said = stack.wait_for("Ctrl-C stops it all.")
    assert "INFERWAY0112" in said
    assert "deployment default/vllm-qwen has 0 of 3 Pods" in said
    assert "Traceback" not in said
    assert "Pending" in stack.kubectl(kubectl, "get", "pods", "-A", "--no-headers")
    assert stack.stop() == 0
