"""The syncer as a machine without I/O: ``handle(event) -> list[command]``.

A round is: wait until the server is healthy, list its models, load and unload what differs one by
one, rest until the next trigger or change of the configuration. Only what the server itself lists
with a parent is an adapter; base models are never touched. A failing adapter is tried again with
growing pauses and holds up nothing else. At most one request to the server is under way.

Knows no clock and no network: every event carries the time in seconds.
"""

from __future__ import annotations

from collections import deque

import msgspec

from inferway.lora.config import Adapter, Config
from inferway.lora.errors import adapter_failed, not_allowed, not_listed, unhealthy

# Pauses after failures of one adapter double up to this: a missing source should not fill a log,
# and a repository that comes back should not be waited for longer than a coffee.
RETRY_SECONDS_MAX = 300.0


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """The published flags, in seconds."""

    health_timeout_seconds: float = 300.0
    health_interval_seconds: float = 2.0
    trigger_seconds: float = 5.0


# Events


class Configured(msgspec.Struct, frozen=True):
    """A valid configuration was read."""

    now: float
    config: Config


class Woken(msgspec.Struct, frozen=True):
    """The time of the last Wake has come."""

    now: float


class Answered(msgspec.Struct, frozen=True):
    """The server answered, or did not: then ``status`` is 0 and ``text`` says why."""

    now: float
    status: int
    text: str


class Listed(msgspec.Struct, frozen=True):
    """The answer to ListModels: model ids with (root, parent); None where it failed."""

    now: float
    models: dict[str, tuple[str, str]] | None
    text: str = ""


Event = Configured | Woken | Answered | Listed

# Commands


class CheckHealth(msgspec.Struct, frozen=True):
    url: str


class ListModels(msgspec.Struct, frozen=True):
    url: str


class Load(msgspec.Struct, frozen=True):
    url: str
    adapter: Adapter


class Unload(msgspec.Struct, frozen=True):
    url: str
    name: str


class Wake(msgspec.Struct, frozen=True):
    """Send Woken at ``at``; replaces an earlier Wake."""

    at: float


class Say(msgspec.Struct, frozen=True):
    """A line of log."""

    level: str
    message: str
    data: dict[str, object]


class Report(msgspec.Struct, frozen=True):
    """Which configured adapters are loaded."""

    loaded: dict[str, bool]


Command = CheckHealth | ListModels | Load | Unload | Wake | Say | Report


class _Failure(msgspec.Struct, frozen=True):
    count: int
    retry_at: float
    source: str


