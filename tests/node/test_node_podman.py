"""Pods whose containers run in the real podman; an image is made of a static busybox.

Each test is skipped, by name and with the reason, where podman or busybox is missing or does not
work. Nothing touches the images of the user who runs the tests: podman gets a storage of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from node_cluster import Cluster, cluster, container_state, events_of, eventually, phase, ready

from inferway.api.resources import CONFIG_MAPS, PODS

pytestmark = pytest.mark.slow

IMAGE = "localhost/inferway-test/busybox:1"
APPLETS = ("sh", "sleep", "cat", "echo", "httpd", "wget", "id", "true", "kill")
ENTRY = "images: [{match: [localhost/inferway-test/*], runtime: podman}]"
SECONDS_MAX = 60.0

# What a machine may need: none, limits that this user may set, another program for containers.
LIMITS = '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=512:512"]\n'
CONFIGURATIONS = ("", LIMITS, f'{LIMITS}[engine]\nruntime = "runc"\n')


def rootfs(busybox: str) -> bytes:
    """A tar of a root with busybox and its names."""
    buffer = BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for folder in ("bin", "etc", "proc", "sys", "dev", "tmp", "run"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        tar.add(busybox, "bin/busybox", filter=lambda entry: entry.replace(uid=0, gid=0))
        for name in APPLETS:
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    return buffer.getvalue()


class Podman:
    """The program with a storage of its own."""

    def __init__(self, program: str, folder: Path) -> None:
        self.program = program
        self.settings = {
            "CONTAINERS_CONF": str(folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
        }

    def run(self, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        environment = {**os.environ, **self.settings}
        return subprocess.run(
            [self.program, *words], input=stdin, capture_output=True, env=environment, check=False
        )

    def names(self) -> list[str]:
        """All containers, running or not."""
        return self.run("ps", "-a", "--format", "{{.Names}}").stdout.decode().split()


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    program, busybox = shutil.which("podman"), shutil.which("busybox")
    if program is None:
        pytest.skip("podman is not installed")
    if busybox is None:
        pytest.skip("busybox is not installed (on Debian: busybox-static)")
    folder = tmp_path_factory.mktemp("podman")
    storage = f'graphroot = "{folder}/storage"\nrunroot = "{folder}/run"\n'
    (folder / "storage.conf").write_text(f'[storage]\ndriver = "vfs"\n{storage}')
    found = Podman(program, folder)
    reason = "podman cannot import an image"
    for text in CONFIGURATIONS:
        (folder / "containers.conf").write_text(text)
        change = ("--change", "ENV PATH=/bin", "--change", 'CMD ["true"]')
        found.run("import", *change, "-", IMAGE, stdin=rootfs(busybox))
        result = found.run("run", "--rm", "--network", "none", IMAGE)
        if result.returncode == 0:
            yield found
            found.run("rm", "-f", "-a")
            found.run("rmi", "-f", "-a")
            return
        reason = result.stderr.decode(errors="replace").strip().splitlines()[-1]
    pytest.skip(f"podman does not run containers here: {reason}")


@pytest.fixture
def with_podman(podman: Podman, monkeypatch: pytest.MonkeyPatch) -> Podman:
    for name, text in podman.settings.items():
        monkeypatch.setenv(name, text)
    return podman


def mapped(folder: Path) -> None:
    """Only the test's own image runs in podman."""
    (folder / "node").mkdir()
    (folder / "node/images.yaml").write_text(ENTRY)


def contained(script: str, **more: Any) -> dict[str, Any]:
    return {"name": "main", "image": IMAGE, "command": ["sh", "-c", script], **more}


SERVER = 'trap "exit 7" TERM; echo "$GREETING $(cat /data/text)"; httpd -p 8000 -h /data; '
WAITS = "while true; do sleep 0.05; done"
CALLER = """
import signal, threading, urllib.request
while True:
    try:
        print(urllib.request.urlopen("http://localhost:8000/text").read().decode(), flush=True)
        break
    except OSError:
        threading.Event().wait(0.05)
signal.pause()
"""


