"""What the operating system tells about this process, for the process metrics."""

from __future__ import annotations

import resource
from pathlib import Path

_PAGE_BYTES = resource.getpagesize()


def process_values(started_wall: float) -> tuple[float, float, dict[str, float]]:
    """(CPU seconds, start time, further values); what cannot be read is left out."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    values: dict[str, float] = {
        "process_max_fds": float(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    }
    try:
        virtual, resident, *_ = Path("/proc/self/statm").read_text().split()
        values["process_virtual_memory_bytes"] = float(int(virtual) * _PAGE_BYTES)
        values["process_resident_memory_bytes"] = float(int(resident) * _PAGE_BYTES)
        values["process_open_fds"] = float(sum(1 for _ in Path("/proc/self/fd").iterdir()))
    except OSError:
        pass
    return usage.ru_utime + usage.ru_stime, started_wall, values
