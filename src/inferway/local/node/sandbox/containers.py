"""The containers of one Pod as its pause process sees them: processes, pipes, logs, exits.

Knows fork, pipes and /proc. Emits tuples for the node through ``tell``.
"""

from __future__ import annotations

# pathlib would cost the launcher 10 ms of its start.
# ruff: noqa: PTH115, PTH123, PTH208
import contextlib
import marshal
import os
import select
import signal
from collections.abc import Callable
from typing import Any

from inferway.local.node.sandbox import child
from inferway.local.node.sandbox.logfile import LogFile

# What a kubelet keeps of a probe's output.
EXEC_OUTPUT_BYTES_MAX = 10 * 1024
READ_BYTES = 64 * 1024
# A process that forks while it is killed needs another round; a fork bomb is not waited for.
KILL_ROUNDS = 20
MARK = "INFERWAY_CONTAINER"

Tell = Callable[[tuple[Any, ...]], None]


class _Process:
    """A container's main process, or a command that runs inside of it."""

    __slots__ = ("ident", "is_exec", "log", "mark", "output", "pid", "pipes", "spec", "view")

    def __init__(self, ident: str, pid: int, spec: child.Spec) -> None:
        self.ident = ident
        self.pid = pid
        self.spec = spec
        self.log: LogFile | None = None
        self.output = b""
        self.pipes: dict[int, str] = {}
        self.is_exec = False
        self.view = ""
        self.mark = b""


