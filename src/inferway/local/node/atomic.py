"""Writes a volume's files so that readers see all of the old or all of the new ones.

The kubelet's layout: the files are links into ``..data``, which is a link to a folder with a time
stamp; an update makes a new folder and swaps the link. Knows files only. Raises OSError.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from inferway.local.node.volumes import File

_DATA = "..data"


def write_files(folder: Path, files: Mapping[str, File]) -> bool:
    """Makes the folder show exactly these files; False if it does so already."""
    folder.mkdir(parents=True, exist_ok=True)
    old = _current(folder)
    if old is not None and _same(old, files):
        return False
    stamp = time.strftime("..%Y_%m_%d_%H_%M_%S", time.gmtime())
    fresh = folder / f"{stamp}.{time.time_ns() % 10**10:010d}"
    for path, file in files.items():
        place = fresh / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(file.content)
        place.chmod(file.mode)
    fresh.mkdir(exist_ok=True)
    fresh.chmod(0o755)
    link = folder / "..data_tmp"
    link.unlink(missing_ok=True)
    link.symlink_to(fresh.name)
    link.replace(folder / _DATA)
    _link_names(folder, {path.split("/", 1)[0] for path in files})
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)
    return True


def _link_names(folder: Path, names: set[str]) -> None:
    for name in names:
        visible = folder / name
        if not visible.is_symlink():
            visible.symlink_to(os.path.join(_DATA, name))  # noqa: PTH118 - a link's text.
    for entry in list(folder.iterdir()):
        if entry.is_symlink() and not entry.name.startswith("..") and entry.name not in names:
            entry.unlink()


def _current(folder: Path) -> Path | None:
    link = folder / _DATA
    if not link.is_symlink():
        return None
    target = folder / link.readlink()
    return target if target.is_dir() else None


def _same(folder: Path, files: Mapping[str, File]) -> bool:
    present = {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}
    if present != set(files):
        return False
    return all(
        (folder / path).read_bytes() == file.content
        and (folder / path).stat().st_mode & 0o7777 == file.mode
        for path, file in files.items()
    )
