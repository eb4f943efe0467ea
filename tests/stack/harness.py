"""Starts whole stacks as a user does, and waits for what they say.

Method: the command runs as a child process; its words on stderr are the events to wait for.
"""

from __future__ import annotations

import atexit
import json
import os
import queue
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

UP_SECONDS_MAX = 90
STOP_SECONDS_MAX = 60
COMMAND_SECONDS_MAX = 120


def inferway_command() -> list[str]:
    return [str(Path(sys.executable).parent / "inferway")]


@dataclass
class Stack:
    """One running ``inferway up``."""

    state: Path
    process: subprocess.Popen[str]
    said: list[str] = field(default_factory=list)
    lines: queue.Queue[str] = field(default_factory=queue.Queue)
    reader: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.reader = threading.Thread(target=self.listen, daemon=True)
        self.reader.start()
        # A fixture that fails half-way leaves nobody who stops it.
        atexit.register(self.end)

    def end(self) -> None:
        """Stops it if it still runs."""
        if self.process.poll() is None:
            self.stop()

    @property
    def kubeconfig(self) -> Path:
        return self.state / "kubeconfig"

    def listen(self) -> None:
        """Reads what the process says and closes; an empty line stands for its end."""
        assert self.process.stderr is not None
        with self.process.stderr as words:
            for line in words:
                self.lines.put(line)
        self.lines.put("")

    def wait_for(self, text: str, seconds: float = UP_SECONDS_MAX) -> str:
        """Waits until the stack says a line that holds ``text``; returns all it said."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                line = self.lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(
                    f"no {text!r} within {seconds} s; said: {''.join(self.said)}"
                ) from None
            assert line, (
                f"ended without {text!r} (code {self.process.wait()}): {''.join(self.said)}"
            )
            self.said.append(line)
            if text in line:
                return "".join(self.said)

    def status(self) -> dict[str, Any]:
        result = run([*inferway_command(), "status", "--state", str(self.state), "-o", "json"])
        loaded: dict[str, Any] = json.loads(result.stdout)
        return loaded

    def url(self) -> str:
        return str(self.status()["gateways"][0]["url"])

    def stop(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        code = self.process.wait(timeout=STOP_SECONDS_MAX)
        self.reader.join(timeout=5)
        return code

    def kubectl(self, program: str | Path, *args: str, text: str | None = None) -> str:
        """Runs kubectl against the stack; fails with its words."""
        result = run([str(program), *args], env={"KUBECONFIG": str(self.kubeconfig)}, text=text)
        assert result.returncode == 0, f"kubectl {' '.join(args)}: {result.stderr}"
        return result.stdout


def run(
    argv: Sequence[str], *, env: dict[str, str] | None = None, text: str | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(argv),
        env=os.environ | (env or {}),
        input=text,
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS_MAX,
        check=False,
    )


def start(
    state: Path,
    *args: str,
    command: Sequence[str] = (),
    env: dict[str, str] | None = None,
    user: Callable[[], None] | None = None,
) -> Stack:
    """Starts ``inferway up --state STATE``; the caller waits for what it wants to see.

    ``command`` and ``env`` stand for another installation, ``user`` becomes another user.
    """
    process = subprocess.Popen(
        [*(command or inferway_command()), "up", "--state", str(state), *args],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
        preexec_fn=user,
    )
    return Stack(state, process)


def processes_of(state: Path) -> list[int]:
    """Processes whose command line or environment names the state folder."""
    needle = str(state).encode()
    return [
        pid
        for pid in all_processes()
        if pid != os.getpid() and needle in proc(pid, "cmdline") + proc(pid, "environ")
    ]


def descendants(root: int) -> list[int]:
    """All processes below one, whatever namespaces they are in."""
    children: dict[int, list[int]] = {}
    for pid in all_processes():
        fields = proc(pid, "stat").rpartition(b") ")[2].split()
        if fields:
            children.setdefault(int(fields[1]), []).append(pid)
    found: list[int] = []
    waiting = [root]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def all_processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def proc(pid: int, name: str) -> bytes:
    """A file about a process; empty if it is gone or not ours to read."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def hold(pids: Sequence[int]) -> dict[int, str]:
    """Handles that become readable when their processes have ended, with what they run."""
    held = {}
    for pid in pids:
        with suppress(ProcessLookupError):
            name = proc(pid, "cmdline").replace(bytes(1), b" ").decode()
            held[os.pidfd_open(pid)] = f"{pid} {name}"
    return held


def wait_for_end(handles: dict[int, str], seconds: float) -> None:
    """Fails with the names of the processes that outlive the time; closes the handles."""
    deadline = time.monotonic() + seconds
    late = []
    for handle, name in handles.items():
        if not select.select([handle], [], [], max(0.0, deadline - time.monotonic()))[0]:
            late.append(name)
        os.close(handle)
    assert late == [], f"still there after {seconds} s: {late}"
