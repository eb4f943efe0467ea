"""The syncer as a machine without I/O: ``handle(event) -> list[command]``.

A round is: wait until the server is healthy, list its models, take the steps of plan.py one by
one, rest until the next trigger or change of the configuration. Only what the server itself lists
with a parent is an adapter; base models are never touched. A failing adapter is tried again with
growing pauses and holds up nothing else. At most one request to the server is under way; fetches
go on beside it, and begin before the server is up.

Replacing a source is one load in place. Where the server does not know that, it is an unload and a
load; where the new source fails in a way that may have hurt the old one, the old one is loaded
again.

Knows no clock and no network: every event carries the time in seconds.
"""

from __future__ import annotations

from collections import deque

from inferway.lora import plan
from inferway.lora.config import Config
from inferway.lora.fetches import Fetches
from inferway.lora.messages import (
    Answered,
    CheckHealth,
    Command,
    Configured,
    Event,
    Listed,
    ListModels,
    Load,
    Place,
    Prepared,
    ReadSlots,
    Request,
    Schedule,
    Slots,
    Tidy,
    Unload,
    Wake,
    Woken,
)
from inferway.lora.reasons import (
    BEFORE_ANY_CHANGE,
    Answer,
    Problem,
    Reason,
    already_gone,
    already_loaded,
    inner_text,
    no_endpoint,
    refusal,
)
from inferway.lora.retry import Failures
from inferway.lora.served import Served
from inferway.lora.source import FETCHED, Adapter, served_path
from inferway.lora.teller import Teller

# Until the server has told its slots (vLLM does with the first request for an adapter), it is
# asked once in so many rounds: a minute with the published trigger.
SLOTS_ROUNDS = 12
_LOCAL = ("localhost", "127.0.0.1", "::1")


