"""Keeps a local copy of a collection equal to the server's.

Lists, watches, and lists again when the server has forgotten the version or the connection breaks.
Knows the client and the store. Callbacks get keys, run after the store changed, and must not wait.

A writer may put the answer of its own write into the store (``absorb``, ``forget``), so that its
next look does not miss it. The stream stays the truth: an answer that is older than what the
stream has brought is ignored.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import Any, Generic, TypeVar, cast

from inferway.api.resources import ResourceType
from inferway.base.errors import InferwayError
from inferway.cluster.backoff import Backoff, Jitter
from inferway.cluster.client import KubeClient, Object
from inferway.cluster.errors import GoneError, NotFoundError
from inferway.cluster.store import Change, Entry, IndexFunction, Key, Store, key_of, version_number
from inferway.cluster.watch import WatchEvent

_log = logging.getLogger(__name__)
T = TypeVar("T")

# A restart of a local API server is hardly felt; the few informers of a process every five seconds
# are no load for a cluster's that recovers.
LIST_BACKOFF = Backoff(base_seconds=0.1, cap_seconds=5.0)
# A server that was replaced knows nothing of the version; after so many failures a list decides.
WATCH_FAILURES_MAX = 6
# Objects that can not be decoded are reported once each; more than this only says "more".
BROKEN_REMEMBERED_MAX = 1000


class Informer(Generic[T]):
    """One collection. ``run`` works until it is cancelled; ``synced`` is set by the first list.

    ``decode`` makes a value of an object; one that raises makes its object absent and is noted in
    ``broken``. With ``optional`` a kind that the server does not know counts as empty.
    """

    def __init__(
        self,
        client: KubeClient,
        resource: ResourceType,
        *,
        decode: Callable[[Object], T] | None = None,
        namespace: str | None = None,
        labels: str = "",
        fields: str = "",
        indexers: Mapping[str, IndexFunction[T]] | None = None,
        optional: bool = False,
        jitter: Jitter = random.random,
        backoff: Backoff = LIST_BACKOFF,
    ) -> None:
        self.resource = resource
        self.store: Store[T] = Store(indexers)
        self.synced = asyncio.Event()
        self.broken: dict[Key, str] = {}
        self.last_error: InferwayError | None = None
        self._client = client
        self._decode = decode or cast(Callable[[Object], T], _identity)
        self._selection: dict[str, Any] = {
            "namespace": namespace,
            "labels": labels,
            "fields": fields,
        }
        self._optional = optional
        self._jitter = jitter
        self._backoff = backoff
        self._subscribers: list[Callable[[Change[T]], object]] = []
        self._version = ""
        self._gone_uids: set[str] = set()

    def subscribe(self, callback: Callable[[Key], object]) -> None:
        """Calls back with the key of each change, and at once for all that is in the store."""
        self.subscribe_changes(lambda change: callback(change.key))

    def subscribe_changes(self, callback: Callable[[Change[T]], object]) -> None:
        """As ``subscribe``, with the values before and after."""
        self._subscribers.append(callback)
        for key, value in list(self.store.items()):
            callback(Change(key, None, value))

    async def run(self) -> None:
        """Works until cancelled."""
        failures = 0
        while True:
            try:
                await self._list()
                failures = 0
                await self._watch_on()
            except GoneError:
                _log.debug("list again", extra={"data": {"kind": self.resource.kind}})
                # A server that calls every version too old must not be asked in a tight loop.
                failures += 1
                if failures > 1:
                    await asyncio.sleep(self._backoff.seconds(failures, self._jitter))
            except InferwayError as error:
                failures += 1
                self._note(error)
                await asyncio.sleep(self._backoff.seconds(failures, self._jitter))

    def absorb(self, raw: Object) -> None:
        """Stores the answer of an own write, unless the stream is already past it."""
        version = _version_of(raw)
        entry = self.store.entry(key_of(raw))
        if version <= version_number(self._version) or not self._selected(raw):
            return
        if entry is not None and entry.version >= version:
            return
        self._put(raw)

    def forget(self, key: Key, uid: str) -> None:
        """Drops an object that an own delete removed, until the stream says the same."""
        entry = self.store.entry(key)
        if entry is None or entry.uid != uid:
            return
        self._gone_uids.add(uid)
        self._publish(self.store.remove(key))

    def clear(self) -> None:
        """Empties the store, with callbacks; for a kind that is not served any more."""
        self._replace([], "")

    async def _list(self) -> None:
        try:
            found = await self._client.list(self.resource, **self._selection)
        except NotFoundError:
            if self._optional:
                self._replace([], "")
                self.synced.set()
            raise
        self.last_error = None
        self._replace(found.items, found.resource_version)
        self.synced.set()

    def _replace(self, items: list[Object], version: str) -> None:
        self._version = version
        self._gone_uids.clear()
        keys = {key_of(raw) for raw in items}
        for key in list(self.store):
            entry = self.store.entry(key)
            # An own write that is newer than the list was not in it and is no deletion.
            newer = entry is not None and entry.version > version_number(version) >= 0
            if key not in keys and not newer:
                self._publish(self.store.remove(key))
        for key in [key for key in self.broken if key not in keys]:
            del self.broken[key]
        for raw in items:
            entry = self.store.entry(key_of(raw))
            if entry is None or entry.version <= _version_of(raw) or _version_of(raw) < 0:
                self._put(raw)

    async def _watch_on(self) -> None:
        """Watches, and watches again from where it was, until that is impossible."""
        failures = 0
        while True:
            before = self._version
            try:
                stream = self._client.watch(
                    self.resource, **self._selection, resource_version=self._version
                )
                async with aclosing(stream):
                    async for event in stream:
                        self._handle(event)
                error: InferwayError | None = None
            except GoneError:
                raise
            except NotFoundError:
                # The kind itself is gone; only a list can say so.
                raise
            except InferwayError as broken:
                error = broken
                self._note(error)
            failures = 0 if self._version != before and error is None else failures + 1
            if failures >= WATCH_FAILURES_MAX:
                return
            if failures > 0 and (error is not None or failures > 1):
                await asyncio.sleep(self._backoff.seconds(failures, self._jitter))

    def _handle(self, event: WatchEvent) -> None:
        raw = event.object
        if event.resource_version:
            self._version = event.resource_version
        if event.type == "BOOKMARK":
            return
        uid = _uid_of(raw)
        if event.type == "DELETED":
            self._gone_uids.discard(uid)
            self.broken.pop(key_of(raw), None)
            entry = self.store.entry(key_of(raw))
            if entry is not None and (entry.uid == uid or not uid):
                self._publish(self.store.remove(key_of(raw)))
            return
        if uid in self._gone_uids:
            return
        entry = self.store.entry(key_of(raw))
        if entry is not None and entry.version > _version_of(raw) >= 0:
            return
        self._put(raw)

    def _put(self, raw: Object) -> None:
        key = key_of(raw)
        try:
            value = self._decode(raw)
        except Exception as error:  # A decoder's own error must not end the informer.
            if key not in self.broken and len(self.broken) < BROKEN_REMEMBERED_MAX:
                _log.warning(
                    "an object can not be used",
                    extra={
                        "data": {
                            "kind": self.resource.kind,
                            "object": str(key),
                            "error": str(error),
                        }
                    },
                )
                self.broken[key] = str(error)
            self._publish(self.store.remove(key))
            return
        self.broken.pop(key, None)
        self._publish(self.store.put(key, Entry(value, _uid_of(raw), _version_of(raw))))

    def _publish(self, change: Change[T] | None) -> None:
        if change is None:
            return
        for subscriber in self._subscribers:
            try:
                subscriber(change)
            except Exception:  # One bad object must not end the copy of all the others.
                data = {"kind": self.resource.kind, "object": str(change.key)}
                _log.exception("a change was not understood", extra={"data": data})

    def _selected(self, raw: Object) -> bool:
        """Whether an own write belongs here; with selectors only the server can tell."""
        if self._selection["labels"] or self._selection["fields"]:
            return False
        namespace = self._selection["namespace"]
        return not namespace or key_of(raw).namespace == namespace

    def _note(self, error: InferwayError) -> None:
        if self.last_error is None or str(self.last_error) != str(error):
            level = logging.DEBUG if self._optional else logging.WARNING
            _log.log(
                level,
                "a collection is out of reach",
                extra={"data": {"kind": self.resource.kind, "error": str(error)}},
            )
        self.last_error = error


def _identity(raw: Object) -> Object:
    return raw


def _uid_of(raw: Object) -> str:
    return str((raw.get("metadata") or {}).get("uid") or "")


def _version_of(raw: Object) -> int:
    return version_number(str((raw.get("metadata") or {}).get("resourceVersion") or ""))
