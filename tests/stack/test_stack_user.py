"""The demo as an ordinary user, who may not bind port 80: it is moved and every place says so.

Method: root starts the stack as uid 65534 with a home of its own. Where that user may not read
this Python, another one of the same version runs the same packages.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from harness import Stack, run, start

USER = 65534
ROOT = Path(__file__).resolve().parents[2]
PORT_START = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")

pytestmark = [
    pytest.mark.stack,
    pytest.mark.timeout(120),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user"),
    pytest.mark.skipif(
        PORT_START.read_text().strip() != "1024", reason="every user may bind port 80 here"
    ),
]


def become() -> None:
    os.setgroups([])
    os.setgid(USER)
    os.setuid(USER)


@dataclass(frozen=True)
class Installation:
    """What the user runs: the words of the command, and its environment."""

    command: list[str]
    env: dict[str, str]

    def run(self, *args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.command, *args], env=self.env, preexec_fn=become, cwd="/",
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip


def installation(home: Path) -> Installation:
    """Skips the tests where no Python can be run by the user."""
    packages = Path(sysconfig.get_path("purelib"))
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    programs = home / "bin"
    programs.mkdir()
    # The Python package starts its program by a path; the program itself needs no Python.
    (programs / "envoy").symlink_to(packages / "envoy" / "_bin" / "envoy")
    env = {
        "HOME": str(home),
        "XDG_STATE_HOME": str(home / "state"),
        "PATH": f"{programs}:/usr/local/bin:/usr/bin:/bin",
        "PYTHONPATH": f"{ROOT / 'src'}:{packages}",
    }
    for python in (sys.executable, shutil.which(version, path="/usr/local/bin:/usr/bin")):
        if python is None:
            continue
        found = Installation([python, "-m", "inferway"], env)
        try:
            if found.run("version").returncode == 0:
                return found
        except OSError:
            continue
    pytest.skip(f"uid {USER} can run no {version}")


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="inferway-user-"))
    os.chown(folder, USER, USER)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def user(home: Path) -> Installation:
    return installation(home)


@pytest.fixture(scope="module")
def demo(home: Path, user: Installation) -> Iterator[Stack]:
    state = home / "state" / "inferway"
    stack = start(state, command=user.command, env=user.env, user=become)
    stack.wait_for("Ctrl-C stops it all.")
    yield stack
    assert stack.stop() == 0


def test_the_moved_port_is_said_everywhere_and_answers(
    demo: Stack, user: Installation, kubectl: Path
) -> None:
    curl = next(line.strip() for line in demo.said if line.strip().startswith("curl"))
    assert ":8080/v1/completions" in curl
    answer = run(["bash", "-c", curl])
    assert answer.stdout.startswith("HTTP/1.1 200 OK"), answer.stdout + answer.stderr
    assert "x-went-into-resp-headers: true" in answer.stdout
    gateway = json.loads(demo.kubectl(kubectl, "get", "gateway", "inference-gateway", "-o", "json"))
    programmed = next(
        condition for condition in gateway["status"]["conditions"]
        if condition["type"] == "Programmed"
    )  # fmt: skip
    assert programmed["status"] == "True"
    assert "8080" in programmed["message"]
    said = user.run("status", "-o", "json")
    assert said.returncode == 0, said.stderr
    status = json.loads(said.stdout)
    assert status["ready"] is True
    assert status["gateways"][0]["url"].endswith(":8080")
    assert "8080" in status["gateways"][0]["message"]


def test_everything_belongs_to_the_user(demo: Stack) -> None:
    owners = {path.lstat().st_uid for path in demo.state.rglob("*")}
    assert owners == {USER}
    assert demo.kubeconfig.stat().st_mode & 0o777 == 0o600
