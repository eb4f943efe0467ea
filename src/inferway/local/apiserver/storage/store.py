"""The store: current objects in memory, every change committed before it is seen.

Knows revisions, expectations of writers, and the log that watches read. One event loop uses it;
a write costs well under a millisecond, so it runs in the loop. Raises the errors of ``values``.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass
from operator import attrgetter

import msgspec

from inferway.local.apiserver.storage.database import Database, LogRow, damaged
from inferway.local.apiserver.storage.values import (
    Change,
    ChangeType,
    CompactedError,
    ExistsError,
    Index,
    IndexOf,
    Key,
    MissingError,
    Render,
    StaleError,
    Stored,
    TooLargeError,
    WriteFailedError,
)

logger = logging.getLogger(__name__)

# etcd's default limit for one request, which users of Kubernetes know.
OBJECT_BYTES_MAX = 1_572_864
# Some minutes of a busy local cluster; a watcher that is further behind lists again.
LOG_REVISIONS_MAX = 10_000
# Bounds memory when the objects are large: the log holds every state of an object.
LOG_BYTES_MAX = 64 * 1024 * 1024
# The log is cut in batches, so that compaction does not run with every write.
LOG_CUT_FRACTION = 0.25


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """How much the store takes and remembers."""

    object_bytes_max: int = OBJECT_BYTES_MAX
    log_revisions_max: int = LOG_REVISIONS_MAX
    log_bytes_max: int = LOG_BYTES_MAX


class Store:
    """All objects of one cluster."""

    def __init__(
        self, database: Database, index_of: IndexOf, limits: StoreLimits | None = None
    ) -> None:
        self._database = database
        self._index_of = index_of
        self._limits = limits or StoreLimits()
        self._objects: dict[str, dict[tuple[str, str], Stored]] = defaultdict(dict)
        self._logs: dict[str, list[Change]] = defaultdict(list)
        self._log_revisions: list[tuple[int, int]] = []
        self._log_bytes = 0
        self._changed: dict[str, asyncio.Event] = {}
        try:
            self._load()
        except (msgspec.MsgspecError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise damaged(database.file, f"{type(error).__name__}: {error}") from None

    def _load(self) -> None:
        counters = self._database.counters()
        self._revision = counters["revision"]
        self._compacted = counters["compacted"]
        for row in self._database.objects():
            key = Key(row.resource, row.namespace, row.name)
            self._objects[key.resource][key.namespace, key.name] = self._stored(
                key, row.revision, row.body
            )
        for entry in self._database.log():
            key = Key(entry.resource, entry.namespace, entry.name)
            stored = self._stored(key, entry.revision, entry.body)
            previous = None
            if entry.previous:
                index = Index(*msgspec.json.decode(entry.previous))
                previous = Stored(key, 0, b"", index)
            self._append(Change(ChangeType(entry.type), stored, previous))

    def _stored(self, key: Key, revision: int, body: bytes) -> Stored:
        return Stored(key, revision, body, self._index_of(key.resource, msgspec.json.decode(body)))

    @property
    def revision(self) -> int:
        """The revision of the latest change."""
        return self._revision

    @property
    def compacted(self) -> int:
        """Changes up to this revision have left the log."""
        return self._compacted

    def get(self, key: Key) -> Stored | None:
        return self._objects[key.resource].get((key.namespace, key.name))

    def objects(self, resource: str, namespace: str = "") -> list[Stored]:
        """The objects of a resource, by namespace and name; of all namespaces if none is named."""
        objects = self._objects[resource]
        keys = sorted(key for key in objects if not namespace or key[0] == namespace)
        return [objects[key] for key in keys]

    def objects_at(self, resource: str, namespace: str, revision: int) -> list[Stored]:
        """The objects as they were at a revision. Raises CompactedError."""
        state = {(s.key.namespace, s.key.name): s for s in self.objects(resource, namespace)}
        for change in reversed(self.changes_since(resource, revision)):
            key = change.stored.key
            if namespace and key.namespace != namespace:
                continue
            if change.previous is None:
                state.pop((key.namespace, key.name), None)
            elif not change.previous.body:
                raise CompactedError(revision, self._revision)
            else:
                state[key.namespace, key.name] = change.previous
        return [state[key] for key in sorted(state)]

    def resources(self) -> list[str]:
        """Resources that have objects."""
        return [resource for resource, objects in self._objects.items() if objects]

    def create(self, key: Key, render: Render) -> Stored:
        """Stores a new object. Raises ExistsError and TooLargeError."""
        if self.get(key) is not None:
            raise ExistsError(key)
        return self._write(ChangeType.ADDED, key, render, None)

    def update(self, key: Key, render: Render, expected: int | None = None) -> Stored:
        """Replaces an object. Raises MissingError, StaleError and TooLargeError."""
        current = self._expect(key, expected)
        return self._write(ChangeType.MODIFIED, key, render, current)

    def delete(self, key: Key, render: Render, expected: int | None = None) -> Stored:
        """Removes an object; ``render`` gives its last state. Raises MissingError, StaleError."""
        current = self._expect(key, expected)
        return self._write(ChangeType.DELETED, key, render, current)

    def _expect(self, key: Key, expected: int | None) -> Stored:
        current = self.get(key)
        if current is None:
            raise MissingError(key)
        if expected is not None and current.revision != expected:
            raise StaleError(key)
        return current

    def _write(self, kind: ChangeType, key: Key, render: Render, current: Stored | None) -> Stored:
        revision = self._revision + 1
        body = render(revision)
        if len(body) > self._limits.object_bytes_max and kind is not ChangeType.DELETED:
            raise TooLargeError(len(body))
        stored = self._stored(key, revision, body)
        previous = b""
        if current is not None:
            previous = msgspec.json.encode((current.index.labels, current.index.fields))
        self._database.record(
            LogRow(revision, kind, key.resource, key.namespace, key.name, body, previous)
        )
        self._revision = revision
        if kind is ChangeType.DELETED:
            del self._objects[key.resource][key.namespace, key.name]
        else:
            self._objects[key.resource][key.namespace, key.name] = stored
        self._append(Change(kind, stored, current))
        event = self._changed.pop(key.resource, None)
        if event is not None:
            event.set()
        try:
            self._compact_if_full()
        except WriteFailedError as error:
            # The write itself is stored; the next one tries to compact again.
            logger.warning("the log can not be compacted", extra={"data": {"error": str(error)}})
        return stored

    def _append(self, change: Change) -> None:
        self._logs[change.stored.key.resource].append(change)
        size = len(change.stored.body)
        self._log_revisions.append((change.stored.revision, size))
        self._log_bytes += size

    def _compact_if_full(self) -> None:
        limits = self._limits
        count = len(self._log_revisions)
        if count <= limits.log_revisions_max and self._log_bytes <= limits.log_bytes_max:
            return
        keep = int(limits.log_revisions_max * (1 - LOG_CUT_FRACTION))
        keep_bytes = int(limits.log_bytes_max * (1 - LOG_CUT_FRACTION))
        cut, left_bytes = 0, self._log_bytes
        while cut < count - 1 and (count - cut > keep or left_bytes > keep_bytes):
            left_bytes -= self._log_revisions[cut][1]
            cut += 1
        if cut:
            self.compact(self._log_revisions[cut - 1][0])

    def compact(self, revision: int) -> None:
        """Forgets changes up to a revision; watchers that are behind it have to list again."""
        revision = min(revision, self._revision)
        if revision <= self._compacted:
            return
        self._database.compact(revision)
        self._compacted = revision
        for log in self._logs.values():
            del log[: bisect_right(log, revision, key=_revision_of)]
        self._log_revisions = [entry for entry in self._log_revisions if entry[0] > revision]
        self._log_bytes = sum(size for _, size in self._log_revisions)

    def changes_since(self, resource: str, revision: int) -> list[Change]:
        """The changes of a resource after a revision. Raises CompactedError."""
        if revision < self._compacted:
            raise CompactedError(revision, self._compacted)
        log = self._logs[resource]
        return log[bisect_right(log, revision, key=_revision_of) :]

    async def wait_changed(self, resource: str) -> None:
        """Waits for the next change of a resource. Call it right after ``changes_since``."""
        await self._changed.setdefault(resource, asyncio.Event()).wait()

    def close(self) -> None:
        self._database.close()


_revision_of = attrgetter("stored.revision")
