"""Where an adapter comes from, read out of its ``source``.

Pure: tells the kinds apart, names the folder that a fetched adapter gets, and hides what is secret
in an address. Whether a source is there is found out elsewhere.
"""

from __future__ import annotations

import hashlib
import re
from enum import StrEnum
from urllib.parse import urlsplit

import msgspec

# Endings that say that an object in a bucket, or a file, is an archive and not a folder.
ARCHIVE_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")
HTTP_SCHEMES = frozenset({"http", "https"})
BUCKET_SCHEMES = frozenset({"s3", "gs", "gcs"})
# Of a name in a folder's name: enough to recognise it, and every file system takes the whole.
_NAME_CHARACTERS_MAX = 80
# 64 bits tell the sources of one name apart.
_DIGEST_CHARACTERS = 16
_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")
_CHECKSUM = re.compile(r"^sha256:[0-9a-f]{64}\Z")


class Kind(StrEnum):
    """Who reads a source."""

    # The server itself: a Hugging Face id, or a path that only its working folder gives a meaning.
    SERVER = "server"
    # A folder at the same path in the server's file system.
    FOLDER = "folder"
    # The syncer unpacks it into its store.
    FILE = "file"
    HTTP = "http"
    BUCKET = "bucket"


FETCHED = frozenset({Kind.FILE, Kind.HTTP, Kind.BUCKET})


class Adapter(msgspec.Struct, frozen=True):
    """An adapter that must be loaded. ``checksum`` is that of its archive, or empty."""

    id: str
    source: str
    base_model: str = ""
    checksum: str = ""

    @property
    def kind(self) -> Kind:
        return kind_of(self.source)


def kind_of(source: str) -> Kind:
    """Raises ValueError, in words, for an address of a scheme that nobody here reads."""
    found = _SCHEME.match(source)
    if found is None:
        if not source.startswith(("/", "~")):
            return Kind.SERVER
        return Kind.FILE if is_archive(source) else Kind.FOLDER
    scheme = found.group(1).lower()
    if scheme == "file":
        return Kind.FILE if is_archive(source) else Kind.FOLDER
    if scheme in HTTP_SCHEMES:
        return Kind.HTTP
    if scheme in BUCKET_SCHEMES:
        return Kind.BUCKET
    if scheme == "hf":
        return Kind.SERVER
    known = ", ".join(sorted(HTTP_SCHEMES | BUCKET_SCHEMES | {"file", "hf"}))
    raise ValueError(f"{scheme}:// is not among {known}")


def is_archive(source: str) -> bool:
    """Whether a path or address ends as archives do."""
    return source.lower().endswith(ARCHIVE_ENDINGS)


def plain_path(source: str) -> str:
    """The path in a path or a file:// address, the id in an hf:// address."""
    for prefix in ("file://", "hf://"):
        if source.lower().startswith(prefix):
            return source[len(prefix) :]
    return source


def problem_with_checksum(source: str, checksum: str) -> str:
    """What is wrong with a checksum of this source; empty if nothing is."""
    if not checksum:
        return ""
    if not _CHECKSUM.match(checksum):
        return "must be sha256: and 64 hexadecimal digits"
    kind = kind_of(source)
    if kind in (Kind.SERVER, Kind.FOLDER) or (kind is Kind.BUCKET and not is_archive(source)):
        return "is for archives; this source is none"
    return ""


def served_path(adapter: Adapter, store: str) -> str:
    """What the server is told to load, and reports as the adapter's root.

    A fetched adapter has a folder of its own for each source and checksum: a server keeps reading
    the folder of an adapter that it has listed, so one that is in use is never written to.
    """
    if adapter.kind not in FETCHED:
        return plain_path(adapter.source)
    digest = hashlib.sha256(f"{adapter.id}\0{adapter.source}\0{adapter.checksum}".encode())
    name = re.sub(r"[^A-Za-z0-9_-]", "_", adapter.id)[:_NAME_CHARACTERS_MAX]
    return f"{store}/{name}-{digest.hexdigest()[:_DIGEST_CHARACTERS]}"


def shown(source: str) -> str:
    """A source for logs: without user, password and query, which signed addresses have."""
    if not _SCHEME.match(source):
        return source
    try:
        parts = urlsplit(source)
    except ValueError:
        return source.split("?", 1)[0]
    query = "?..." if parts.query else ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}{query}"
