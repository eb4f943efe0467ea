"""The process that holds a Pod together: one loop over its programs, pipes and connections.

It lives in the Pod's namespaces and ends with the node: when the socket to the node ends, or the
parent does, every process of the Pod is killed. Messages from the node: ``start``, ``exec``,
``signal``, ``listen``, ``end``; to the node: ``started``, ``failed``, ``exited``, ``executed``,
``ports``.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from typing import Any, NoReturn

from inferway.local.node.sandbox import messages
from inferway.local.node.sandbox.containers import Containers
from inferway.local.node.sandbox.forward import Forwarder
from inferway.local.node.sandbox.listening import listening_ports

# A program that has just begun will listen soon; one that serves changes its ports seldom. A look
# costs about 50 microseconds.
SCAN_EAGER_SECONDS = 0.02
SCAN_STARTING_SECONDS = 0.1
SCAN_CALM_SECONDS = 1.0
EAGER_FOR_SECONDS = 10.0
STARTING_FOR_SECONDS = 120.0


class Pause:
    """``isolation`` as in ``child.run``; ``address`` is empty where the network is the host's."""

    def __init__(self, control: socket.socket, isolation: str, address: str) -> None:
        self._control = control
        self._address = address
        self._poll = select.epoll()
        self._containers = Containers(self._poll, isolation, self._tell)
        self._forwarder = Forwarder(self._poll, lambda port: (address, port))
        self._offered: set[int] = set()
        self._expected: set[int] = set()
        self._last_start = 0.0
        self._next_scan = 0.0
        self._isolation = isolation

    def run(self) -> NoReturn:
        """Works until the node is gone or says so."""
        wake_read, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        ending: list[int] = []
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: ending.append(1))
        self._poll.register(wake_read, select.EPOLLIN)
        self._poll.register(self._control.fileno(), select.EPOLLIN)
        while not ending:
            for descriptor, events in self._poll.poll(self._patience()):
                if descriptor == wake_read:
                    os.read(wake_read, 4096)
                    if self._containers.reap():
                        self._next_scan = 0.0
                elif descriptor == self._control.fileno():
                    if not self._obey():
                        ending.append(1)
                        break
                elif not self._forwarder.handle(descriptor, events):
                    self._containers.handle(descriptor)
            self._scan()
        self._containers.kill_all()
        # Where there is a PID namespace this process is its first, and all others end with it.
        os._exit(0)

    def _tell(self, message: tuple[Any, ...]) -> None:
        try:
            self._control.setblocking(True)
            messages.send(self._control, message)
        except OSError:
            # The node is gone; the loop sees it at the same socket.
            pass

    def _obey(self) -> bool:
        try:
            received = messages.receive(self._control)
        except OSError:
            return False
        if received is None:
            return False
        (verb, *words), descriptors = received
        if verb == "start":
            self._expected.update(words[1]["ports"])
            self._containers.start(words[0], words[1])
            self._last_start = time.monotonic()
            self._next_scan = 0.0
        elif verb == "exec":
            self._containers.execute(words[0], words[1], words[2])
        elif verb == "signal":
            self._containers.signal(words[0], words[1])
        elif verb == "listen":
            self._forwarder.listen(socket.socket(fileno=descriptors[0]), words[0])
        elif verb == "end":
            return False
        return True

    def _patience(self) -> float:
        if not self._address:
            return -1.0
        return max(0.0, self._next_scan - time.monotonic())

    def _scan(self) -> None:
        """Looks for ports that programs opened or closed."""
        now = time.monotonic()
        if not self._address or now < self._next_scan:
            return
        ports = listening_ports(self._address)
        for port in self._offered - ports:
            self._forwarder.unlisten(port)
        if ports != self._offered:
            self._offered = ports
            self._tell(("ports", sorted(ports)))
        self._next_scan = now + self._scan_pause(now - self._last_start)

    def _scan_pause(self, age: float) -> float:
        if self._expected <= self._offered and age > 1.0:
            return SCAN_CALM_SECONDS
        if age < EAGER_FOR_SECONDS:
            return SCAN_EAGER_SECONDS
        return SCAN_STARTING_SECONDS if age < STARTING_FOR_SECONDS else SCAN_CALM_SECONDS
