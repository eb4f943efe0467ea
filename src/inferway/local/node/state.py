"""What the node remembers on disk of running Pods, so that a next start can end leftovers.

One small file for each Pod: the pid of its pause process and that process's start time, which
together name one process for ever.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

import msgspec


class PodRecord(msgspec.Struct, frozen=True):
    """A pause process. ``start_time`` is field 22 of /proc/PID/stat."""

    uid: str
    pid: int
    start_time: str

    @classmethod
    def of(cls, uid: str, pid: int) -> PodRecord:
        return cls(uid, pid, start_time(pid))


def start_time(pid: int) -> str:
    """Empty if there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]


@dataclass(frozen=True, slots=True)
class PodRecords:
    """Records in a folder."""

    folder: Path

    def put(self, record: PodRecord) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / record.uid).write_bytes(msgspec.json.encode(record))

    def remove(self, uid: str) -> None:
        (self.folder / uid).unlink(missing_ok=True)

    def end_leftovers(self) -> int:
        """Kills the processes of an earlier node with all that they started; says how many."""
        count = 0
        for path in sorted(self.folder.glob("*")) if self.folder.is_dir() else ():
            with contextlib.suppress(OSError, msgspec.MsgspecError):
                record = msgspec.json.decode(path.read_bytes(), type=PodRecord)
                if record.start_time and start_time(record.pid) == record.start_time:
                    _kill_tree(record.pid)
                    count += 1
            path.unlink(missing_ok=True)
        return count


def _kill_tree(pid: int) -> None:
    # Stopped first, so that nothing is forked while the tree is read.
    tree = [pid, *_descendants(pid)]
    for number in tree:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(number, signal.SIGKILL)


def _descendants(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.name))
    found: list[int] = []
    waiting = [pid]
    while waiting:
        own = children.get(waiting.pop(), [])
        found += own
        waiting += own
    return found


def clear_logs(state: Path, uids: set[str]) -> None:
    """Logs of Pods that are gone."""
    logs = state / "logs"
    for folder in logs.iterdir() if logs.is_dir() else ():
        if folder.name.rpartition("_")[2] not in uids:
            shutil.rmtree(folder, ignore_errors=True)


def clear_folders(state: Path, memory: Path, prefix: str) -> None:
    """Volumes of an earlier life; emptyDir does not outlive its Pod's processes here."""
    shutil.rmtree(state / "pods", ignore_errors=True)
    with contextlib.suppress(OSError):
        for entry in memory.glob(f"{prefix}*"):
            shutil.rmtree(entry, ignore_errors=True)
