"""The first moments of a container's process, between fork and exec.

Runs in the child of a pause process. Everything that can go wrong is reported through a pipe as
``(reason, message)`` in the words of a container runtime.
"""

from __future__ import annotations

# pathlib would cost the launcher 10 ms of its start.
# ruff: noqa: PTH123
import contextlib
import errno
import marshal
import os
import resource
import signal
from typing import Any, NoReturn

from inferway.local.node.sandbox import kernel, rootfs

Spec = dict[str, Any]
"""argv, env, cwd, mounts, limits {name: (soft, hard)}, cgroup; see ``node.sandboxes.Launch``."""


def run(spec: Spec, isolation: str, outputs: tuple[int, int], report: int) -> NoReturn:
    """Becomes the program. ``isolation``: ``none``, ``mounts`` or ``proc`` (with an own /proc)."""
    try:
        _prepare(spec, isolation, outputs)
        os.execvpe(spec["argv"][0], spec["argv"], spec["env"])  # noqa: S606
    except BaseException as error:
        _tell(report, error, spec)
    os._exit(128)


def enter_and_run(spec: Spec, main_pid: int, outputs: tuple[int, int], report: int) -> NoReturn:
    """Becomes a program in the view of files of a container that runs (probes and hooks)."""
    try:
        os.setsid()
        kernel.die_with_parent(signal.SIGKILL)
        if spec["isolated"]:
            descriptor = os.open(f"/proc/{main_pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
            kernel.setns(descriptor, kernel.CLONE_NEWNS)
        _wire(outputs)
        _go_to(spec["cwd"])
        os.execvpe(spec["argv"][0], spec["argv"], spec["env"])  # noqa: S606
    except BaseException as error:
        _tell(report, error, spec)
    os._exit(128)


def _prepare(spec: Spec, isolation: str, outputs: tuple[int, int]) -> None:
    os.setsid()
    kernel.die_with_parent(signal.SIGKILL)
    if spec.get("cgroup"):
        with contextlib.suppress(OSError), open(spec["cgroup"], "w") as file:
            file.write("0")
    _wire(outputs)
    if isolation != "none":
        rootfs.enter(spec["mounts"], fresh_proc=isolation == "proc")
    _go_to(spec["cwd"])
    for name, pair in spec["limits"].items():
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(getattr(resource, name), tuple(pair))
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGPIPE, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    os.umask(0o022)


def _wire(outputs: tuple[int, int]) -> None:
    empty = os.open("/dev/null", os.O_RDONLY)
    os.dup2(empty, 0)
    os.dup2(outputs[0], 1)
    os.dup2(outputs[1], 2)


def _go_to(folder: str) -> None:
    try:
        os.chdir(folder or "/")
    except FileNotFoundError:
        # A runtime makes the working folder; on the host's own folders nothing is made.
        os.chdir("/")


def _tell(report: int, error: BaseException, spec: Spec) -> None:
    program = spec["argv"][0]
    prefix = (
        "failed to create containerd task: failed to create shim task: OCI runtime create "
        "failed: unable to start container process: "
    )
    if isinstance(error, OSError) and error.errno == errno.ENOENT:
        named = "no such file or directory", "executable file not found in $PATH"
        where = named["/" not in program]
        reason = f'error during container init: exec: "{program}": {where}: unknown'
    elif isinstance(error, OSError) and error.errno == errno.EACCES:
        reason = f'error during container init: exec: "{program}": permission denied: unknown'
    else:
        reason = f"error during container init: {error}"
    with contextlib.suppress(OSError):
        os.write(report, marshal.dumps(("StartError", prefix + reason)))
