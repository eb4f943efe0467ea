"""Which ports the programs of a network namespace listen on, as the kernel tells it.

Asked through a sock_diag socket, which walks listeners only (0.1 ms); /proc/net/tcp walks the whole
table of connections (8 ms) and is read where the kernel has no such socket.
"""

from __future__ import annotations

# pathlib would cost the launcher 10 ms of its start.
# ruff: noqa: PTH123
import socket
import struct

# linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h, net/tcp_states.h.
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST_DUMP = 0x301
_ERROR, _DONE = 2, 3
_TCP_LISTEN = 10
_HEAD = struct.Struct("=IHHII")
# Family, protocol, extensions, padding, states; the socket's identity stays empty.
_QUESTION = struct.Struct("=BBBxI48x")
# Behind the head: family, state, timer, retransmits, and then the identity.
_PORT = struct.Struct("!4xH")
_ADDRESS_AT = 8
_ANSWER_BYTES = 64 * 1024
# The kernel answers at once; a scan that waits would hold up the Pod's connections.
_ANSWER_SECONDS = 1.0
_MAPPED = b"\0" * 10 + b"\xff\xff"
# 0A is TCP_LISTEN in /proc/net/tcp.
_LISTEN = "0A"


def listening_ports(address: str) -> set[int]:
    """Ports that programs of this namespace offer to others: at every address, or at this one.

    As in a cluster a program that listens on 127.0.0.1 is its Pod's own business.
    """
    try:
        return offered(_asked(), address)
    except (OSError, struct.error):
        return read_ports(address)


def offered(listeners: list[tuple[int, bytes]], address: str) -> set[int]:
    """The ports of those (port, 4 or 16 bytes of address) that others reach."""
    own = socket.inet_aton(address)
    outside = {bytes(4), bytes(16), own, _MAPPED + own, _MAPPED + bytes(4)}
    return {port for port, host in listeners if host in outside}


def _asked() -> list[tuple[int, bytes]]:
    """Port and address of each listener. Raises OSError, struct.error."""
    found: list[tuple[int, bytes]] = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(_ANSWER_SECONDS)
        for family, size in ((socket.AF_INET, 4), (socket.AF_INET6, 16)):
            question = _QUESTION.pack(family, socket.IPPROTO_TCP, 0, 1 << _TCP_LISTEN)
            head = _HEAD.pack(_HEAD.size + len(question), _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 1, 0)
            kernel.send(head + question)
            while not take(kernel.recv(_ANSWER_BYTES), size, found):
                pass
    return found


def take(answer: bytes, address_bytes: int, found: list[tuple[int, bytes]]) -> bool:
    """Adds the listeners of one datagram; True after the last one. Raises OSError, struct.error."""
    at = 0
    while at < len(answer):
        length, kind, _, _, _ = _HEAD.unpack_from(answer, at)
        if kind == _DONE:
            return True
        if kind == _ERROR or length < _HEAD.size:
            raise OSError("the kernel does not tell of sockets this way")
        (port,) = _PORT.unpack_from(answer, at + _HEAD.size)
        begin = at + _HEAD.size + _ADDRESS_AT
        found.append((port, answer[begin : begin + address_bytes]))
        at += (length + 3) & ~3
    return False


def read_ports(address: str, folder: str = "/proc/self/net") -> set[int]:
    """The same out of the kernel's tables as text."""
    found: list[tuple[int, bytes]] = []
    for name in ("tcp", "tcp6"):
        try:
            with open(f"{folder}/{name}") as file:
                lines = file.readlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split(None, 4)
            if fields[3] != _LISTEN:
                continue
            host, _, port = fields[1].partition(":")
            # Each four bytes are a number in the machine's own order.
            words = [bytes.fromhex(host[at : at + 8])[::-1] for at in range(0, len(host), 8)]
            found.append((int(port, 16), b"".join(words)))
    return offered(found, address)
