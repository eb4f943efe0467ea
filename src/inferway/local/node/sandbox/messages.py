"""Messages between the node, the launcher and the pause processes.

One message is one packet of a Unix SEQPACKET socket, a tuple in ``marshal`` form (both ends are
the same interpreter), with file descriptors beside it. A large one travels in a memory file.
"""

from __future__ import annotations

import array
import marshal
import os
import socket
from typing import Any

# A packet must fit into the socket's send buffer, which is 208 KiB by default.
PACKET_BYTES_MAX = 64 * 1024
DESCRIPTORS_MAX = 8

Message = tuple[Any, ...]


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(sock: socket.socket, message: Message, descriptors: tuple[int, ...] = ()) -> None:
    """Raises OSError, BlockingIOError included when the other end does not read."""
    data = marshal.dumps(message)
    if len(data) <= PACKET_BYTES_MAX:
        _send(sock, b"p" + data, descriptors)
        return
    memory = os.memfd_create("message")
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(memory, view) :]
        _send(sock, b"m", (memory, *descriptors))
    finally:
        os.close(memory)


def _send(sock: socket.socket, data: bytes, descriptors: tuple[int, ...]) -> None:
    if not descriptors:
        sock.send(data)
        return
    rights = array.array("i", descriptors).tobytes()
    sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])


def receive(sock: socket.socket) -> tuple[Message, list[int]] | None:
    """The next message with its descriptors; None at the end. Raises OSError."""
    space = socket.CMSG_SPACE(DESCRIPTORS_MAX * 4)
    data, ancillary, _, _ = sock.recvmsg(PACKET_BYTES_MAX + 1, space, socket.MSG_CMSG_CLOEXEC)
    if not data:
        return None
    descriptors: list[int] = []
    for level, kind, rights in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers = array.array("i")
            numbers.frombytes(rights[: len(rights) - len(rights) % numbers.itemsize])
            descriptors += numbers
    if data[:1] == b"p":
        return marshal.loads(data[1:]), descriptors  # noqa: S302 - from our own process.
    memory = descriptors.pop(0)
    with os.fdopen(memory, "rb") as file:
        file.seek(0)
        return marshal.loads(file.read()), descriptors  # noqa: S302 - from our own process.
