"""Makes pause processes: one small program, started once by the node, that forks quickly.

Run as ``python -m inferway.local.node.sandbox.launcher DESCRIPTOR``. It answers requests
``("pod", ident, settings)`` that carry the pause's end of a socket with ``("pod", ident, pid,
error)``. It ends with the node, and the pauses end with it.
"""

from __future__ import annotations

import contextlib
import gc
import io
import marshal
import os
import resource
import signal
import socket
import sys
import traceback
from typing import Any, NoReturn

from inferway.local.node.sandbox import kernel, messages, rootfs, services
from inferway.local.node.sandbox.pause import Pause

Settings = dict[str, Any]
"""isolation (none|mounts|proc), user (new user namespace), network (bool), address, host_name."""


def main(descriptor: int) -> int:
    """Serves until the node's end of the socket is closed."""
    kernel.die_with_parent(signal.SIGKILL)
    kernel.adopt_orphans()
    kernel.name_process("inferway-pods")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    control = socket.socket(fileno=descriptor)
    pauses: set[int] = set()
    signal.signal(signal.SIGCHLD, lambda *_: _reap(pauses))
    # Pauses share this process's memory until they write; the collector would write everywhere.
    gc.collect()
    gc.freeze()
    while True:
        received = messages.receive(control)
        if received is None:
            return 0
        (verb, ident, settings), descriptors = received
        if verb == "pod":
            pid, error = launch(settings, descriptors[0], control)
            if pid:
                pauses.add(pid)
                _reap(pauses)
            os.close(descriptors[0])
            messages.send(control, ("pod", ident, pid, error))
        elif verb == "services":
            pid = _fork_services(descriptors[0], control)
            os.close(descriptors[0])
            messages.send(control, ("services", ident, pid, ""))
        elif verb == "try":
            messages.send(control, ("try", ident, 0, attempt(settings)))


def _reap(pauses: set[int]) -> None:
    """Collects pauses that have ended; other children are waited for where they are made."""
    for pid in list(pauses):
        try:
            ended = os.waitpid(pid, os.WNOHANG)[0] == pid
        except ChildProcessError:
            ended = True
        if ended:
            pauses.discard(pid)


def _fork_services(descriptor: int, control: socket.socket) -> int:
    """The pid of a process that forwards connections to Services."""
    pid = os.fork()
    if pid:
        return pid
    try:
        control.close()
        kernel.die_with_parent(signal.SIGKILL)
        kernel.name_process("inferway-svc")
        services.run(socket.socket(fileno=descriptor))
    except BaseException:
        traceback.print_exc()
    os._exit(1)


def attempt(settings: Settings) -> str:
    """Empty if a Pod with these settings can be made here, else the reason why not."""
    read, write = os.pipe2(os.O_CLOEXEC)
    first = os.fork()
    if first == 0:
        try:
            _separate(settings)
            second = os.fork()
            if second == 0:
                _inside(settings)
                if settings["isolation"] != "none":
                    rootfs.enter([], fresh_proc=settings["isolation"] == "proc")
                os._exit(0)
            _, status = os.waitpid(second, 0)
            os._exit(0 if status == 0 else 1)
        except BaseException as error:
            os.write(write, str(error).encode())
        os._exit(1)
    os.close(write)
    with os.fdopen(read, "rb") as file:
        reason = file.read().decode(errors="replace")
    _, status = os.waitpid(first, 0)
    return reason or ("" if status == 0 else "the namespaces do not work")


def launch(settings: Settings, descriptor: int, control: socket.socket) -> tuple[int, str]:
    """The pid of a new pause process, or the reason why there is none."""
    answer_read, answer_write = os.pipe2(os.O_CLOEXEC)
    go_read, go_write = os.pipe2(os.O_CLOEXEC)
    middle = os.fork()
    if middle == 0:
        try:
            control.close()
            os.close(go_write)
            _separate(settings)
            pid = os.fork()
            if pid == 0:
                os.close(answer_read)
                _become_pause(settings, descriptor, go_read, answer_write)
            os.write(answer_write, marshal.dumps((pid, "")))
        except BaseException as error:
            os.write(answer_write, marshal.dumps((0, str(error))))
        os._exit(0)
    # The pause's parent is this process only after the one between has ended.
    os.waitpid(middle, 0)
    os.close(answer_write)
    os.close(go_read)
    os.write(go_write, b"g")
    os.close(go_write)
    with os.fdopen(answer_read, "rb") as file:
        parts = file.read()
    answers = _split(parts)
    pid = next((number for number, _ in answers if number), 0)
    reason = next((text for _, text in answers if text), "")
    return (0, reason) if reason else (pid, "")


def _split(data: bytes) -> list[tuple[int, str]]:
    """Several marshalled answers that were written one after the other."""
    stream = io.BytesIO(data)
    answers = []
    while stream.tell() < len(data):
        answers.append(marshal.load(stream))  # noqa: S302 - from our own child.
    return answers


def _separate(settings: Settings) -> None:
    """New namespaces for the caller and, of processes, for its children. Raises OSError."""
    flags = 0
    if settings["isolation"] != "none":
        flags |= kernel.CLONE_NEWNS | kernel.CLONE_NEWUTS | kernel.CLONE_NEWIPC
    if settings["isolation"] == "proc":
        flags |= kernel.CLONE_NEWPID
    if settings["network"]:
        flags |= kernel.CLONE_NEWNET
    if flags == 0:
        return
    user, group = os.geteuid(), os.getegid()
    if settings["user"]:
        kernel.unshare(kernel.CLONE_NEWUSER | flags)
        # A program sees itself as root, as in most images, and is its user outside.
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"0 {user} 1")
        _write("/proc/self/gid_map", f"0 {group} 1")
    else:
        kernel.unshare(flags)


def _inside(settings: Settings) -> None:
    """What must be set up from within the namespaces. Raises OSError."""
    if settings["isolation"] != "none":
        kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_SLAVE)
        kernel.set_host_name(settings["host_name"][:63])
    if settings["isolation"] == "proc":
        kernel.mount("proc", "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV)
    if settings["network"]:
        kernel.loopback_up()


def _become_pause(settings: Settings, descriptor: int, go_read: int, answer_write: int) -> NoReturn:
    try:
        os.read(go_read, 1)
        kernel.die_with_parent(
            signal.SIGKILL if settings["isolation"] == "proc" else signal.SIGTERM
        )
        os.setsid()
        kernel.adopt_orphans()
        kernel.name_process("inferway-pause")
        _inside(settings)
    except BaseException as error:
        os.write(answer_write, marshal.dumps((0, str(error))))
        os._exit(1)
    os.close(answer_write)
    try:
        Pause(socket.socket(fileno=descriptor), settings["isolation"], settings["address"]).run()
    except BaseException:
        # The node sees the end of the socket; the cause goes where its own errors go.
        traceback.print_exc()
    os._exit(1)


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
