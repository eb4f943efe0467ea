"""Launcher and pause processes: namespaces as root and as an ordinary user, and that nothing stays.

The rig runs in a process of its own, so that it can be another user's and can be killed.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from node_cluster import eventually
from test_node_pods import http_get, processes_with

from inferway.local.node.sandboxes import Launch, Launcher, SandboxEvent

pytestmark = pytest.mark.slow
RIG = Path(__file__).with_name("sandbox_rig.py")
SOURCES = Path(__file__).parents[2] / "src"
NOBODY = 65534


class Rig:
    """The rig's process and what it has said."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.heard: list[dict[str, Any]] = []

    async def until(self, **words: Any) -> dict[str, Any]:
        """The next line that has all these words (or these keys, for None)."""
        assert self.process.stdout is not None
        while True:
            async with asyncio.timeout(15):
                line = await self.process.stdout.readline()
            assert line, f"the rig ended after {self.heard}"
            said = json.loads(line)
            self.heard.append(said)
            if all(k in said and (v is None or said[k] == v) for k, v in words.items()):
                return said


async def start(folder: Path, wanted: str, address: str, *, user: int = 0, port: int) -> Rig:
    prefix: list[str] = []
    python = sys.executable
    if user:
        python = readable_python()
        prefix = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
    process = await asyncio.create_subprocess_exec(
        *prefix,
        python,
        str(RIG),
        str(folder),
        wanted,
        address,
        str(port),
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(SOURCES), "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        cwd="/",
    )
    return Rig(process)


def readable_python() -> str:
    """A Python that an ordinary user of this machine can run; skips where there is none."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root can become an ordinary user")
    check = (
        "import os, sys, inferway.local.node.sandboxes\n"
        "sys.exit(sys.version_info < (3, 11) or not os.access(sys.executable, os.X_OK))"
    )
    for python in (sys.executable, "/usr/bin/python3"):
        words = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        try:
            done = subprocess.run(
                [*words, python, "-c", check],
                env={"PYTHONPATH": str(SOURCES), "PYTHONDONTWRITEBYTECODE": "1"},
                capture_output=True,
                timeout=20,
                cwd="/",
            )
        except OSError:
            continue
        if done.returncode == 0:
            return python
    pytest.skip("no Python 3.11 that an ordinary user can run")


@pytest.mark.parametrize(
    ("wanted", "user", "port"),
    [("best", 0, 8011), ("none", 0, 8012), ("best", NOBODY, 8013), ("none", NOBODY, 8014)],
)
async def test_a_pod_works_and_nothing_outlives_a_killed_node(
    tmp_path: Path, wanted: str, user: int, port: int
) -> None:
    if user:
        top = Path(tempfile.gettempdir())
        for folder in tmp_path.parents:
            if top in folder.parents:
                folder.chmod(0o755)
        tmp_path.chmod(0o777)
    rig = await start(tmp_path / "rig", wanted, "127.199.1.1", user=user, port=port)
    said = await rig.until(isolation=None)
    if wanted == "best" and said["isolation"] == "none":
        rig.process.kill()
        await rig.process.wait()
        pytest.skip(f"this machine refuses namespaces: {said['reason']}")
    pause = (await rig.until(pause=None))["pause"]
    address = "127.199.1.1" if wanted == "best" else "127.0.0.1"

    async def answers() -> bool:
        try:
            return (await http_get(address, port))[0] == 200
        except OSError:
            return False

    await eventually(answers)
    log = (tmp_path / "rig" / "main.log").read_text()
    if wanted == "best":
        assert ("user 0" in log, " volume\n" in log) == (True, True)
    else:
        assert f"user {user or os.geteuid()}" in log
    assert len(processes_with(f"sleep 98{port}")) == 2
    rig.process.send_signal(signal.SIGKILL)
    await rig.process.wait()
    await eventually(lambda: not processes_with(f"sleep 98{port}"), 3.0)
    await eventually(lambda: not processes_with(f"http.server {port}"), 3.0)
    await eventually(lambda: not Path(f"/proc/{pause}").exists(), 3.0)


async def test_a_killed_pause_takes_its_pod_along(tmp_path: Path) -> None:
    rig = await start(tmp_path / "rig", "best", "127.199.1.2", port=8015)
    pause = (await rig.until(pause=None))["pause"]
    await rig.until(kind="started")
    os.kill(pause, signal.SIGKILL)
    await rig.until(kind="gone")
    await rig.process.wait()
    await eventually(lambda: not processes_with("sleep 98015"), 3.0)


async def test_messages_wait_for_a_busy_pause(tmp_path: Path) -> None:
    async with Launcher() as launcher:
        isolation = await launcher.detect()
        heard: list[SandboxEvent] = []
        sandbox = await launcher.create(isolation, "", "busy", heard.append)
        long = "x" * 50_000
        for number in range(30):
            launch = Launch(
                ["true"], {"PATH": "/usr/bin:/bin", "A": long}, str(tmp_path / f"{number}.log")
            )
            sandbox.start(f"c{number}", launch)
        # One of two megabytes travels in a memory file; its end is the kernel's word on it.
        huge = Launch(["true"], {"PATH": "/bin", "A": "y" * 2_000_000}, str(tmp_path / "huge.log"))
        sandbox.start("huge", huge)
        await eventually(lambda: len([e for e in heard if e.kind == "exited"]) == 30)
        failed = await eventually(lambda: [e for e in heard if e.kind == "failed"])
        assert "Argument list too long" in failed[0].message
        sandbox.end()
        await sandbox.closed.wait()
