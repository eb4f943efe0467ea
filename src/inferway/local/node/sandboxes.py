"""The node's end of the launcher and of the pause processes.

Starts one launcher, asks it for Pods, and hands sockets that listen on a Pod's address to the
Pod's pause process. Knows nothing of Kubernetes. Errors of the kernel are texts in results.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from inferway.local.node.sandbox import messages
from inferway.local.node.sandbox.rootfs import Mount

_log = logging.getLogger(__name__)

# As a web server asks for; a Pod's programs have their own queue behind it.
BACKLOG_CONNECTIONS = 1024
# Forking a pause takes a few milliseconds; a machine that needs more is not usable.
LAUNCH_SECONDS_MAX = 20.0


@dataclass(frozen=True, slots=True)
class Isolation:
    """What this machine allows. ``level``: ``proc``, ``mounts`` or ``none``."""

    level: str
    user_namespace: bool = False
    network: bool = False
    reason: str = ""

    @property
    def annotation(self) -> str:
        """The Node annotation ``inferway.dev/isolation``."""
        return "full" if self.level != "none" and self.network else f"none: {self.reason}"


@dataclass(frozen=True, slots=True)
class Launch:
    """One container's process. ``ports`` are those it is expected to listen on."""

    argv: list[str]
    env: dict[str, str]
    log: str
    cwd: str = "/"
    mounts: list[Mount] = field(default_factory=list)
    limits: dict[str, tuple[int, int]] = field(default_factory=dict)
    cgroup: str = ""
    ports: list[int] = field(default_factory=list)

    def spec(self) -> dict[str, Any]:
        """The form that the pause process reads."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class SandboxEvent:
    """Something a pause process said; ``kind``: started, failed, exited, ports, gone."""

    kind: str
    ident: str = ""
    code: int = 0
    reason: str = ""
    message: str = ""
    ports: tuple[int, ...] = ()


class Sandbox:
    """One Pod's pause process."""

    def __init__(
        self,
        sock: socket.socket,
        pid: int,
        address: str,
        notify: Callable[[SandboxEvent], None],
    ) -> None:
        self.pid = pid
        self.closed = asyncio.Event()
        self._sock = sock
        self._address = address
        self._notify = notify
        self._executions: dict[str, asyncio.Future[tuple[int, bytes]]] = {}
        self._outbox: deque[tuple[tuple[Any, ...], tuple[int, ...]]] = deque()
        self._serial = 0
        sock.setblocking(False)
        asyncio.get_running_loop().add_reader(sock, self._read)

    def start(self, ident: str, launch: Launch) -> None:
        """Starts a container; ``started`` or ``failed`` follows."""
        self._send(("start", ident, launch.spec()))

    def signal(self, ident: str, number: int) -> None:
        self._send(("signal", ident, int(number)))

    def end(self) -> None:
        """Kills everything in the Pod."""
        self._send(("end",))

    async def execute(
        self, container: str, argv: list[str], seconds: float
    ) -> tuple[int, bytes] | None:
        """Exit code and output of a command in a container; None when the time is over."""
        self._serial += 1
        ident = f"exec-{self._serial}"
        future: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        self._executions[ident] = future
        self._send(("exec", ident, container, {"argv": argv}))
        try:
            async with asyncio.timeout(seconds):
                return await future
        except TimeoutError:
            self.signal(ident, signal.SIGKILL)
            return None
        finally:
            self._executions.pop(ident, None)

    def kill(self) -> None:
        """The hard way, for a pause that does not react."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def _send(self, message: tuple[Any, ...], descriptors: tuple[int, ...] = ()) -> None:
        if self.closed.is_set():
            return
        # Copies, because the caller closes its own and the message may have to wait.
        self._outbox.append((message, tuple(os.dup(number) for number in descriptors)))
        if len(self._outbox) == 1:
            self._flush()

    def _flush(self) -> None:
        """Sends what waits; a pause that is busy starting a container takes it a little later."""
        loop = asyncio.get_running_loop()
        while self._outbox:
            message, descriptors = self._outbox[0]
            try:
                messages.send(self._sock, message, descriptors)
            except BlockingIOError:
                loop.add_writer(self._sock, self._flush)
                return
            except OSError as error:
                data = {"pid": self.pid, "error": str(error)}
                _log.debug("a pause process takes no messages", extra={"data": data})
                self.kill()
                self._drop_outbox()
                break
            self._outbox.popleft()
            _close_all(descriptors)
        loop.remove_writer(self._sock)

    def _drop_outbox(self) -> None:
        for _, descriptors in self._outbox:
            _close_all(descriptors)
        self._outbox.clear()

    def _read(self) -> None:
        try:
            received = messages.receive(self._sock)
        except BlockingIOError:
            return
        except OSError:
            received = None
        if received is None:
            self._close()
            return
        (verb, *words), _ = received
        if verb == "executed":
            future = self._executions.get(words[0])
            if future is not None and not future.done():
                future.set_result((words[1], words[2]))
        elif verb == "ports":
            self._offer(words[0])
            self._notify(SandboxEvent("ports", ports=tuple(words[0])))
        elif verb == "failed":
            self._notify(SandboxEvent("failed", words[0], reason=words[1], message=words[2]))
        else:
            self._notify(SandboxEvent(verb, words[0], code=words[1]))

    def _offer(self, ports: list[int]) -> None:
        """Listens outside for what listens inside; the pause closes what is over."""
        for port in ports:
            try:
                listener = listening_socket(self._address, port)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    place = f"{self._address}:{port}"
                    data = {"address": place, "error": str(error)}
                    _log.warning("a Pod's port has no outside", extra={"data": data})
                continue
            self._send(("listen", port), (listener.fileno(),))
            listener.close()

    def _close(self) -> None:
        if self.closed.is_set():
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._sock)
        loop.remove_writer(self._sock)
        self._sock.close()
        self.closed.set()
        self._drop_outbox()
        for future in self._executions.values():
            if not future.done():
                future.set_result((137, b"the Pod has ended"))
        self._notify(SandboxEvent("gone"))


def _close_all(descriptors: tuple[int, ...]) -> None:
    for number in descriptors:
        os.close(number)


def listening_socket(address: str, port: int) -> socket.socket:
    """A socket that listens. Raises OSError."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        sock.listen(BACKLOG_CONNECTIONS)
    except OSError:
        sock.close()
        raise
    return sock


