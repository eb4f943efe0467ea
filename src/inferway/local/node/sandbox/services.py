"""Forwards connections to the addresses of Services, in a process of its own.

The node listens and hands the sockets over: ``("listen", key)`` with a descriptor, ``("targets",
key, [(address, port), ...])``, ``("unlisten", key)``. Connections go to the targets in turn.
"""

from __future__ import annotations

import os
import select
import socket
from typing import NoReturn

from inferway.local.node.sandbox import messages
from inferway.local.node.sandbox.forward import Forwarder

Targets = list[tuple[str, int]]


class Turns:
    """Chooses targets round robin."""

    def __init__(self) -> None:
        self._targets: dict[int, Targets] = {}
        self._turn: dict[int, int] = {}

    def set(self, key: int, targets: Targets) -> None:
        self._targets[key] = targets

    def drop(self, key: int) -> None:
        self._targets.pop(key, None)
        self._turn.pop(key, None)

    def choose(self, key: int) -> tuple[str, int] | None:
        """None while there is no target."""
        targets = self._targets.get(key)
        if not targets:
            return None
        turn = self._turn.get(key, 0)
        self._turn[key] = turn + 1
        return targets[turn % len(targets)]


def run(control: socket.socket) -> NoReturn:
    """Works until the node's end of the socket is closed."""
    poll = select.epoll()
    turns = Turns()
    forwarder = Forwarder(poll, turns.choose)
    poll.register(control.fileno(), select.EPOLLIN)
    while True:
        for descriptor, events in poll.poll():
            if descriptor != control.fileno():
                forwarder.handle(descriptor, events)
                continue
            received = messages.receive(control)
            if received is None:
                os._exit(0)
            (verb, key, *words), descriptors = received
            if verb == "listen":
                forwarder.listen(socket.socket(fileno=descriptors[0]), key)
            elif verb == "targets":
                turns.set(key, words[0])
            elif verb == "unlisten":
                forwarder.unlisten(key)
                turns.drop(key)
