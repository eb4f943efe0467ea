"""Carries connections between a Pod's address outside and its programs inside.

The node listens outside and hands the listening socket over; it stays a socket of the outside
while this process, which lives inside, accepts from it and connects to the program. Knows sockets
and one epoll object. Half-closed connections, resets and slow readers behave as on a real network.
"""

from __future__ import annotations

import errno
import select
import socket
import struct
from collections.abc import Callable

# Loopback moves at most 64 KiB in one segment, so a larger buffer is not filled.
BUFFER_BYTES = 64 * 1024
# New connections must not starve those that are open.
ACCEPTS_PER_TURN = 64
_RESET = struct.pack("ii", 1, 0)
_AGAIN = (errno.EAGAIN, errno.EINTR)
# In place of a side's events: the side is not in the epoll object.
_SILENT = -1


class _Side:
    """One end of a connection: its socket, and bytes that it did not take yet."""

    __slots__ = ("ended", "events", "other", "pending", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.other: _Side = self
        self.pending = b""
        self.ended = False
        self.events = 0


Choose = Callable[[int], "tuple[str, int] | None"]
"""Where a new connection goes, by the key of its listener; None refuses it."""


class Forwarder:
    """Many connections. The owner of the epoll object passes its events to ``handle``."""

    def __init__(self, poll: select.epoll, choose: Choose) -> None:
        self._poll = poll
        self._choose = choose
        self._listeners: dict[int, tuple[socket.socket, int]] = {}
        self._keys: dict[int, int] = {}
        self._sides: dict[int, _Side] = {}
        self._buffer = bytearray(BUFFER_BYTES)
        self._view = memoryview(self._buffer)

    @property
    def keys(self) -> set[int]:
        return set(self._keys)

    def listen(self, sock: socket.socket, key: int) -> None:
        """Begins to accept; the key is a Pod's port or a number of a Service's port."""
        sock.setblocking(False)
        if key in self._keys:
            sock.close()
            return
        self._listeners[sock.fileno()] = (sock, key)
        self._keys[key] = sock.fileno()
        self._poll.register(sock.fileno(), select.EPOLLIN)

    def unlisten(self, key: int) -> None:
        """Ends accepting; open connections live on."""
        descriptor = self._keys.pop(key, None)
        if descriptor is not None:
            sock, _ = self._listeners.pop(descriptor)
            self._poll.unregister(descriptor)
            sock.close()

    def handle(self, descriptor: int, events: int) -> bool:
        """True if the event was about one of these sockets."""
        side = self._sides.get(descriptor)
        if side is not None:
            self._move(side, events)
            return True
        listener = self._listeners.get(descriptor)
        if listener is not None:
            self._accept(*listener)
            return True
        return False

    def _accept(self, listener: socket.socket, key: int) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            try:
                outer, _ = listener.accept()
            except OSError:
                return
            target = self._choose(key)
            if target is None:
                outer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                outer.close()
                continue
            outer.setblocking(False)
            outer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                inner = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            except OSError:
                outer.close()
                return
            inner.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            code = inner.connect_ex(target)
            left, right = _Side(outer), _Side(inner)
            left.other, right.other = right, left
            self._sides[outer.fileno()] = left
            self._sides[inner.fileno()] = right
            self._poll.register(outer.fileno(), 0)
            # Writable means connected; reading of the outside begins then.
            right.events = select.EPOLLOUT
            self._poll.register(inner.fileno(), select.EPOLLOUT)
            if code not in (0, errno.EINPROGRESS):
                self._reset(left)

    def _move(self, side: _Side, events: int) -> None:
        try:
            if events & select.EPOLLERR:
                self._reset(side)
                return
            if events & select.EPOLLOUT:
                self._flush(side)
            if events & select.EPOLLHUP and side.ended:
                # Nothing more can come; the kernel would say so in every turn.
                self._poll.unregister(side.sock.fileno())
                side.events = _SILENT
            elif events & (select.EPOLLIN | select.EPOLLHUP) and side.sock.fileno() >= 0:
                self._read(side)
        except OSError:
            self._reset(side)

    def _flush(self, side: _Side) -> None:
        if side.pending:
            sent = side.sock.send(side.pending)
            side.pending = side.pending[sent:]
            if side.pending:
                return
        if side.other.ended:
            self._shut(side)
        self._watch(side)
        self._watch(side.other)

    def _read(self, side: _Side) -> None:
        other = side.other
        if other.pending or side.ended:
            self._watch(side)
            return
        try:
            count = side.sock.recv_into(self._buffer)
        except OSError as error:
            if error.errno in _AGAIN:
                return
            raise
        if count == 0:
            side.ended = True
            self._shut(other)
            self._watch(side)
            return
        try:
            sent = other.sock.send(self._view[:count])
        except OSError as error:
            if error.errno not in _AGAIN:
                raise
            sent = 0
        if sent < count:
            other.pending = bytes(self._view[sent:count])
            self._watch(side)
            self._watch(other)

    def _shut(self, side: _Side) -> None:
        """The other side has ended, so this one gets the end too."""
        if side.sock.fileno() < 0:
            return
        side.sock.shutdown(socket.SHUT_WR)
        if side.ended and not side.other.pending:
            self._close(side)

    def _watch(self, side: _Side) -> None:
        """Sets what the kernel is to report of a side."""
        if side.sock.fileno() < 0 or side.events == _SILENT:
            return
        reading = not side.ended and not side.other.pending
        wanted = (select.EPOLLIN if reading else 0) | (select.EPOLLOUT if side.pending else 0)
        if wanted != side.events:
            side.events = wanted
            self._poll.modify(side.sock.fileno(), wanted)

    def _reset(self, side: _Side) -> None:
        """Something broke: both ends see a reset, not a proper end."""
        for end in (side, side.other):
            if end.sock.fileno() >= 0:
                end.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._close(side)

    def _close(self, side: _Side) -> None:
        for end in (side, side.other):
            descriptor = end.sock.fileno()
            if descriptor >= 0:
                self._sides.pop(descriptor, None)
                if end.events != _SILENT:
                    self._poll.unregister(descriptor)
                end.sock.close()
