"""A container's view of files: the host's top-level folders, with volumes at their mount paths.

The new root is a tmpfs into which each top-level entry of the host is bound; where a mount path
does not exist on the host, its nearest existing parent is replaced by a tmpfs with the same
entries, so nothing is ever created on the host. Knows mounts only.
"""

from __future__ import annotations

# pathlib would cost the launcher 10 ms of its start.
# ruff: noqa: PTH102, PTH106, PTH112, PTH115, PTH118, PTH208, PTH211
import os
import stat

from inferway.local.node.sandbox import kernel

# A folder with more entries is a data folder, and a mount path below it should exist there.
SHADOWED_ENTRIES_MAX = 4096
SYMLINKS_MAX = 40
# Any folder that every machine has: the tmpfs stands on it only until it is the root.
_START = "/tmp"  # noqa: S108
_HOST = "/.host"

Mount = tuple[str, str, bool]
"""Source folder or file on the host (a real path), path in the container, read-only."""


def enter(mounts: list[Mount], *, fresh_proc: bool) -> None:
    """Gives the calling process its own mount namespace and root. Raises OSError."""
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_SLAVE)
    kernel.mount("tmpfs", _START, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=755")
    os.chdir(_START)
    os.mkdir(_HOST[1:])
    kernel.pivot_root(".", _HOST[1:])
    os.chdir("/")
    _fill(_HOST, "/", skip=("proc",) if fresh_proc else ())
    if fresh_proc:
        os.mkdir("/proc")
        kernel.mount("proc", "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV)
    placer = _Placer()
    # Parents come before what is mounted inside of them.
    for source, target, read_only in sorted(mounts, key=lambda mount: mount[1].count("/")):
        placer.place(_HOST + source, target, read_only)
    kernel.unmount_lazily(_HOST)
    os.rmdir(_HOST)


def _fill(source: str, target: str, skip: tuple[str, ...] = ()) -> None:
    """Shows each entry of one folder in another, empty one."""
    entries = os.listdir(source)
    if len(entries) > SHADOWED_ENTRIES_MAX:
        raise OSError(f"{target} has {len(entries)} entries, too many to stand in for")
    for name in entries:
        if name in skip:
            continue
        old, new = os.path.join(source, name), os.path.join(target, name)
        try:
            mode = os.lstat(old).st_mode
            if stat.S_ISLNK(mode):
                os.symlink(os.readlink(old), new)
                continue
            if stat.S_ISDIR(mode):
                os.mkdir(new)
            else:
                os.close(os.open(new, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
            kernel.bind(old, new)
        except OSError:
            # An entry that vanished, or that this user may not bind, is simply not there.
            continue


class _Placer:
    """Binds volumes; remembers which folders are its own and may get new entries."""

    def __init__(self) -> None:
        self._own = {"/"}

    def place(self, source: str, target: str, read_only: bool) -> None:
        is_folder = os.path.isdir(source)
        place = self._make(target, is_folder)
        kernel.bind(source, place)
        self._own = {path for path in self._own if not path.startswith(place + "/")} - {place}
        if read_only:
            _make_read_only(place)

    def _make(self, target: str, is_folder: bool) -> str:
        """The real path of a mount point, which exists afterwards."""
        names = _names(target)
        place = ""
        links = 0
        while names:
            name = names.pop(0)
            if name == "..":
                place = place.rpartition("/")[0]
                continue
            path = f"{place}/{name}"
            try:
                mode = os.lstat(path).st_mode
            except FileNotFoundError:
                self._create(place or "/", path, folder=bool(names) or is_folder)
                place = path
                continue
            if not stat.S_ISLNK(mode):
                place = path
                continue
            links += 1
            if links > SYMLINKS_MAX:
                raise OSError(f"{target}: too many levels of symbolic links")
            link = os.readlink(path)
            names = _names(link) + names
            place = "" if link.startswith("/") else place
        return place or "/"

    def _create(self, parent: str, path: str, *, folder: bool) -> None:
        """Makes an entry; a parent that is the host's own is replaced by a stand-in first."""
        if parent not in self._own:
            host = os.open(parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            kernel.mount("tmpfs", parent, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=755")
            _fill(f"/proc/self/fd/{host}", parent)
            os.close(host)
            self._own.add(parent)
        if folder:
            os.mkdir(path)
            self._own.add(path)
        else:
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))


def _names(path: str) -> list[str]:
    return [name for name in path.split("/") if name not in {"", "."}]


def _make_read_only(place: str) -> None:
    flags = kernel.MS_BIND | kernel.MS_REMOUNT | kernel.MS_RDONLY
    # Flags that the mount came with are locked in a user namespace and must be repeated.
    current = os.statvfs(place).f_flag
    kept = current & (kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
    kernel.mount("none", place, "", flags | kept)