class Syncer:
    """State of one server's adapters."""

    def __init__(self, schedule: Schedule, place: Place | None = None) -> None:
        self._schedule = schedule
        self._place = place or Place()
        self._tell = Teller()
        self._config: Config | None = None
        self._url = ""
        self._busy: Request | None = None
        self._plan: deque[plan.Step] = deque()
        # A round that is under way ends after its request, and a new one begins.
        self._changed = False
        # There is more to do than the plan under way has; a new round follows it at once.
        self._more = False
        self._healthy = False
        self._wait_since: float | None = None
        self._served = Served(self._place.store)
        self._rounds_without_slots = 0
        self._failures = Failures(schedule.trigger_seconds)
        self._fetches = Fetches(self._place.store)
        # A load whose end was an error of the engine, or none; see _judge_suspect.
        self._suspect: tuple[Load, Answer] | None = None
        # Folders of the store that were kept at the last look.
        self._kept: frozenset[str] | None = None

    def handle(self, event: Event) -> list[Command]:
        """The next things to do."""
        self._out: list[Command] = []
        match event:
            case Configured():
                self._configured(event)
            case Woken():
                if self._busy is None:
                    self._begin()
            case Prepared():
                self._prepared(event)
            case Listed():
                self._busy = None
                self._listed(event)
            case Slots():
                self._busy = None
                self._slots_read(event)
            case Answered():
                self._answered(event)
        if self._config is not None:
            server = (self._healthy, self._served.slots)
            self._out += self._tell.report(
                self._config, self._served.models, self._failures, server
            )
        return self._out

    # The configuration

    def _configured(self, event: Configured) -> None:
        if event.config == self._config:
            return
        self._config = event.config
        host = event.config.host
        if self._place.localhost and host in _LOCAL:
            host = self._place.localhost
        host = f"[{host}]" if ":" in host else host
        url = f"http://{host}:{event.config.port}"
        if url != self._url:
            self._forget_server()
            self._url = url
        wanted = {adapter.id: adapter for adapter in event.config.wanted}
        self._failures.keep_equal(wanted)
        self._fetches.keep(wanted.values())
        self._served.keep_restores(wanted)
        self._changed = True
        self._rounds_without_slots = 0
        self._out += self._tell.configured(self._url, event.config)
        self._prepare(event.now)
        if self._busy is None:
            self._begin()

    def _forget_server(self) -> None:
        """Another address is another server."""
        self._healthy = False
        self._wait_since = None
        self._served = Served(self._place.store)
        self._suspect = None
        self._plan.clear()

    # Folders of fetched adapters

    def _prepare(self, now: float) -> None:
        """Fetches begin as soon as they are known, also while the server starts."""
        self._out += self._fetches.begin(
            self._wanted(),
            lambda adapter: (
                self._failures.pausing(adapter.id, now)
                or self._served.is_current(adapter, self._served.root(adapter.id))
            ),
        )

    def _prepared(self, event: Prepared) -> None:
        wanted = event.adapter in self._wanted()
        self._fetches.ended(event.adapter, event.problem is None and wanted)
        if wanted:
            if event.problem is None:
                self._more = True
                if self._busy is None:
                    self._begin()
            else:
                self._failed(event.now, event.adapter, event.problem, harmful=False)
        else:
            # Its folder is of no use; looking again clears it away.
            self._kept = None
        self._prepare(event.now)

    # One round

    def _begin(self) -> None:
        if self._config is None:
            return
        self._changed = False
        self._more = False
        self._send(CheckHealth(self._url))

    def _send(self, request: Request) -> None:
        self._busy = request
        self._out.append(request)

    def _answered(self, event: Answered) -> None:
        busy, self._busy = self._busy, None
        if busy is not None and busy.url != self._url:
            # What another server did says nothing of this one.
            self._begin()
        elif isinstance(busy, CheckHealth):
            self._health(event.now, event.answer)
        elif isinstance(busy, Load):
            self._loaded(busy, event)
        elif isinstance(busy, Unload):
            self._unloaded(busy, event)

    def _health(self, now: float, answer: Answer) -> None:
        good = answer.status == 200
        self._judge_suspect(now, good)
        if good:
            if not self._healthy:
                self._out += self._tell.healthy(self._url)
                self._rounds_without_slots = 0
            self._healthy = True
            self._wait_since = None
            self._send(ListModels(self._url))
            return
        if self._wait_since is None:
            self._wait_since = now
            self._out += self._tell.waiting(self._url)
        self._healthy = False
        limit = self._schedule.health_timeout_seconds
        if now - self._wait_since >= limit:
            reason = answer.text or f"status {answer.status}"
            self._out += self._tell.unhealthy(self._url, limit, reason)
        self._prepare(now)
        self._out.append(Wake(now + self._schedule.health_interval_seconds))

    def _judge_suspect(self, now: float, alive: bool) -> None:
        """A load without an answer, or with an error of the engine, may have killed the server."""
        if self._suspect is None:
            return
        (load, answer), self._suspect = self._suspect, None
        if answer.refused:
            # The server was gone before.
            return
        problem = refusal(answer)
        if not alive:
            what = f"the server died while it loaded the adapter ({problem.what})"
            problem = Problem(Reason.SERVER_DIED, what)
        self._load_failed(now, load, problem)

    def _listed(self, event: Listed) -> None:
        if self._changed:
            self._begin()
            return
        if event.models is None:
            self._out += self._tell.not_listed(self._url, event.text)
            self._out.append(Wake(event.now + self._schedule.trigger_seconds))
            return
        assert self._config is not None
        before = self._served.models
        self._served.take(event.models)
        self._out += self._tell.listed(self._url, self._config, before, event.models)
        if self._served.slots or self._rounds_without_slots % SLOTS_ROUNDS:
            self._rounds_without_slots += 1
            self._start_plan(event.now)
        else:
            self._rounds_without_slots += 1
            self._send(ReadSlots(self._url))

    def _slots_read(self, event: Slots) -> None:
        if self._changed:
            self._begin()
            return
        self._served.slots = event.slots
        self._start_plan(event.now)

    def _start_plan(self, now: float) -> None:
        assert self._config is not None
        models = self._served.models
        assert models is not None
        self._prepare(now)
        self._count_slots()
        known = plan.Known(
            url=self._url,
            place=self._place,
            models=models,
            restore=self._served.restore,
            ready=self._fetches.ready,
            is_current=self._served.is_current,
            pausing=lambda name: self._failures.pausing(name, now),
            failed_before=lambda name: self._failures.get(name) is not None,
        )
        self._plan = deque(plan.make(self._config, known))
        for adapter in self._config.wanted:
            root = self._served.root(adapter.id)
            if root and self._served.is_current(adapter, root):
                self._failures.forget(adapter.id)
        self._next(now)

    def _count_slots(self) -> None:
        names = self._served.adapters()
        names |= {a.id for a in self._wanted() if self._failures.get(a.id) is None}
        self._out += self._tell.slots(self._url, len(names), self._served.slots)

    def _next(self, now: float) -> None:
        """The next step of the plan, or rest."""
        if self._changed:
            self._begin()
        elif self._plan:
            self._send(self._plan.popleft())
        else:
            self._tidy()
            if self._more:
                self._begin()
            else:
                self._out.append(Wake(now + self._schedule.trigger_seconds))

    def _tidy(self) -> None:
        assert self._config is not None
        models = self._served.models or {}
        kept = plan.kept_folders(self._config, models, self._place.store)
        kept |= frozenset(self._served.restore.values())
        if kept != self._kept:
            self._kept = kept
            self._out.append(Tidy(kept))

    # Steps

    def _loaded(self, load: Load, event: Answered) -> None:
        name, answer = load.adapter.id, event.answer
        restoring = self._served.restore.get(name) == load.path
        if event.problem is not None:
            self._load_failed(event.now, load, event.problem, asked=False)
        elif answer.status == 200 or (already_loaded(answer) and not load.in_place):
            self._load_done(load, restoring)
        elif already_loaded(answer) and restoring and self._served.root(name) == load.path:
            # A server that cannot load in place has not hurt what it has.
            self._load_done(load, restoring)
        elif already_loaded(answer):
            # The server cannot load in place: a gap is what is left.
            old = self._served.root(name)
            if old and not restoring:
                self._served.restore[name] = old
            self._plan.extendleft((_again(load), Unload(self._url, name)))
        elif answer.status == 0 or answer.status >= 500:
            # The next look at the server's health tells a refusal from a death.
            self._suspect = (load, answer)
            self._begin()
            return
        else:
            self._load_failed(event.now, load, refusal(answer))
        self._next(event.now)

    def _load_done(self, load: Load, restoring: bool) -> None:
        name = load.adapter.id
        self._served.loaded(name, load.path)
        if restoring and load.path != served_path(load.adapter, self._place.store):
            self._out += self._tell.restored(name, load.path)
            return
        self._failures.forget(name)
        self._out += self._tell.loaded(load)

    def _load_failed(self, now: float, load: Load, problem: Problem, *, asked: bool = True) -> None:
        name = load.adapter.id
        if self._served.restore.get(name) == load.path:
            # What worked does not come back; the new source gets its turn again in its own time.
            del self._served.restore[name]
            self._out += self._tell.not_restored(name, problem)
            return
        hurt = asked and load.in_place and problem.reason not in BEFORE_ANY_CHANGE
        old = self._served.root(name)
        if hurt and old:
            self._served.restore[name] = old
        if name in self._served.restore:
            hurt = True
            self._more = True
        fetched = load.adapter.kind in FETCHED
        if fetched and problem.reason is Reason.SOURCE_NOT_FOUND:
            self._fetches.gone(load.adapter)
            if asked:
                what = f"the server does not see {load.path}; is the volume mounted in both?"
                problem = Problem(problem.reason, what)
        self._failed(now, load.adapter, problem, harmful=hurt or _died(problem))

    def _failed(self, now: float, adapter: Adapter, problem: Problem, *, harmful: bool) -> None:
        pause = self._failures.add(now, adapter.id, adapter, problem, harmful=harmful)
        self._out += self._tell.failed(adapter.id, problem, pause)

    def _unloaded(self, unload: Unload, event: Answered) -> None:
        name, answer = unload.name, event.answer
        if answer.status == 200 or already_gone(answer):
            self._failures.forget(name)
            self._served.unloaded(name)
            self._out += self._tell.unloaded(name)
        else:
            # A load of the same name would meet the old adapter, so it waits as well.
            self._plan = deque(
                step
                for step in self._plan
                if not (isinstance(step, Load) and step.adapter.id == name)
            )
            self._served.restore.pop(name, None)
            adapter = next((a for a in self._wanted() if a.id == name), None)
            allowed = not no_endpoint(answer) and answer.status not in (401, 403)
            text = inner_text(answer.text) or f"status {answer.status}"
            problem = Problem(Reason.UNLOAD_FAILED, text) if allowed else refusal(answer)
            pause = self._failures.add(event.now, name, adapter, problem, harmful=False)
            self._out += self._tell.failed(name, problem, pause)
        self._next(event.now)

    def _wanted(self) -> tuple[Adapter, ...]:
        return self._config.wanted if self._config else ()


def _died(problem: Problem) -> bool:
    return problem.reason is Reason.SERVER_DIED


def _again(load: Load) -> Load:
    return Load(url=load.url, adapter=load.adapter, path=load.path, base_root=load.base_root)