class Launcher:
    """The small program that forks pauses; ``async with`` starts and ends it."""

    def __init__(self) -> None:
        self._sock: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._answers: dict[str, asyncio.Future[tuple[int, str]]] = {}
        self._serial = 0

    async def __aenter__(self) -> Launcher:
        self._start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop()

    def _start(self) -> None:
        ours, theirs = messages.pair()
        ours.setblocking(False)
        # -I would hide a source tree that is on PYTHONPATH only.
        argv = [sys.executable, "-m", "inferway.local.node.sandbox.launcher", str(theirs.fileno())]
        self._process = subprocess.Popen(
            argv, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, start_new_session=True
        )
        theirs.close()
        self._sock = ours
        asyncio.get_running_loop().add_reader(ours, self._read)

    def _stop(self) -> None:
        sock, self._sock = self._sock, None
        if sock is not None:
            asyncio.get_running_loop().remove_reader(sock)
            sock.close()
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
        for future in self._answers.values():
            if not future.done():
                future.set_result((0, "the launcher has ended"))
        self._answers.clear()

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    def _read(self) -> None:
        assert self._sock is not None
        try:
            received = messages.receive(self._sock)
        except BlockingIOError:
            return
        except OSError:
            received = None
        if received is None:
            # It was killed from outside; the next Pod starts a new one.
            self._stop()
            return
        (_, ident, pid, error), _descriptors = received
        future = self._answers.pop(ident, None)
        if future is not None and not future.done():
            future.set_result((pid, error))

    async def _ask(
        self, verb: str, settings: dict[str, Any], descriptors: tuple[int, ...] = ()
    ) -> tuple[int, str]:
        if self._sock is None:
            self._start()
        assert self._sock is not None
        self._serial += 1
        ident = str(self._serial)
        future: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        self._answers[ident] = future
        messages.send(self._sock, (verb, ident, settings), descriptors)
        try:
            async with asyncio.timeout(LAUNCH_SECONDS_MAX):
                return await future
        except TimeoutError:
            return 0, f"the launcher did not answer within {LAUNCH_SECONDS_MAX:.0f} s"
        finally:
            self._answers.pop(ident, None)

    async def detect(self) -> Isolation:
        """Tries what this machine allows, best first."""
        reasons = []
        for user_namespace in (False, True) if os.geteuid() == 0 else (True,):
            for level in ("proc", "mounts"):
                settings = _settings(Isolation(level, user_namespace, network=True), "", "probe")
                _, error = await self._ask("try", settings)
                if not error:
                    return Isolation(level, user_namespace, network=True)
                reasons.append(error)
        return Isolation("none", reason=reasons[-1])

    async def services(self) -> socket.socket:
        """The control socket of a new process that forwards to Services. Raises OSError."""
        ours, theirs = messages.pair()
        try:
            _, error = await self._ask("services", {}, (theirs.fileno(),))
        finally:
            theirs.close()
        if error:
            ours.close()
            raise OSError(error)
        return ours

    async def create(
        self,
        isolation: Isolation,
        address: str,
        host_name: str,
        notify: Callable[[SandboxEvent], None],
    ) -> Sandbox:
        """A new Pod's pause; ``address`` is empty for the host's network. Raises OSError."""
        ours, theirs = messages.pair()
        try:
            settings = _settings(isolation, address, host_name)
            pid, error = await self._ask("pod", settings, (theirs.fileno(),))
        finally:
            theirs.close()
        if error:
            ours.close()
            raise OSError(error)
        return Sandbox(ours, pid, address, notify)


def _settings(isolation: Isolation, address: str, host_name: str) -> dict[str, Any]:
    return {
        "isolation": isolation.level,
        "user": isolation.user_namespace,
        "network": isolation.network and (bool(address) or host_name == "probe"),
        "address": address,
        "host_name": host_name,
    }
