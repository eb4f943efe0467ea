"""The demo under kubectl as on any cluster: rollouts, scaling, logs, files, and the end of things.

Method: real kubectl; where work goes on, rounds of the project's load generator run until the
work is done, and every answer of them must be right.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from harness import COMMAND_SECONDS_MAX, descendants, hold, proc, start, wait_for_end
from watching import Watch, eventually

from inferway.bench import load

pytestmark = [pytest.mark.stack, pytest.mark.timeout(90)]

ROUND_REQUESTS = 300
CONNECTIONS = 16

READER = """
apiVersion: v1
kind: ConfigMap
metadata: {name: words}
data: {word: first}
---
apiVersion: v1
kind: Pod
metadata: {name: reader}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: busybox:1.36
    command: [sh, -c, "while :; do cat /config/word; echo; sleep 0.2; done"]
    volumeMounts: [{name: words, mountPath: /config}]
  volumes: [{name: words, configMap: {name: words}}]
"""

CONTENTS = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: sleeper, namespace: short}
spec:
  replicas: 2
  selector: {matchLabels: {app: sleeper}}
  template:
    metadata: {labels: {app: sleeper}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: main, image: "busybox:1.36", command: [sleep, "77777"]}]
---
apiVersion: v1
kind: Service
metadata: {name: sleeper, namespace: short}
spec: {selector: {app: sleeper}, ports: [{port: 80}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: words, namespace: short}
"""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, kubectl: Path) -> Iterator[Watch]:
    stack = start(tmp_path_factory.mktemp("kubernetes") / "state")
    stack.wait_for("Ctrl-C stops it all.")
    yield Watch(stack, kubectl)
    assert stack.stop() == 0


async def under_load(demo: Watch, work: Callable[[], None]) -> None:
    """Does the work while requests run; none of them may fail."""
    url = demo.stack.url()
    done = asyncio.Event()
    results: list[load.LoadResult] = []

    async def ask_on() -> None:
        while not done.is_set():
            options = load.LoadOptions(url, ROUND_REQUESTS, CONNECTIONS, load.Mode.MIXED)
            results.append(await load.run(options))

    async with asyncio.TaskGroup() as group:
        group.create_task(ask_on())
        try:
            await asyncio.to_thread(work)
        finally:
            done.set()
    failed = [result.examples for result in results if result.errors]
    count = sum(result.succeeded for result in results)
    print(f"\n{work.__name__}: {count} right answers, failed {failed}")
    assert failed == [], f"{failed}; {count} right answers"


async def test_a_rollout_and_its_undo_fail_no_request(demo: Watch) -> None:
    before = {pod["metadata"]["name"] for pod in demo.servers()}

    def rollout() -> None:
        demo.kubectl("set", "env", "deployment/vllm-qwen", "SOME_WORD=new")
        demo.wait_rollout()
        after = {pod["metadata"]["name"] for pod in demo.servers()}
        assert len(after) == 3
        assert not before & after
        demo.kubectl("rollout", "undo", "deployment/vllm-qwen")
        demo.wait_rollout()

    await under_load(demo, rollout)
    history = demo.kubectl("rollout", "history", "deployment/vllm-qwen")
    # Revision 1 came back as 3.
    assert re.findall(r"^(\d+)", history, re.MULTILINE) == ["2", "3"]
    described = demo.kubectl("describe", "deployment", "vllm-qwen")
    assert "SOME_WORD" not in described
    assert "ScalingReplicaSet" in described
    template = demo.kubectl(
        "get", "pods", "-l", "app=vllm-qwen", "-o", "jsonpath={.items[*].spec.containers[*].env}"
    )
    assert "SOME_WORD" not in template


async def test_scaling_down_and_up_fails_no_request(demo: Watch) -> None:
    def scale() -> None:
        for replicas in (1, 3):
            demo.kubectl("scale", "deployment/vllm-qwen", f"--replicas={replicas}")
            demo.wait_rollout()
            eventually(lambda wanted=replicas: len(demo.servers()) == wanted, f"{replicas} Pods")

    await under_load(demo, scale)


@contextmanager
def following(demo: Watch, *args: str) -> Iterator[subprocess.Popen[str]]:
    """A kubectl that goes on; its words can be read line by line."""
    process = subprocess.Popen(
        [str(demo.kubectl_program), f"--kubeconfig={demo.stack.kubeconfig}", *args],
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=COMMAND_SECONDS_MAX)
        assert process.stdout is not None
        process.stdout.close()


def read_until(process: subprocess.Popen[str], pattern: str) -> re.Match[str]:
    """The first line with the pattern; pytest's time limit ends a silent wait."""
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if found := re.search(pattern, line):
            return found
    raise AssertionError(f"no {pattern!r} in {said}")


