"""What goes wrong around a stack ends in one clear message and loses nothing.

Method: an empty stack, real kubectl; each fault is caused as it happens to a user.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Stack, descendants, hold, inferway_command, run, start, wait_for_end

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

SLEEPER = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: sleeper}
spec:
  replicas: 2
  selector: {matchLabels: {app: sleeper}}
  template:
    metadata: {labels: {app: sleeper}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {name: main, image: "busybox:1.36", command: ["sleep", "100000"]}
"""


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Stack]:
    stack = start(tmp_path / "state", "--empty")
    stack.wait_for("Ctrl-C stops it all.")
    yield stack
    if stack.process.poll() is None:
        stack.stop()


def test_a_second_up_on_the_same_state_is_refused(empty: Stack) -> None:
    second = start(empty.state, "--empty")
    assert second.process.wait(timeout=30) == 1
    said = second.wait_for("INFERWAY0103")
    second.reader.join(timeout=5)
    assert f"process {empty.process.pid}" in said
    assert empty.status()["ready"] is True


def test_kill_9_ends_every_process_and_loses_nothing(empty: Stack, kubectl: Path) -> None:
    empty.kubectl(kubectl, "apply", "-f", "-", text=SLEEPER)
    empty.kubectl(kubectl, "rollout", "status", "deployment/sleeper", "--timeout=60s")
    below = descendants(empty.process.pid)
    handles = hold(below)
    assert sum(name.endswith("sleep 100000 ") for name in handles.values()) == 2
    empty.stop(signal.SIGKILL)
    wait_for_end(handles, seconds=10)
    again = start(empty.state, "--empty")
    again.wait_for("Ctrl-C stops it all.")
    try:
        again.kubectl(kubectl, "rollout", "status", "deployment/sleeper", "--timeout=60s")
        pods = json.loads(again.kubectl(kubectl, "get", "pods", "-o", "json"))["items"]
        assert len(pods) == 2
    finally:
        assert again.stop() == 0


def test_a_corrupted_state_file_is_named_and_kept(empty: Stack) -> None:
    assert empty.stop() == 0
    # SQLite's side files share the name of the database and end in -wal and -shm.
    database = min((empty.state / "api").glob("*.db*"), key=lambda path: len(path.name))
    broken = b"this is not a database" * 100
    database.write_bytes(broken)
    again = start(empty.state, "--empty")
    assert again.process.wait(timeout=30) == 1
    said = "".join(iter_said(again))
    assert str(database) in said
    assert "INFERWAY01" in said
    assert "Traceback" not in said
    assert database.read_bytes() == broken


def iter_said(stack: Stack) -> Iterator[str]:
    while line := stack.lines.get(timeout=10):
        yield line


NO_API_VERSION = "kind: Pod\n"
UNKNOWN_FIELD = """
apiVersion: v1
kind: Pod
metadata: {name: x}
spec: {contaners: []}
"""
BAD_NAME = """
apiVersion: v1
kind: Pod
metadata: {name: X_Y}
spec: {containers: [{name: a, image: b}]}
"""
BAD_PORT = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: g}
spec: {gatewayClassName: inferway, listeners: [{name: http, port: 0, protocol: HTTP}]}
"""


@pytest.mark.parametrize(
    ("manifest", "says"),
    [
        (NO_API_VERSION, "apiVersion"),
        (UNKNOWN_FIELD, 'unknown field "spec.contaners"'),
        (BAD_NAME, "RFC 1123"),
        (BAD_PORT, "spec.listeners[0].port"),
    ],
)
def test_bad_manifests_are_refused_with_the_place(
    empty: Stack, kubectl: Path, manifest: str, says: str
) -> None:
    result = run(
        [str(kubectl), "apply", "-f", "-"],
        env={"KUBECONFIG": str(empty.kubeconfig)},
        text=manifest,
    )
    assert result.returncode != 0
    assert says in result.stderr


def test_an_unknown_image_says_how_to_map_it(empty: Stack, kubectl: Path) -> None:
    empty.kubectl(kubectl, "run", "odd", "--image=registry.example.com/odd:1")
    empty.kubectl(
        kubectl, "wait", "pod/odd", "--timeout=30s",
        "--for=jsonpath={.status.containerStatuses[0].state.waiting.reason}",
    )  # fmt: skip
    text = empty.kubectl(kubectl, "describe", "pod", "odd")
    assert "ErrImagePull" in text or "ImagePullBackOff" in text
    assert "registry.example.com/odd" in text
    assert "images" in text


def test_strangers_get_401(empty: Stack) -> None:
    server = empty.status()["server"]
    result = run(["curl", "-sk", "-w", "\n%{http_code}", f"{server}/api/v1/namespaces"])
    body, _, code = result.stdout.rpartition("\n")
    assert code == "401"
    assert json.loads(body)["reason"] == "Unauthorized"
    assert empty.kubeconfig.stat().st_mode & 0o777 == 0o600


def test_no_stack_is_exit_code_3(tmp_path: Path) -> None:
    result = run([*inferway_command(), "status", "--state", str(tmp_path)])
    assert result.returncode == 3
    assert "INFERWAY0108" in result.stderr


def test_unknown_options_are_exit_code_2() -> None:
    result = run([*inferway_command(), "up", "--emptty"])
    assert result.returncode == 2
    assert "--empty" in result.stderr