class Containers:
    """All processes of a Pod. ``isolation`` as in ``child.run``."""

    def __init__(self, poll: select.epoll, isolation: str, tell: Tell) -> None:
        self._poll = poll
        self._isolation = isolation
        self._tell = tell
        self._by_pid: dict[int, _Process] = {}
        self._by_ident: dict[str, _Process] = {}
        self._by_pipe: dict[int, _Process] = {}

    def start(self, ident: str, spec: child.Spec) -> None:
        """Starts a container; tells ``started`` or ``failed``."""
        spec["env"][MARK] = ident
        process = self._fork(ident, spec, None)
        if process is None:
            return
        process.log = LogFile(spec["log"])
        process.view = _view(process.pid) if self._isolation != "none" else ""
        process.mark = f"{MARK}={ident}".encode()
        self._by_ident[ident] = process
        self._tell(("started", ident, process.pid))

    def execute(self, ident: str, container: str, spec: child.Spec) -> None:
        """Runs a command in a container's view; tells ``executed`` when it ends."""
        main = self._by_ident.get(container)
        if main is None:
            self._tell(("executed", ident, -1, b"container not running"))
            return
        spec = {**main.spec, **spec, "isolated": self._isolation != "none"}
        process = self._fork(ident, spec, main)
        if process is not None:
            process.is_exec = True
            self._by_ident[ident] = process

    def _fork(self, ident: str, spec: child.Spec, main: _Process | None) -> _Process | None:
        out_read, out_write = os.pipe2(os.O_CLOEXEC)
        err_read, err_write = os.pipe2(os.O_CLOEXEC)
        report_read, report_write = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            outputs = (out_write, err_write)
            if main is None:
                child.run(spec, self._isolation, outputs, report_write)
            child.enter_and_run(spec, main.pid, outputs, report_write)
        for descriptor in (out_write, err_write, report_write):
            os.close(descriptor)
        # The report pipe ends when exec succeeds; preparing a view takes about 2 ms.
        report = _read_all(report_read)
        if report:
            os.waitpid(pid, 0)
            os.close(out_read)
            os.close(err_read)
            reason, message = marshal.loads(report)  # noqa: S302 - from our own child.
            if main is None:
                self._tell(("failed", ident, reason, message))
            else:
                self._tell(("executed", ident, 126, message.encode()))
            return None
        process = _Process(ident, pid, spec)
        for descriptor, stream in ((out_read, "stdout"), (err_read, "stderr")):
            os.set_blocking(descriptor, False)
            process.pipes[descriptor] = stream
            self._by_pipe[descriptor] = process
            self._poll.register(descriptor, select.EPOLLIN)
        self._by_pid[pid] = process
        return process

    def handle(self, descriptor: int) -> bool:
        """Reads a pipe; False if it is none of these."""
        process = self._by_pipe.get(descriptor)
        if process is None:
            return False
        try:
            data = os.read(descriptor, READ_BYTES)
        except BlockingIOError:
            return True
        if data:
            self._keep(process, process.pipes[descriptor], data)
        else:
            self._close_pipe(process, descriptor)
        return True

    def _keep(self, process: _Process, stream: str, data: bytes) -> None:
        if process.log is not None:
            process.log.write(stream, data)
        elif len(process.output) < EXEC_OUTPUT_BYTES_MAX:
            process.output = (process.output + data)[:EXEC_OUTPUT_BYTES_MAX]

    def _close_pipe(self, process: _Process, descriptor: int) -> None:
        del process.pipes[descriptor]
        del self._by_pipe[descriptor]
        self._poll.unregister(descriptor)
        os.close(descriptor)

    def signal(self, ident: str, number: int) -> None:
        """Signals the main process; SIGKILL goes to everything that the container started."""
        process = self._by_ident.get(ident)
        if process is None:
            return
        if number == signal.SIGKILL:
            self._kill_rest(process)
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)

    def _kill_rest(self, process: _Process) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        if process.is_exec:
            return
        for pid in _descendants(os.getpid()):
            belongs = _view(pid) == process.view if process.view else _has_mark(pid, process.mark)
            if belongs:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def reap(self) -> bool:
        """Collects what has ended; True if a container was among it."""
        ended = False
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return ended
            if pid == 0:
                return ended
            process = self._by_pid.pop(pid, None)
            if process is not None:
                self._finish(process, status)
                ended = True

    def _finish(self, process: _Process, status: int) -> None:
        for descriptor in list(process.pipes):
            with contextlib.suppress(BlockingIOError):
                while data := os.read(descriptor, READ_BYTES):
                    self._keep(process, process.pipes[descriptor], data)
            self._close_pipe(process, descriptor)
        code = os.waitstatus_to_exitcode(status)
        # A shell's and a runtime's convention: 128 and the number of the signal.
        code = code if code >= 0 else 128 - code
        self._by_ident.pop(process.ident, None)
        if process.is_exec:
            self._tell(("executed", process.ident, code, process.output))
            return
        self._kill_rest(process)
        if process.log is not None:
            process.log.close()
        self._tell(("exited", process.ident, code))

    def kill_all(self) -> None:
        """Ends every process of the Pod: all descend from this one, or were adopted by it."""
        for _ in range(KILL_ROUNDS):
            found = _descendants(os.getpid())
            for pid in found:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            if not found:
                return


def _read_all(descriptor: int) -> bytes:
    parts = []
    while part := os.read(descriptor, READ_BYTES):
        parts.append(part)
    os.close(descriptor)
    return b"".join(parts)


def _view(pid: int) -> str:
    """The mount namespace of a process; empty if it has none of its own."""
    try:
        view = os.readlink(f"/proc/{pid}/ns/mnt")
        return "" if view == os.readlink("/proc/self/ns/mnt") else view
    except OSError:
        return ""


def _has_mark(pid: int, mark: bytes) -> bool:
    """Where containers have no view of their own, their environment tells them apart."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return mark in file.read().split(b"\0")
    except OSError:
        return False


def _descendants(root: int) -> list[int]:
    """Children, their children and so on."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            continue
        # A zombie is dead already; its parent collects it.
        if fields[0] != "Z":
            children.setdefault(int(fields[1]), []).append(int(name))
    found: list[int] = []
    waiting = [root]
    while waiting:
        own = children.get(waiting.pop(), [])
        found += own
        waiting += own
    return found