class Syncer:
    """State of one server's adapters. ``localhost`` stands in for a host that means this Pod."""

    def __init__(self, schedule: Schedule, localhost: str = "") -> None:
        self._schedule = schedule
        self._localhost = localhost
        self._config: Config | None = None
        self._url = ""
        self._busy: CheckHealth | ListModels | Load | Unload | None = None
        self._plan: deque[Load | Unload] = deque()
        self._changed = False
        self._healthy = False
        self._wait_since: float | None = None
        self._told_unhealthy = False
        self._told_not_allowed = False
        self._told_not_listed = False
        self._failures: dict[str, _Failure] = {}
        # Roots that the server reports for sources which were loaded from here.
        self._roots: dict[tuple[str, str], str] = {}
        self._warned_bases: frozenset[str] = frozenset()

    def handle(self, event: Event) -> list[Command]:
        """The next things to do."""
        out: list[Command] = []
        if isinstance(event, Configured):
            self._configured(event, out)
        elif isinstance(event, Woken):
            if self._busy is None:
                self._begin(out)
        elif isinstance(event, Listed):
            self._busy = None
            self._listed(event, out)
        else:
            self._answered(event, out)
        return out

    def _configured(self, event: Configured, out: list[Command]) -> None:
        if event.config == self._config:
            return
        self._config = event.config
        host = event.config.host
        if self._localhost and host in ("localhost", "127.0.0.1", "::1"):
            host = self._localhost
        host = f"[{host}]" if ":" in host else host
        self._url = f"http://{host}:{event.config.port}"
        sources = {adapter.id: adapter.source for adapter in event.config.wanted}
        self._failures = {
            name: failure
            for name, failure in self._failures.items()
            if sources.get(name, "") == failure.source
        }
        self._changed = True
        data: dict[str, object] = {
            "server": self._url,
            "wanted": len(event.config.wanted),
            "unwanted": len(event.config.unwanted),
        }
        out.append(Say("info", "Configuration is in force", data))
        if self._busy is None:
            self._begin(out)

    def _begin(self, out: list[Command]) -> None:
        if self._config is None:
            return
        self._changed = False
        self._send(CheckHealth(self._url), out)

    def _send(self, command: CheckHealth | ListModels | Load | Unload, out: list[Command]) -> None:
        self._busy = command
        out.append(command)

    def _answered(self, event: Answered, out: list[Command]) -> None:
        busy, self._busy = self._busy, None
        if isinstance(busy, CheckHealth):
            self._health(event, out)
        elif isinstance(busy, Load):
            self._loaded(busy, event, out)
        elif isinstance(busy, Unload):
            self._unloaded(busy, event, out)

    def _health(self, event: Answered, out: list[Command]) -> None:
        if event.status == 200:
            if not self._healthy:
                out.append(Say("info", "The model server is healthy", {"server": self._url}))
            self._healthy = True
            self._wait_since = None
            self._told_unhealthy = False
            self._send(ListModels(self._url), out)
            return
        if self._wait_since is None:
            self._wait_since = event.now
            out.append(Say("info", "Waiting for the model server", {"server": self._url}))
        self._healthy = False
        waited = event.now - self._wait_since
        limit = self._schedule.health_timeout_seconds
        if waited >= limit and not self._told_unhealthy:
            self._told_unhealthy = True
            reason = event.text or f"status {event.status}"
            out.append(_error("The model server is not healthy",
                              str(unhealthy(self._url, limit, reason))))  # fmt: skip
        out.append(Wake(event.now + self._schedule.health_interval_seconds))

    def _listed(self, event: Listed, out: list[Command]) -> None:
        if self._changed:
            self._begin(out)
            return
        if event.models is None:
            if not self._told_not_listed:
                self._told_not_listed = True
                out.append(_error("Models are not listed", str(not_listed(self._url, event.text))))
            out.append(Wake(event.now + self._schedule.trigger_seconds))
            return
        self._told_not_listed = False
        self._make_plan(event.now, event.models, out)
        self._next(event.now, out)

    def _make_plan(
        self, now: float, models: dict[str, tuple[str, str]], out: list[Command]
    ) -> None:
        config = self._config
        assert config is not None
        adapters = {name: root for name, (root, parent) in models.items() if parent}
        bases = frozenset(models.keys() - adapters.keys())
        self._warn_about_bases(bases, out)
        plan: list[Load | Unload] = []
        state: dict[str, bool] = {}
        for name in config.unwanted:
            if name in adapters and not self._pausing(name, now):
                plan.append(Unload(self._url, name))
            if name not in bases:
                state[name] = name in adapters
        for adapter in config.wanted:
            if adapter.id in bases:
                continue
            current = self._is_current(adapter, adapters.get(adapter.id))
            state[adapter.id] = adapter.id in adapters
            if current or self._pausing(adapter.id, now):
                continue
            if adapter.id in adapters:
                plan.append(Unload(self._url, adapter.id))
            plan.append(Load(self._url, adapter))
        self._plan = deque(plan)
        out.append(Report(state))

    def _is_current(self, adapter: Adapter, root: str | None) -> bool:
        """Whether the server has this very source. A server may report a root of its own making
        for it; that root is then remembered from the first list after the load.
        """
        if root is None:
            return False
        key = (adapter.id, adapter.source)
        if root == adapter.source or self._roots.get(key) == root:
            return True
        if key in self._roots and not self._roots[key]:
            self._roots[key] = root
            return True
        return False

    def _warn_about_bases(self, bases: frozenset[str], out: list[Command]) -> None:
        config = self._config
        assert config is not None
        named = {adapter.id for adapter in config.wanted} | set(config.unwanted)
        found = bases & named
        out += [
            Say("warning", "A base model is named as an adapter and left alone", {"id": name})
            for name in sorted(found - self._warned_bases)
        ]
        self._warned_bases = found

    def _pausing(self, name: str, now: float) -> bool:
        failure = self._failures.get(name)
        return failure is not None and failure.retry_at > now

    def _next(self, now: float, out: list[Command]) -> None:
        """The next step of the plan, or rest."""
        if self._changed:
            self._begin(out)
        elif self._plan:
            self._send(self._plan.popleft(), out)
        else:
            out.append(Wake(now + self._schedule.trigger_seconds))

    def _loaded(self, load: Load, event: Answered, out: list[Command]) -> None:
        name, source = load.adapter.id, load.adapter.source
        done = event.status == 200 or "has already been loaded" in event.text
        if done:
            self._failures.pop(name, None)
            self._told_not_allowed = False
            self._roots = {key: root for key, root in self._roots.items() if key[0] != name}
            self._roots[(name, source)] = ""
            out.append(Say("info", "Adapter is loaded", {"id": name, "source": source}))
            out.append(Report({name: True}))
        else:
            self._failed("load it", name, source, event, out)
        self._next(event.now, out)

    def _unloaded(self, unload: Unload, event: Answered, out: list[Command]) -> None:
        name = unload.name
        missing = event.status == 404 and "cannot be found" in event.text
        if event.status == 200 or missing:
            self._failures.pop(name, None)
            self._roots = {key: root for key, root in self._roots.items() if key[0] != name}
            out.append(Say("info", "Adapter is unloaded", {"id": name}))
            out.append(Report({name: False}))
        else:
            # A load of the same name would meet the old adapter, so it waits as well.
            self._plan = deque(
                step
                for step in self._plan
                if not (isinstance(step, Load) and step.adapter.id == name)
            )
            self._failed("unload it", name, self._source_of(name), event, out)
        self._next(event.now, out)

    def _source_of(self, name: str) -> str:
        config = self._config
        assert config is not None
        return next((a.source for a in config.wanted if a.id == name), "")

    def _failed(
        self, action: str, name: str, source: str, event: Answered, out: list[Command]
    ) -> None:
        before = self._failures.get(name)
        count = before.count + 1 if before else 1
        pause = min(self._schedule.trigger_seconds * 2 ** min(count - 1, 16), RETRY_SECONDS_MAX)
        self._failures[name] = _Failure(count, event.now + pause, source)
        if _no_endpoint(event):
            if not self._told_not_allowed:
                self._told_not_allowed = True
                out.append(_error("Adapters cannot be changed", str(not_allowed(self._url))))
            return
        reason = event.text.strip() or f"status {event.status}"
        text = str(adapter_failed(action, name, reason, pause))
        out.append(_error("An adapter was not changed", text))


def _no_endpoint(event: Answered) -> bool:
    """FastAPI's answer for a path that does not exist, in both of vLLM's shapes."""
    return event.status in (404, 405) and event.text.strip() in ("Not Found", "Method Not Allowed")


def _error(message: str, text: str) -> Say:
    return Say("error", message, {"error": text})