def test_logs_follow_until_the_pod_ends(demo: Watch) -> None:
    name = demo.picker()["metadata"]["name"]
    with following(demo, "logs", "-f", name, "--tail=1") as logs:
        # The last line so far; all others come while they are written.
        read_until(logs, ".")
        demo.kubectl("scale", "deployment/vllm-qwen", "--replicas=2")
        read_until(logs, '"removed": *\\["127')
        demo.kubectl("delete", "pod", name)
        assert logs.wait(timeout=COMMAND_SECONDS_MAX) == 0
    demo.wait_rollout("vllm-qwen-epp")
    demo.kubectl("scale", "deployment/vllm-qwen", "--replicas=3")
    demo.wait_rollout()


def test_describe_tells_what_happened(demo: Watch) -> None:
    name = demo.servers()[0]["metadata"]["name"]
    text = demo.kubectl("describe", "pod", name)
    for words in ("Controlled By:", "Readiness:", "Container started: vllm", "Scheduled"):
        assert words in text
    assert "Programmed" in demo.kubectl("describe", "gateway", "inference-gateway")
    assert "Endpoints:" in demo.kubectl("describe", "service", "vllm-qwen-epp")
    assert "MemoryPressure" in demo.kubectl("describe", "node")


def test_wait_sees_a_condition_and_an_end(demo: Watch) -> None:
    demo.kubectl("wait", "deployment/vllm-qwen", "--for=condition=Available", "--timeout=30s")
    demo.kubectl("run", "once", "--image=busybox:1.36", "--restart=Never", "--", "true")
    demo.kubectl("wait", "pod/once", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=30s")
    demo.kubectl("delete", "pod", "once", "--wait=false")
    demo.kubectl("wait", "pod/once", "--for=delete", "--timeout=30s")


@pytest.mark.parametrize(
    ("target", "port", "path", "says"),
    [
        ("pod/SERVER", 8000, "/v1/models", "food-review-0"),
        ("deployment/vllm-qwen", 8000, "/version", "version"),
        ("service/vllm-qwen-epp", 9090, "/metrics", "inferway_picker_endpoints_ready"),
    ],
)
def test_port_forward(demo: Watch, target: str, port: int, path: str, says: str) -> None:
    target = target.replace("SERVER", demo.servers()[0]["metadata"]["name"])
    with following(demo, "port-forward", target, f":{port}") as forward:
        here = read_until(forward, r"Forwarding from 127\.0\.0\.1:(\d+) ->")[1]
        for _ in range(3):
            with urllib.request.urlopen(f"http://127.0.0.1:{here}{path}", timeout=10) as answer:
                assert says in answer.read().decode()


def test_a_changed_config_map_reaches_the_mounted_file(demo: Watch) -> None:
    demo.kubectl("apply", "-f", "-", text=READER)
    demo.kubectl("wait", "pod/reader", "--for=condition=Ready", "--timeout=30s")
    with following(demo, "logs", "-f", "reader") as logs:
        read_until(logs, "first")
        demo.kubectl("apply", "-f", "-", text=READER.replace("word: first", "word: second"))
        read_until(logs, "second")
    demo.kubectl("delete", "-f", "-", text=READER)


def test_a_deleted_namespace_leaves_nothing(demo: Watch) -> None:
    demo.kubectl("create", "namespace", "short")
    demo.kubectl("apply", "-f", "-", text=CONTENTS)
    demo.kubectl("rollout", "status", "-n", "short", "deployment/sleeper", "--timeout=60s")
    handles = hold([pid for pid in descendants(demo.stack.process.pid)
                    if b"77777" in proc(pid, "cmdline")])  # fmt: skip
    assert len(handles) == 2
    demo.kubectl("delete", "namespace", "short", "--timeout=60s")
    wait_for_end(handles, seconds=2)
    for kinds in ("namespaces", "pods", "deployments,replicasets,services,configmaps"):
        table = demo.kubectl("get", kinds, "-A", "-o", "name")
        assert "sleeper" not in table
        assert "short" not in table


def test_zz_a_demo_that_is_taken_apart_leaves_no_process(demo: Watch) -> None:
    names = b"simulator", b"picker", b"envoy"
    handles = hold([pid for pid in descendants(demo.stack.process.pid)
                    if any(name in proc(pid, "cmdline") for name in names)])  # fmt: skip
    assert len(handles) >= 5
    kinds = "gateways,httproutes,inferencepools,deployments,services,configmaps"
    demo.kubectl("delete", kinds, "--all", "-n", "default", "--timeout=60s")
    demo.kubectl("wait", "pods", "--all", "-n", "default", "--for=delete", "--timeout=60s")
    wait_for_end(handles, seconds=2)
    assert demo.kubectl("get", "pods", "-n", "default", "-o", "name") == ""
