"""The Linux calls that Python 3.11's standard library does not have, each raising OSError."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MNT_DETACH = 2

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NAME = 15

_SIOCSIFFLAGS = 0x8914
_IFF_UP_AND_RUNNING = 0x1 | 0x40

_LIBC = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """Moves the caller into new namespaces."""
    _checked(_LIBC.unshare(flags), "unshare")


def setns(descriptor: int, kind: int) -> None:
    """Moves the caller into the namespace behind an open /proc/PID/ns file."""
    _checked(_LIBC.setns(descriptor, kind), "setns")


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    """mount(2)."""
    result = _LIBC.mount(
        os.fsencode(source),
        os.fsencode(target),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        data.encode() if data else None,
    )
    _checked(result, f"mount {target}")


def bind(source: str, target: str, *, recursive: bool = True) -> None:
    """Shows ``source`` at ``target`` too."""
    mount(source, target, "", MS_BIND | (MS_REC if recursive else 0))


def unmount_lazily(target: str) -> None:
    """Takes a mount out of the tree; what is open stays open."""
    _checked(_LIBC.umount2(os.fsencode(target), MNT_DETACH), f"umount {target}")


def pivot_root(new: str, old: str) -> None:
    """Makes ``new`` the root of the caller's mount namespace."""
    _checked(_LIBC.pivot_root(os.fsencode(new), os.fsencode(old)), "pivot_root")


def die_with_parent(number: int) -> None:
    """Asks for a signal when the parent ends."""
    _checked(_LIBC.prctl(PR_SET_PDEATHSIG, number, 0, 0, 0), "prctl PR_SET_PDEATHSIG")


def adopt_orphans() -> None:
    """Makes the caller the parent of its descendants whose own parent ends."""
    _checked(_LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl PR_SET_CHILD_SUBREAPER")


def name_process(name: str) -> None:
    """What ``ps`` shows; at most 15 bytes count."""
    _LIBC.prctl(PR_SET_NAME, name.encode()[:15], 0, 0, 0)


def set_host_name(name: str) -> None:
    """Names the machine as this UTS namespace sees it."""
    encoded = name.encode()
    _checked(_LIBC.sethostname(encoded, len(encoded)), "sethostname")


def loopback_up() -> None:
    """Starts ``lo`` in a fresh network namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sH14s", b"lo", _IFF_UP_AND_RUNNING, b"")
        fcntl.ioctl(control, _SIOCSIFFLAGS, request)
