"""Connects the machine with the world: file, server, fetches, timers, log, metrics and Events."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from inferway.base.clock import Clock
from inferway.base.errors import InferwayError
from inferway.lora import fetch, folder
from inferway.lora.client import ServerClient
from inferway.lora.config import CONFIG_BYTES_MAX, Config, parse
from inferway.lora.errors import unreadable
from inferway.lora.events import PodEvents
from inferway.lora.machine import Syncer
from inferway.lora.messages import (
    Answered,
    CheckHealth,
    Command,
    Configured,
    Event,
    Listed,
    ListModels,
    Load,
    Note,
    Prepare,
    Prepared,
    ReadSlots,
    Report,
    Request,
    Say,
    Slots,
    Tidy,
    Unload,
    Wake,
    Woken,
)
from inferway.lora.metrics import Status
from inferway.lora.reasons import Answer, Problem
from inferway.lora.teller import one_line
from inferway.lora.threads import beside
from inferway.lora.watch import WATCH_SECONDS, Signature, signature

LOG = logging.getLogger(__name__)
_LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What the pump works with. ``store`` is the folder of fetched adapters."""

    path: Path
    store: Path
    status: Status
    events: PodEvents
    fetching: fetch.Fetching
    clock: Clock
    api_key: str = ""


def read(path: Path) -> Config:
    """The configuration in a file; odd things in it are logged. Raises InferwayError."""
    try:
        with path.open("rb") as file:
            raw = file.read(CONFIG_BYTES_MAX + 1)
        text = raw.decode()
    except OSError as error:
        raise unreadable(str(path), error.strerror or str(error)) from None
    except UnicodeDecodeError:
        raise unreadable(str(path), "it is not UTF-8") from None
    parsed = parse(text)
    for warning in parsed.warnings:
        LOG.warning("Configuration looks odd", extra={"data": {"warning": warning}})
    return parsed.config


class Pump:
    """Runs until it is cancelled."""

    def __init__(self, syncer: Syncer, world: World) -> None:
        self._syncer = syncer
        self._world = world
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._seen: Signature | None = None
        self._wake_at: float | None = None
        self._requests: asyncio.Queue[Request] = asyncio.Queue()
        self._fetching = 0

    async def run(self) -> None:
        """Raises InferwayError where the first configuration is not usable."""
        self._seen = signature(self._world.path)
        try:
            config = read(self._world.path)
        except InferwayError as error:
            self._refused(error)
            await self._world.events.flush()
            raise
        self._configured(config)
        async with (
            aiohttp.ClientSession() as session,
            fetch.session() as http,
            asyncio.TaskGroup() as group,
        ):
            client = ServerClient(session, self._world.api_key)
            group.create_task(self._watch(), name="lora-watch")
            group.create_task(self._talk(client), name="lora-server")
            group.create_task(self._world.events.run(), name="lora-events")
            group.create_task(self._turn(group, http), name="lora-machine")

    async def _turn(self, group: asyncio.TaskGroup, http: aiohttp.ClientSession) -> None:
        """Feeds events to the machine, and Woken when its time has come."""
        while True:
            for command in self._syncer.handle(await self._next_event()):
                if isinstance(command, Prepare):
                    self._fetching += 1
                    group.create_task(self._prepare(command, http), name="lora-fetch")
                elif isinstance(command, Tidy):
                    group.create_task(self._tidy(command), name="lora-tidy")
                else:
                    self._do(command)

    async def _next_event(self) -> Event:
        if self._wake_at is None:
            return await self._events.get()
        try:
            async with asyncio.timeout(max(self._wake_at - self._world.clock.monotonic(), 0.0)):
                return await self._events.get()
        except TimeoutError:
            self._wake_at = None
            return Woken(self._world.clock.monotonic())

    def _do(self, command: Command) -> None:
        match command:
            case Say(level, message, data):
                LOG.log(_LEVELS[level], message, extra={"data": data})
            case Note():
                self._note(command)
            case Report():
                self._world.status.update(command)
            case Wake(at):
                self._wake_at = at
            case CheckHealth() | ListModels() | ReadSlots() | Load() | Unload():
                self._wake_at = None
                self._requests.put_nowait(command)

    def _note(self, note: Note) -> None:
        self._world.status.noted(note.reason)
        self._world.events.note(note)

    async def _talk(self, client: ServerClient) -> None:
        while True:
            command = await self._requests.get()
            self._events.put_nowait(await self._ask(client, command))

    async def _ask(self, client: ServerClient, command: Request) -> Event:
        clock = self._world.clock
        match command:
            case ListModels():
                models, text = await client.list_models(command)
                return Listed(clock.monotonic(), models, text)
            case ReadSlots():
                slots = await client.read_slots(command)
                return Slots(clock.monotonic(), slots)
            case CheckHealth():
                answer = await client.check_health(command)
            case Load():
                problem = await self._look(command)
                if problem is not None:
                    return Answered(clock.monotonic(), Answer(0), problem)
                answer = await client.load(command)
            case Unload():
                answer = await client.unload(command)
        return Answered(clock.monotonic(), answer)

    async def _look(self, command: Load) -> Problem | None:
        """What is wrong with the folder of a load, as far as it is in sight."""
        place = Path(command.path)
        ours = place.is_relative_to(self._world.store)
        if not ours and not (place.is_absolute() and place.is_dir()):
            # The server may see what is not mounted here.
            return None
        return await beside(lambda _: folder.check(place, command.base_root), "lora-look")

    async def _prepare(self, command: Prepare, http: aiohttp.ClientSession) -> None:
        try:
            problem = await fetch.prepare(command, http, self._world.fetching)
        finally:
            self._fetching -= 1
        now = self._world.clock.monotonic()
        self._events.put_nowait(Prepared(now, command.adapter, problem))

    async def _tidy(self, command: Tidy) -> None:
        store, busy = self._world.store, self._fetching > 0
        removed = await beside(lambda _: fetch.tidy(store, command.keep, busy), "lora-tidy")
        if removed:
            LOG.info("Folders of adapters are removed", extra={"data": {"folders": removed}})

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            found = signature(self._world.path)
            if found == self._seen:
                continue
            self._seen = found
            try:
                self._configured(read(self._world.path))
            except InferwayError as error:
                self._refused(error)
                LOG.error(
                    "The last good configuration stays in force",
                    extra={"data": {"error": str(error)}},
                )

    def _refused(self, error: InferwayError) -> None:
        self._world.status.configured(False)
        self._note(Note(True, "ConfigurationRefused", one_line(error)))

    def _configured(self, config: Config) -> None:
        self._world.status.configured(True)
        self._events.put_nowait(Configured(self._world.clock.monotonic(), config))
