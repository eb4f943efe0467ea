"""The SQLite file: rows in, rows out.

Knows its tables and what a damaged file looks like. Durability: WAL with synchronous=NORMAL, so a
committed transaction survives the death of the process (kill -9) but the last ones before a power
cut may be lost; the file stays consistent. Raises InferwayError INFERWAY0150, 0151 and 0152, and
WriteFailedError where the disk takes no more.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from inferway.base.errors import InferwayError
from inferway.local.apiserver.storage.values import WriteFailedError

FORMAT_VERSION = 1
# WAL pages before SQLite copies them into the main file; 1000 pages are about 4 MB.
CHECKPOINT_PAGES = 1000

_SCHEMA = """
CREATE TABLE objects (
  resource TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
  revision INTEGER NOT NULL, body BLOB NOT NULL,
  PRIMARY KEY (resource, namespace, name)
) WITHOUT ROWID;
CREATE TABLE log (
  revision INTEGER PRIMARY KEY, type TEXT NOT NULL,
  resource TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
  body BLOB NOT NULL, previous BLOB NOT NULL
);
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO counters VALUES ('revision', 0), ('compacted', 0);
"""


@dataclass(frozen=True, slots=True)
class ObjectRow:
    """A row of ``objects``."""

    resource: str
    namespace: str
    name: str
    revision: int
    body: bytes


@dataclass(frozen=True, slots=True)
class LogRow:
    """A row of ``log``; ``previous`` is the JSON of the index before the change, or empty."""

    revision: int
    type: str
    resource: str
    namespace: str
    name: str
    body: bytes
    previous: bytes


class Database:
    """One open state file, held by this process alone."""

    def __init__(self, file: Path) -> None:
        self._file = file
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = _lock(file.with_suffix(".lock"))
        try:
            self._connection = self._open()
        except BaseException:
            os.close(self._lock)
            raise

    def _open(self) -> sqlite3.Connection:
        with self._damage_explained():
            # Secrets are in there; the files that SQLite puts beside it get the same mode.
            os.close(os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            connection = sqlite3.connect(self._file, isolation_level=None)
            try:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=NORMAL")
                connection.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                if version == 0:
                    # The version is written with the tables, so a half-made file is never seen.
                    connection.executescript(
                        f"BEGIN;{_SCHEMA}PRAGMA user_version={FORMAT_VERSION};COMMIT;"
                    )
                elif version != FORMAT_VERSION:
                    raise InferwayError(
                        "INFERWAY0151",
                        f"the API server's state has format {version}, "
                        f"this version reads {FORMAT_VERSION}",
                        about=str(self._file),
                        fix="Use the version of Inferway that wrote it, or another --state folder.",
                    )
                (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
                if verdict != "ok":
                    raise sqlite3.DatabaseError(verdict)
            except BaseException:
                connection.close()
                raise
            return connection

    @contextmanager
    def _damage_explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.DatabaseError, OSError) as error:
            raise damaged(self._file, str(error)) from None

    @property
    def file(self) -> Path:
        return self._file

    def counters(self) -> dict[str, int]:
        with self._damage_explained():
            return dict(self._connection.execute("SELECT name, value FROM counters"))

    def objects(self) -> list[ObjectRow]:
        with self._damage_explained():
            rows = self._connection.execute(
                "SELECT resource, namespace, name, revision, body FROM objects"
            )
            return [ObjectRow(*row) for row in rows]

    def log(self) -> list[LogRow]:
        with self._damage_explained():
            rows = self._connection.execute(
                "SELECT revision, type, resource, namespace, name, body, previous "
                "FROM log ORDER BY revision"
            )
            return [LogRow(*row) for row in rows]

    def record(self, row: LogRow) -> None:
        """Commits one change: its log row, the object and the counter."""
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO log VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    row.revision,
                    row.type,
                    row.resource,
                    row.namespace,
                    row.name,
                    row.body,
                    row.previous,
                ),
            )
            key = (row.resource, row.namespace, row.name)
            if row.type == "DELETED":
                connection.execute(
                    "DELETE FROM objects WHERE resource=? AND namespace=? AND name=?", key
                )
            else:
                connection.execute(
                    "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?)",
                    (*key, row.revision, row.body),
                )
            connection.execute("UPDATE counters SET value=? WHERE name='revision'", (row.revision,))

    def compact(self, revision: int) -> None:
        """Forgets the log up to and including ``revision``."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM log WHERE revision<=?", (revision,))
            connection.execute("UPDATE counters SET value=? WHERE name='compacted'", (revision,))

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            yield self._connection
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            # A full disk may have rolled the transaction back already.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise WriteFailedError(str(error)) from None

    def close(self) -> None:
        self._connection.close()
        os.close(self._lock)


def damaged(file: Path, why: str) -> InferwayError:
    """The error for a state file that can not be read."""
    return InferwayError(
        "INFERWAY0150",
        f"the API server's state can not be read: {why}",
        about=str(file),
        fix=(
            "Nothing was changed. Restore the file from a copy, "
            "or move it away to begin with an empty cluster."
        ),
    )


def _lock(file: Path) -> int:
    """Holds ``file`` for as long as this process lives; the system lets go after kill -9."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.read(descriptor, 32).decode(errors="replace").strip()
        os.close(descriptor)
        raise InferwayError(
            "INFERWAY0152",
            "another API server uses this state" + (f" (process {holder})" if holder else ""),
            about=str(file.parent),
            fix="Stop it first, or choose another folder with --state.",
        ) from None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor
