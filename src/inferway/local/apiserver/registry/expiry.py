"""Events go after an hour, as in Kubernetes: the oldest are removed when new ones are written."""

from __future__ import annotations

from inferway.base.clock import parse_rfc3339
from inferway.local.apiserver.registry.kinds import Kind, Object
from inferway.local.apiserver.registry.options import Target
from inferway.local.apiserver.registry.registry import Registry, load

EVENT_SECONDS_MAX = 3600.0
# Looking through all Events with every write would be wasteful; a minute late hurts nobody.
SWEEP_SECONDS = 60.0


class Expiry:
    """A hook of the registry that remembers when it last looked."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._next = registry.clock.monotonic() + SWEEP_SECONDS

    def written(self, kind: Kind, new: Object | None, old: Object | None) -> None:
        clock = self._registry.clock
        if kind.resource != "events." or new is None or clock.monotonic() < self._next:
            return
        self._next = clock.monotonic() + SWEEP_SECONDS
        for stored in self._registry.store.objects("events."):
            event = load(kind, stored)
            seen = event.get("lastTimestamp") or event.get("deprecatedLastTimestamp")
            moment = seen or event["metadata"]["creationTimestamp"]
            try:
                past = clock.wall() - parse_rfc3339(moment) > EVENT_SECONDS_MAX
            except ValueError:
                past = True
            if past and event["metadata"]["uid"] != new["metadata"]["uid"]:
                target = Target(kind, stored.key.namespace, stored.key.name)
                self._registry.remove(target, event, stored.revision)
