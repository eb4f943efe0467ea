"""One Pod with processes and containers: a stand-in for podman, and the real pauses."""

from __future__ import annotations

from pathlib import Path

import pytest
from node_cluster import Cluster, cluster, container_state, eventually, phase, ready

from inferway.api.resources import PODS

pytestmark = pytest.mark.slow

# Runs the words after the image in place of a container; says that what it started does run.
# Like the real program it passes a TERM on and ends with the code of what it ran.
STAND_IN = """#!/bin/sh
echo "$*" >> {log}
case "$1" in
  info) exit 0;;
  image) [ "$5" = localhost/app:1 ] && echo sha256:77 && exit 0; exit 125;;
  pull) echo "Error: no registry" >&2; exit 125;;
  container) [ -e "{folder}/$5" ] && echo true; exit 0;;
  exec) shift 2; exec "$@";;
  kill) kill -KILL "$(cat "{folder}/$4")"; exit 0;;
  rm) rm -f "{folder}/$4"; exit 0;;
  run)
    name=$4
    while [ "$1" != localhost/app:1 ]; do shift; done
    shift
    "$@" & pid=$!
    echo $pid > "{folder}/$name"
    trap 'kill -TERM $pid' TERM
    wait $pid; code=$?
    [ -e /proc/$pid ] && {{ wait $pid; code=$?; }}
    rm -f "{folder}/$name"
    exit $code;;
esac
"""


class StandIn:
    """A program podman on the PATH."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        programs, self.runs = folder / "programs", folder / "runs"
        programs.mkdir()
        self.runs.mkdir()
        self._log = folder / "log"
        self._log.touch()
        path = programs / "podman"
        path.write_text(STAND_IN.format(log=self._log, folder=self.runs))
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{programs}:/usr/local/bin:/usr/bin:/bin")

    def asked(self, verb: str) -> list[list[str]]:
        lines = self._log.read_text().splitlines()
        return [line.split() for line in lines if line.startswith(verb + " ")]


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    return StandIn(tmp_path, monkeypatch)


def app(*args: str, **more: object) -> dict[str, object]:
    return {"name": "main", "image": "localhost/app:1", "args": list(args), **more}


async def start(stack: Cluster, name: str, *containers: dict[str, object], **more: object) -> None:
    await stack.create_pod(name, {"containers": list(containers), **more})


async def test_a_container_lives_and_ends(tmp_path: Path, stand_in: StandIn) -> None:
    async with cluster(tmp_path / "state", runtime="podman") as stack:
        probe = {"exec": {"command": ["true"]}, "periodSeconds": 1}
        await start(
            stack, "one", app("sh", "-c", "echo hello; exec sleep 60", readinessProbe=probe)
        )
        pod = await stack.pod_until("one", ready)
        state = container_state(pod, "main")
        uid = pod["metadata"]["uid"]
        assert state["containerID"].startswith(f"podman://inferway-{uid}-main-")
        assert state["imageID"] == "sha256:77"
        await eventually(lambda: stack.said(pod, "main") == ["hello"])
        assert len(stand_in.asked("exec")) >= 1
        words = stand_in.asked("run")[0]
        assert words[-7:] == ["sh", "-c", "echo", "hello;", "exec", "sleep", "60"]
        await stack.client.delete(PODS, "one", "default", grace_seconds=5)
        await eventually(lambda: stack.gone(PODS, "one"))
        assert list(stand_in.runs.iterdir()) == []


async def test_a_container_that_ignores_its_end_is_killed(
    tmp_path: Path, stand_in: StandIn
) -> None:
    async with cluster(tmp_path / "state", runtime="podman") as stack:
        await start(stack, "deaf", app("sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"))
        await stack.pod_until("deaf", phase("Running"))
        await stack.client.delete(PODS, "deaf", "default", grace_seconds=1)
        await eventually(lambda: stack.gone(PODS, "deaf"))
        assert [words[:3] for words in stand_in.asked("kill")] == [["kill", "--signal", "KILL"]]


async def test_exits_and_pulls(tmp_path: Path, stand_in: StandIn) -> None:
    async with cluster(tmp_path / "state", runtime="podman") as stack:
        await start(stack, "code", app("sh", "-c", "exit 3"), restartPolicy="Never")
        await start(stack, "again", app("sh", "-c", "exit 4"), restartPolicy="OnFailure")
        await start(stack, "none", {"name": "main", "image": "localhost/none:1"})
        code = await stack.pod_until("code", phase("Failed"))
        assert container_state(code, "main")["state"]["terminated"]["exitCode"] == 3
        await stack.pod_until(
            "again", lambda pod: container_state(pod, "main").get("restartCount", 0) >= 1
        )
        names = [words[3] for words in stand_in.asked("run") if "-main-" in words[3]]
        assert len(names) == len(set(names))
        none = await stack.pod_until("none", lambda pod: "no registry" in str(pod.get("status")))
        waiting = container_state(none, "main")["state"]["waiting"]
        assert waiting["message"].endswith("podman: Error: no registry")


async def test_containers_that_cannot_join_share_what_one_publishes(
    tmp_path: Path, stand_in: StandIn
) -> None:
    # Without namespaces there is no network of the Pod to join.
    async with cluster(tmp_path / "state", runtime="podman", host_only=True) as stack:
        spec = [
            app("sleep", "60", name=name, ports=[{"containerPort": port}])
            for name, port in (("a", 8000), ("b", 9000), ("c", 9001))
        ]
        await start(stack, "three", *spec)
        pod = await stack.pod_until("three", ready)
        lines = [" ".join(words) for words in stand_in.asked("run")]
        ip = pod["status"]["podIP"]
        first = lines[0].split()[3]
        for port in (8000, 9000, 9001):
            assert f"--publish={ip}:{port}:{port}/tcp" in lines[0]
        assert [f"--network container:{first}" in line for line in lines] == [False, True, True]
