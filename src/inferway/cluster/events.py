"""Records v1 Events about objects, for people who ask ``kubectl describe``.

``EventRecorder.event`` never waits and never fails: Events are hints, and no work may stop for
them. A repeated message counts up the Event that is there. Knows the client and the clock.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from inferway.api.resources import EVENTS
from inferway.base.clock import Clock, SystemClock, rfc3339
from inferway.cluster.client import KubeClient, Object
from inferway.cluster.errors import NotFoundError
from inferway.cluster.store import key_of

_log = logging.getLogger(__name__)

EventLevel = Literal["Normal", "Warning"]

# A burst of a rollout of some hundred Pods fits; beyond it the newest Events are dropped, counted.
PENDING_MAX = 2000
# As many as client-go remembers for counting up.
REMEMBERED_MAX = 4096
# The API server refuses longer ones.
MESSAGE_CHARACTERS_MAX = 1024


class _Subject(NamedTuple):
    """Events that are equal in this are one Event with a count."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str
    field_path: str
    level: str
    reason: str
    message: str


@dataclass(slots=True)
class _Pending:
    count: int
    first_wall: float
    last_wall: float


@dataclass(slots=True)
class _Written:
    name: str
    count: int


def reference(raw: Mapping[str, Any], kind: str = "", api_version: str = "") -> Object:
    """The ObjectReference of an object as it is on the wire."""
    meta = raw.get("metadata") or {}
    fields = {
        "apiVersion": raw.get("apiVersion") or api_version,
        "kind": raw.get("kind") or kind,
        "namespace": meta.get("namespace"),
        "name": meta.get("name"),
        "uid": meta.get("uid"),
        "resourceVersion": meta.get("resourceVersion"),
    }
    return {name: value for name, value in fields.items() if value}


class EventRecorder:
    """Collects Events; ``run`` writes them until it is cancelled."""

    def __init__(
        self, client: KubeClient, component: str, *, host: str = "", clock: Clock | None = None
    ) -> None:
        self.dropped = 0
        self._client = client
        self._source = {"component": component, **({"host": host} if host else {})}
        self._clock = clock or SystemClock()
        self._pending: OrderedDict[_Subject, _Pending] = OrderedDict()
        self._written: OrderedDict[_Subject, _Written] = OrderedDict()
        self._arrival = asyncio.Event()
        self._serial = 0

    def event(self, about: Mapping[str, Any], level: EventLevel, reason: str, message: str) -> None:
        """Notes an Event about an ObjectReference or a whole object."""
        ref = reference(about) if "metadata" in about else about
        subject = _Subject(
            str(ref.get("apiVersion") or ""),
            str(ref.get("kind") or ""),
            str(ref.get("namespace") or ""),
            str(ref.get("name") or ""),
            str(ref.get("uid") or ""),
            str(ref.get("fieldPath") or ""),
            level,
            reason,
            message[:MESSAGE_CHARACTERS_MAX],
        )
        now = self._clock.wall()
        waiting = self._pending.get(subject)
        if waiting is not None:
            waiting.count += 1
            waiting.last_wall = now
        elif len(self._pending) >= PENDING_MAX:
            self.dropped += 1
            return
        else:
            self._pending[subject] = _Pending(1, now, now)
        self._arrival.set()

    async def run(self) -> None:
        """Writes what is noted, in order, until cancelled."""
        while True:
            await self.flush()
            self._arrival.clear()
            if not self._pending:
                await self._arrival.wait()

    async def flush(self) -> None:
        """Writes what is noted so far; Events that the server does not take are dropped."""
        while self._pending:
            subject, pending = self._pending.popitem(last=False)
            try:
                await self._write(subject, pending)
            except Exception as error:  # No caller may suffer from an Event.
                self.dropped += pending.count
                # An Event in a namespace that ends is refused; that is no news.
                _log.debug(
                    "an event was not written",
                    extra={"data": {"reason": subject.reason, "error": str(error)}},
                )

    async def _write(self, subject: _Subject, pending: _Pending) -> None:
        known = self._written.get(subject)
        if known is not None:
            try:
                await self._count_up(subject, known, pending)
                return
            except NotFoundError:
                # Its hour is over; the count begins anew.
                del self._written[subject]
        created = await self._client.create(EVENTS, self._new(subject, pending))
        self._written[subject] = _Written(key_of(created).name, pending.count)
        while len(self._written) > REMEMBERED_MAX:
            self._written.popitem(last=False)

    async def _count_up(self, subject: _Subject, known: _Written, pending: _Pending) -> None:
        count = known.count + pending.count
        patch = {"count": count, "lastTimestamp": rfc3339(pending.last_wall)}
        await self._client.patch(EVENTS, known.name, patch, subject.namespace or "default")
        known.count = count
        self._written.move_to_end(subject)

    def _new(self, subject: _Subject, pending: _Pending) -> Object:
        # Cluster-scoped objects have their Events in the namespace default, as in Kubernetes.
        namespace = subject.namespace or "default"
        self._serial += 1
        stamp = int(pending.first_wall * 1e9) + self._serial
        involved = {
            "apiVersion": subject.api_version,
            "kind": subject.kind,
            "namespace": subject.namespace,
            "name": subject.name,
            "uid": subject.uid,
            "fieldPath": subject.field_path,
        }
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{subject.name}.{stamp:x}", "namespace": namespace},
            "involvedObject": {name: value for name, value in involved.items() if value},
            "type": subject.level,
            "reason": subject.reason,
            "message": subject.message,
            "source": self._source,
            "reportingComponent": self._source["component"],
            "reportingInstance": self._source.get("host", ""),
            "firstTimestamp": rfc3339(pending.first_wall),
            "lastTimestamp": rfc3339(pending.last_wall),
            "count": pending.count,
        }
