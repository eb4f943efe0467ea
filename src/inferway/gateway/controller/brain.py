"""Turns what the informers see into what the proxies get: translate, build, publish.

One translation for all changes of some milliseconds, and one build for each Gateway whose IR
really changed. Runs in the event loop and never waits.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from inferway.gateway.envoy.resources import Built
from inferway.gateway.envoy.resources import Options as BuildOptions
from inferway.gateway.proxy.status import ProxyState
from inferway.gateway.translate.snapshot import Key, Snapshot
from inferway.gateway.translate.translation import Result, translate
from inferway.gateway.xds.hub import Hub

_log = logging.getLogger(__name__)
# A broken manifest can have many mistakes; the log names this many and counts the rest.
DIAGNOSTICS_LOGGED_MAX = 50


@dataclass(slots=True)
class _Published:
    built: Built
    generation: int
    # The first tag that holds this generation.
    generation_tag: int


def _empty() -> Result:
    return Result({}, {}, {}, {}, ())


@dataclass(slots=True)
class Brain:
    """``wanted`` is called with the kind and key of each object whose status may have changed."""

    hub: Hub
    options: BuildOptions
    wanted: Callable[[str, Key], None]
    result: Result = field(default_factory=_empty)
    snapshot: Snapshot = field(default_factory=Snapshot)
    translations: int = 0
    builds: int = 0
    _published: dict[Key, _Published] = field(default_factory=dict)
    _tag: int = 0
    _said: set[str] = field(default_factory=set)

    def think(self, snapshot: Snapshot) -> None:
        """Takes a new snapshot all the way to the proxies."""
        before = self.result
        self.snapshot = snapshot
        self.result = translate(snapshot)
        self.translations += 1
        for key, plan in self.result.gateways.items():
            self._publish(key)
            if plan != before.gateways.get(key):
                self.wanted("Gateway", key)
        for key in set(before.gateways) - set(self.result.gateways):
            self.hub.withdraw(_name(key))
            self._published.pop(key, None)
        self._compare("GatewayClass", before.class_statuses, self.result.class_statuses)
        self._compare("HTTPRoute", before.route_statuses, self.result.route_statuses)
        self._compare("InferencePool", before.pool_statuses, self.result.pool_statuses)
        self._say()

    def proxies(self, key: Key) -> ProxyState:
        """How far the proxies of a Gateway are."""
        progress = self.hub.progress(_name(key))
        published = self._published.get(key)
        return ProxyState(
            connected=progress.connected,
            behind=progress.behind,
            current=published is not None and progress.settled >= published.generation_tag,
            refusals=tuple(f"{item.name}: {item.message}" for item in progress.refusals),
            moved_ports=progress.moved_ports,
        )

    def _publish(self, key: Key) -> None:
        plan = self.result.gateways[key]
        generation = plan.gateway.metadata.generation
        known = self._published.get(key)
        if known is not None and known.built.gateway == plan.ir:
            if known.generation == generation:
                return
            built = known.built
        else:
            built = Built(plan.ir, self.options)
            self.builds += 1
        self._tag += 1
        same = known is not None and known.generation == generation
        first = known.generation_tag if known is not None and same else self._tag
        self._published[key] = _Published(built, generation, first)
        self.hub.publish(_name(key), built, self._tag)

    def _compare(
        self, kind: str, before: Mapping[Key, object], after: Mapping[Key, object]
    ) -> None:
        for key in before.keys() | after.keys():
            if before.get(key) != after.get(key):
                self.wanted(kind, key)

    def _say(self) -> None:
        """Logs each mistake once, while it lasts."""
        lines = {str(item) for item in self.result.diagnostics}
        fresh = sorted(lines - self._said)
        for text in fresh[:DIAGNOSTICS_LOGGED_MAX]:
            _log.warning("an object has a mistake", extra={"data": {"diagnostic": text}})
        if len(fresh) > DIAGNOSTICS_LOGGED_MAX:
            more = len(fresh) - DIAGNOSTICS_LOGGED_MAX
            _log.warning("more objects have mistakes", extra={"data": {"count": more}})
        self._said = lines


def _name(key: Key) -> str:
    return f"{key[0]}/{key[1]}"
