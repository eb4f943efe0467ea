"""Unpacks an archive from a stranger into an empty folder.

Takes plain files and folders whose names stay inside, and refuses the archive for anything else:
links, devices, names that lead outside, a name twice, more bytes or members than allowed. What an
archive says of its sizes is not trusted; bytes are counted as they come. Blocking; runs in a
thread and looks at ``stopped`` between pieces.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, cast

import msgspec

# An adapter has a handful of files; repositories carry some checkpoints as well.
MEMBERS_MAX = 10_000
# Deeper trees are no adapters.
DEPTH_MAX = 16
PIECE_BYTES = 1024 * 1024
# Of one read inside tarfile, which takes whole extended headers into memory.
HEADER_BYTES_MAX = 16 * 1024 * 1024
# The directory of a zip file is read at once: some hundred bytes for each of its members.
ZIP_DIRECTORY_BYTES_MAX = 16 * 1024 * 1024
_ZIP_END_BYTES = 22
_ZIP_COMMENT_BYTES_MAX = 65_535
_PACKED = ((b"\x1f\x8b", "gzip"), (b"BZh", "bzip2"), (b"\xfd7zXZ", "xz"))


class ArchiveError(Exception):
    """An archive that is refused, in words."""


class Stopped(Exception):  # noqa: N818 - not an error of the archive.
    """The work was called off."""


class Limits(msgspec.Struct, frozen=True):
    """``bytes_max`` bounds what is written; ``stopped`` calls the work off."""

    bytes_max: int
    stopped: Callable[[], bool]


def unpack(archive: Path, into: Path, limits: Limits) -> None:
    """Raises ArchiveError, Stopped, and OSError where the disk refuses."""
    with archive.open("rb") as file:
        start = file.read(8)
    try:
        if start.startswith(b"PK"):
            _unzip(archive, into, limits)
        else:
            _untar(archive, into, limits, start)
    except (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError) as error:
        raise ArchiveError(f"it cannot be unpacked: {error}") from None
    except (gzip.BadGzipFile, NotImplementedError, RuntimeError, ValueError) as error:
        raise ArchiveError(f"it cannot be unpacked: {error}") from None


def _untar(archive: Path, into: Path, limits: Limits, start: bytes) -> None:
    packed = next((name for magic, name in _PACKED if start.startswith(magic)), "")
    if not packed:
        _untar_plain(archive, into, limits)
        return
    plain = into.with_name(into.name + ".tar")
    try:
        _unpack_tar(archive, packed, plain, limits)
        _untar_plain(plain, into, limits)
    finally:
        plain.unlink(missing_ok=True)


def _untar_plain(archive: Path, into: Path, limits: Limits) -> None:
    writer = _Writer(into, limits)
    with archive.open("rb") as file, _tar(file) as tar:
        for member in tar:
            if member.isdir():
                writer.folder(member.name)
                continue
            if not member.isreg():
                raise ArchiveError(f"{member.name!r} is a link or a device")
            content = tar.extractfile(member)
            assert content is not None
            writer.file(member.name, content)


def _unpack_tar(archive: Path, packed: str, plain: Path, limits: Limits) -> None:
    """Makes the tar file inside a compressed one: reads of a plain file can be bounded."""
    size = 0
    with _opened(archive, packed) as packed_file, plain.open("xb") as file:
        while piece := packed_file.read(PIECE_BYTES):
            size += len(piece)
            # Headers and padding come on top of the files.
            if size > limits.bytes_max + HEADER_BYTES_MAX:
                raise ArchiveError(f"it holds more than {limits.bytes_max} bytes")
            if limits.stopped():
                raise Stopped
            file.write(piece)


def _tar(file: IO[bytes]) -> tarfile.TarFile:
    return tarfile.open(fileobj=cast(IO[bytes], _Capped(file)), mode="r:")


def _opened(archive: Path, packed: str) -> IO[bytes]:
    if packed == "gzip":
        return cast(IO[bytes], gzip.open(archive))
    return bz2.open(archive) if packed == "bzip2" else lzma.open(archive)


def _unzip(archive: Path, into: Path, limits: Limits) -> None:
    _check_zip_directory(archive)
    writer = _Writer(into, limits)
    with zipfile.ZipFile(archive) as packed:
        for member in packed.infolist():
            mode = member.external_attr >> 16
            if member.is_dir():
                writer.folder(member.filename)
            elif stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                raise ArchiveError(f"{member.filename!r} is a link or a device")
            else:
                with packed.open(member) as content:
                    writer.file(member.filename, content)


def _check_zip_directory(archive: Path) -> None:
    size = archive.stat().st_size
    with archive.open("rb") as file:
        file.seek(max(0, size - _ZIP_END_BYTES - _ZIP_COMMENT_BYTES_MAX))
        tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < _ZIP_END_BYTES:
        raise ArchiveError("it cannot be unpacked: the zip file is cut off")
    count, directory_bytes = struct.unpack_from("<HI", tail, at + 10)
    if count > MEMBERS_MAX or directory_bytes > ZIP_DIRECTORY_BYTES_MAX:
        raise ArchiveError(f"it has more than {MEMBERS_MAX} members")


class _Capped:
    """A file whose reads are bounded; what tarfile needs of one."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > HEADER_BYTES_MAX:
            raise ArchiveError("it has a header that is too long")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


class _Writer:
    """Writes members under a folder."""

    def __init__(self, into: Path, limits: Limits) -> None:
        self._into = into
        self._limits = limits
        self._members = 0
        self._bytes = 0

    def folder(self, name: str) -> None:
        self._inside(name).mkdir(mode=0o755, parents=True, exist_ok=True)

    def file(self, name: str, content: IO[bytes]) -> None:
        path = self._inside(name)
        try:
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            with path.open("xb") as file:
                while piece := content.read(PIECE_BYTES):
                    self._bytes += len(piece)
                    if self._bytes > self._limits.bytes_max:
                        raise ArchiveError(f"it holds more than {self._limits.bytes_max} bytes")
                    if self._limits.stopped():
                        raise Stopped
                    file.write(piece)
            # The server may run as another user.
            path.chmod(0o644)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            raise ArchiveError(f"{name!r} is in it twice") from None

    def _inside(self, name: str) -> Path:
        self._members += 1
        if self._members > MEMBERS_MAX:
            raise ArchiveError(f"it has more than {MEMBERS_MAX} members")
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if name.startswith("/") or ".." in parts or "\\" in name or "\0" in name:
            raise ArchiveError(f"the name {name!r} leads outside")
        if len(parts) > DEPTH_MAX or any(len(part.encode()) > 255 for part in parts):
            raise ArchiveError(f"the name {name[:80]!r} is too deep or too long")
        return self._into.joinpath(*parts)
