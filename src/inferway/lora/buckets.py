"""Reads S3 and Google Cloud Storage through fsspec, which is an optional dependency.

Credentials come from the environment, as those libraries take them. Blocking; runs in a thread.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Protocol
from urllib.parse import urlsplit

from inferway.lora.reasons import Reason
from inferway.lora.source import is_archive
from inferway.lora.unpack import DEPTH_MAX, MEMBERS_MAX, PIECE_BYTES, ArchiveError, Limits, Stopped


class BucketError(Exception):
    """What went wrong, in words, and its reason."""

    def __init__(self, reason: Reason, what: str) -> None:
        self.reason = reason
        super().__init__(what)


class Bucket(Protocol):
    """What is used of an fsspec file system."""

    def find(self, path: str) -> Any:
        """Paths of all objects under a path."""
        ...

    def open(self, path: str, mode: str) -> IO[bytes]: ...


def open_bucket(scheme: str) -> Bucket:
    """fsspec's file system of a scheme. Raises BucketError."""
    try:
        fsspec = importlib.import_module("fsspec")
        bucket: Bucket = fsspec.filesystem(scheme)
    except ImportError as error:
        what = f"{scheme}:// needs more libraries: {error}"
        raise BucketError(Reason.EXTRA_NOT_INSTALLED, what) from None
    except Exception as error:  # The libraries' trees of errors have nothing in common.
        raise BucketError(Reason.FETCH_FAILED, f"{scheme}://: {_words(error)}") from None
    return bucket


def copy(source: str, target: Path, opener: Callable[[str], Bucket], limits: Limits) -> None:
    """Copies an archive to the file ``target``, or a folder into the folder ``target``.

    Raises BucketError, ArchiveError for what is too large, Stopped, and OSError of the disk.
    """
    parts = urlsplit(source)
    bucket = opener(parts.scheme.lower())
    root = f"{parts.netloc}{parts.path}".rstrip("/")
    if is_archive(source):
        _copy_file(bucket, root, target, limits, 0)
        return
    names = _names(bucket, root, source)
    size = 0
    for name in names:
        inner = name.removeprefix(root).strip("/")
        steps = inner.split("/")
        if ".." in steps or "" in steps or "\0" in inner or len(steps) > DEPTH_MAX:
            raise ArchiveError(f"the name {inner!r} leads outside")
        path = target.joinpath(*steps)
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        size = _copy_file(bucket, name, path, limits, size)


def _names(bucket: Bucket, root: str, source: str) -> list[str]:
    try:
        names = [str(name) for name in bucket.find(root)]
    except FileNotFoundError:
        names = []
    except Exception as error:  # The libraries' trees of errors have nothing in common.
        raise BucketError(Reason.FETCH_FAILED, f"{source}: {_words(error)}") from None
    names = [name for name in names if name.startswith(root + "/") and not name.endswith("/")]
    if not names:
        raise BucketError(Reason.SOURCE_NOT_FOUND, f"there is nothing at {source}")
    if len(names) > MEMBERS_MAX:
        raise ArchiveError(f"it has more than {MEMBERS_MAX} members")
    return sorted(names)


def _copy_file(bucket: Bucket, name: str, target: Path, limits: Limits, size: int) -> int:
    """Copies one object; ``size`` plus its bytes."""
    try:
        content = bucket.open(name, "rb")
    except FileNotFoundError:
        raise BucketError(Reason.SOURCE_NOT_FOUND, f"there is nothing at {name}") from None
    except Exception as error:  # The libraries' trees of errors have nothing in common.
        raise BucketError(Reason.FETCH_FAILED, f"{name}: {_words(error)}") from None
    with content, target.open("xb") as file:
        while True:
            try:
                piece = content.read(PIECE_BYTES)
            except Exception as error:  # As above.
                raise BucketError(Reason.FETCH_FAILED, f"{name}: {_words(error)}") from None
            if not piece:
                return size
            size += len(piece)
            if size > limits.bytes_max:
                raise ArchiveError(f"it has more than {limits.bytes_max} bytes")
            if limits.stopped():
                raise Stopped
            file.write(piece)


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
