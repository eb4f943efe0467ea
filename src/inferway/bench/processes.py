"""CPU time and kinship of processes, from /proc.

Knows Linux's stat files; starts and ends nothing but what it is given.
"""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

PROC = Path("/proc")
STOP_SECONDS_MAX = 20.0


def stat_fields(pid: int) -> list[str] | None:
    """Fields of /proc/PID/stat from the third one (state) on; None when the process is gone.

    The second field, the name in brackets, may hold blanks and brackets and is left out.
    """
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()


def cpu_seconds(pid: int) -> float:
    """User and system time of a process with all its threads; 0 when it is gone."""
    fields = stat_fields(pid)
    if fields is None:
        return 0.0
    # utime and stime are fields 14 and 15 of the whole line.
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def command(pid: int) -> list[str]:
    """The words a process was started with; nothing when it is gone."""
    try:
        raw = (PROC / str(pid) / "cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [word.decode(errors="replace") for word in raw.split(b"\0") if word]


def descendants(root: int) -> list[int]:
    """A process and everything it has started, directly or not."""
    children: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            fields = stat_fields(int(entry.name))
            if fields is not None:
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def part_of(words: list[str]) -> str:
    """Which part of Inferway a process is, by the words it was started with."""
    if words and Path(words[0]).name.startswith("envoy"):
        return "envoy"
    for name in ("picker", "gateway-controller"):
        if name in words:
            return name
    return "cluster"


def by_part(pids: Iterable[int]) -> dict[str, list[int]]:
    """Processes grouped by part; what no part claims is the local cluster itself."""
    groups: dict[str, list[int]] = {}
    for pid in pids:
        groups.setdefault(part_of(command(pid)), []).append(pid)
    return groups


def cpu_of(groups: Mapping[str, Iterable[int]]) -> dict[str, float]:
    """CPU seconds so far of each group."""
    return {name: sum(map(cpu_seconds, pids)) for name, pids in groups.items()}


def stop(process: subprocess.Popen[str]) -> None:
    """Ends a process that this program started: kindly, then for sure."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(timeout=STOP_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    model = platform.machine()
    for line in (PROC / "cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
