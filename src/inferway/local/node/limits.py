"""Memory and CPU limits by control groups, where this user may make them.

Only cgroup v2 with a writable, delegated group is used. Elsewhere limits are not enforced, and the
Node says so in its annotation ``inferway.dev/limits``. Knows the cgroup file system only.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from inferway.api.pods import Container
from inferway.base import quantities

ROOT = Path("/sys/fs/cgroup")
CPU_PERIOD_MICROSECONDS = 100_000
# The kernel refuses smaller quotas.
CPU_QUOTA_MICROSECONDS_MIN = 1_000
_NEEDED = ("cpu", "memory")


@dataclass(frozen=True, slots=True)
class Limits:
    """``folder`` is the node's own group; None with a ``reason`` where there is none."""

    folder: Path | None
    reason: str = ""

    @property
    def annotation(self) -> str:
        return "cgroup" if self.folder is not None else f"none: {self.reason}"

    def group(self, uid: str, container: Container) -> str:
        """A group with the container's limits; its ``cgroup.procs``, empty without limits."""
        limits = container.resources.limits
        if self.folder is None or not {"cpu", "memory"} & set(limits):
            return ""
        group = self.folder / f"pod-{uid}" / container.name
        try:
            parent = group.parent
            parent.mkdir(exist_ok=True)
            (parent / "cgroup.subtree_control").write_text("+cpu +memory")
            group.mkdir(exist_ok=True)
            for name, value in limit_files(container).items():
                (group / name).write_text(value)
        except OSError:
            return ""
        return str(group / "cgroup.procs")

    def was_out_of_memory(self, uid: str, container: str) -> bool:
        """The kernel has killed in this container's group."""
        if self.folder is None:
            return False
        try:
            text = (self.folder / f"pod-{uid}" / container / "memory.events").read_text()
        except OSError:
            return False
        counts = dict(line.split() for line in text.splitlines() if len(line.split()) == 2)
        return int(counts.get("oom_kill", "0")) > 0

    def remove(self, uid: str) -> None:
        """Takes a Pod's groups away; a group is a folder without files of its own."""
        if self.folder is None:
            return
        parent = self.folder / f"pod-{uid}"
        with contextlib.suppress(OSError):
            for group in [entry for entry in parent.iterdir() if entry.is_dir()]:
                group.rmdir()
            parent.rmdir()

    def close(self) -> None:
        """Takes the node's own group away when it ends."""
        if self.folder is not None:
            with contextlib.suppress(OSError):
                self.folder.rmdir()


def limit_files(container: Container) -> dict[str, str]:
    """What to write into a group for the limits of a container."""
    limits = container.resources.limits
    found = {}
    if "memory" in limits:
        found["memory.max"] = str(int(quantities.parse(limits["memory"])))
        found["memory.oom.group"] = "1"
    if "cpu" in limits:
        quota = int(quantities.parse(limits["cpu"]) * CPU_PERIOD_MICROSECONDS)
        found["cpu.max"] = f"{max(quota, CPU_QUOTA_MICROSECONDS_MIN)} {CPU_PERIOD_MICROSECONDS}"
    return found


def detect_limits(root: Path = ROOT, own: Path = Path("/proc/self/cgroup")) -> Limits:
    """Tries to make the node's own group beside the group that this process is in."""
    if not (root / "cgroup.controllers").exists():
        return Limits(None, "this machine has no cgroup v2 at /sys/fs/cgroup")
    try:
        lines = own.read_text().splitlines()
        path = next(line.partition("::")[2] for line in lines if line.startswith("0::"))
        parent = (root / path.lstrip("/")).parent if path != "/" else root
        offered = (parent / "cgroup.subtree_control").read_text().split()
        if not set(_NEEDED) <= set(offered):
            return Limits(None, "cpu and memory are not delegated to this user's groups")
        folder = parent / f"inferway-{os.getpid()}"
        folder.mkdir(exist_ok=True)
        (folder / "cgroup.subtree_control").write_text("+cpu +memory")
    except (OSError, StopIteration) as error:
        return Limits(None, f"no group can be made: {error}")
    return Limits(folder)
