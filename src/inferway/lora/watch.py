"""Notices that a mounted configuration file has changed.

The kubelet swaps a symlink (``..data``) when a ConfigMap changes, so the file behind the path
becomes another one. A regular ``stat`` sees that on every file system, which inotify does not.
"""

from __future__ import annotations

import os
from pathlib import Path

# Two stats a second cost nothing and keep a change well under the kubelet's own delay.
WATCH_SECONDS = 0.5

Signature = tuple[int, int, int, int]


def signature(path: Path) -> Signature | None:
    """Identifies the content behind a path, through symlinks; None where there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116 - one call, no object per look
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size