async def test_a_container_shares_its_pod_with_a_process(
    tmp_path: Path, with_podman: Podman
) -> None:
    mapped(tmp_path)
    async with cluster(tmp_path) as stack:
        data = {"metadata": {"name": "data", "namespace": "default"}, "data": {"text": "volume"}}
        await stack.client.create(CONFIG_MAPS, data)
        server = contained(
            SERVER + WAITS,
            env=[{"name": "GREETING", "value": "hello"}],
            ports=[{"containerPort": 8000}],
            readinessProbe={"httpGet": {"port": 8000, "path": "/text"}, "periodSeconds": 1},
            livenessProbe={
                "exec": {"command": ["cat", "/data/text"]},
                "periodSeconds": 1,
                "timeoutSeconds": 5,
                # A busy machine must not be the one that ends it.
                "failureThreshold": 60,
            },
            volumeMounts=[{"name": "data", "mountPath": "/data"}],
        )
        caller = {"name": "caller", "image": "python:3", "command": ["python3", "-c", CALLER]}
        spec = {
            "containers": [server, caller],
            "volumes": [{"name": "data", "configMap": {"name": "data"}}],
        }
        await stack.create_pod("web", spec)
        pod = await stack.pod_until("web", ready, SECONDS_MAX)
        assert container_state(pod, "main")["containerID"].startswith("podman://inferway-")
        assert container_state(pod, "main")["imageID"].startswith("sha256:")
        await eventually(lambda: "volume" in stack.said(pod, "caller"))
        assert stack.said(pod, "main")[0] == "hello volume"
        assert [name for name in with_podman.names() if pod["metadata"]["uid"] in name]
        # Killed from outside it is started again, as on a cluster.
        with_podman.run("kill", *with_podman.names())
        again = await stack.pod_until(
            "web", lambda pod: container_state(pod, "main").get("restartCount") == 1, SECONDS_MAX
        )
        assert container_state(again, "main")["lastState"]["terminated"]["exitCode"] == 137
        await stack.pod_until("web", ready, SECONDS_MAX)
        assert not [text for reason, text in await events_of(stack, "web") if reason == "Failed"]
        await delete(stack, "web")
        assert with_podman.names() == []


async def test_how_containers_end(tmp_path: Path, with_podman: Podman) -> None:
    mapped(tmp_path)
    async with cluster(tmp_path) as stack:
        await stack.create_pod(
            "code", {"containers": [contained("echo bye; exit 3")], "restartPolicy": "Never"}
        )
        missing = {**contained(""), "command": ["no-such-program"]}
        await stack.create_pod("missing", {"containers": [missing], "restartPolicy": "Never"})
        await stack.create_pod("term", {"containers": [contained(f'trap "exit 0" TERM; {WAITS}')]})
        await stack.create_pod(
            "absent",
            {"containers": [{**contained(""), "image": "localhost/inferway-test/none:1"}]},
        )
        pod = await stack.pod_until("code", phase("Failed"), SECONDS_MAX)
        assert container_state(pod, "main")["state"]["terminated"]["exitCode"] == 3
        assert stack.said(pod, "main") == ["bye"]
        pod = await stack.pod_until("missing", phase("Failed"), SECONDS_MAX)
        ended = container_state(pod, "main")["state"]["terminated"]
        assert ended["exitCode"] == 127
        assert "no-such-program" in ended["message"]
        await stack.pod_until("term", phase("Running"), SECONDS_MAX)
        await delete(stack, "term")
        absent = await stack.pod_until(
            "absent", lambda pod: "ErrImagePull" in str(pod.get("status")), SECONDS_MAX
        )
        message = container_state(absent, "main")["state"]["waiting"]["message"]
        assert "podman: Error:" in message
        assert ("Pulling", 'Pulling image "localhost/inferway-test/none:1"') in await events_of(
            stack, "absent"
        )
    assert with_podman.names() == []


async def delete(stack: Cluster, name: str) -> None:
    await stack.client.delete(PODS, name, "default", grace_seconds=10)
    await eventually(lambda: stack.gone(PODS, name), SECONDS_MAX)
