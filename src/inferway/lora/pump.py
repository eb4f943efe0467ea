"""Connects the machine with the world: file, server, timers, log and metric."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import aiohttp

from inferway.base.clock import Clock
from inferway.base.errors import InferwayError
from inferway.lora import machine
from inferway.lora.client import ServerClient
from inferway.lora.config import CONFIG_BYTES_MAX, Config, parse
from inferway.lora.errors import unreadable
from inferway.lora.metrics import AdapterStatus
from inferway.lora.watch import WATCH_SECONDS, Signature, signature

LOG = logging.getLogger(__name__)
_LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


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
    """Runs until it is cancelled. ``changed`` is set after each configuration that was read."""

    def __init__(
        self, path: Path, syncer: machine.Syncer, status: AdapterStatus, clock: Clock
    ) -> None:
        self._path = path
        self._syncer = syncer
        self._status = status
        self._clock = clock
        self._events: asyncio.Queue[machine.Event] = asyncio.Queue()
        self._seen: Signature | None = None
        self._wake_at: float | None = None
        self._requests: asyncio.Queue[machine.Command] = asyncio.Queue()

    async def run(self) -> None:
        """Raises InferwayError where the first configuration is not usable."""
        self._seen = signature(self._path)
        self._configured(read(self._path))
        async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
            group.create_task(self._watch(), name="lora-watch")
            group.create_task(self._talk(ServerClient(session)), name="lora-server")
            group.create_task(self._turn(), name="lora-machine")

    async def _turn(self) -> None:
        """Feeds events to the machine, and Woken when its time has come."""
        while True:
            for command in self._syncer.handle(await self._next_event()):
                self._do(command)

    async def _next_event(self) -> machine.Event:
        if self._wake_at is None:
            return await self._events.get()
        try:
            async with asyncio.timeout(max(self._wake_at - self._clock.monotonic(), 0.0)):
                return await self._events.get()
        except TimeoutError:
            self._wake_at = None
            return machine.Woken(self._clock.monotonic())

    def _do(self, command: machine.Command) -> None:
        match command:
            case machine.Say(level, message, data):
                LOG.log(_LEVELS[level], message, extra={"data": data})
            case machine.Report(loaded):
                self._status.update(loaded)
            case machine.Wake(at):
                self._wake_at = at
            case _:
                self._wake_at = None
                self._requests.put_nowait(command)

    async def _talk(self, client: ServerClient) -> None:
        while True:
            command = await self._requests.get()
            if isinstance(command, machine.ListModels):
                models, text = await client.list_models(command)
                self._events.put_nowait(machine.Listed(self._clock.monotonic(), models, text))
                continue
            if isinstance(command, machine.CheckHealth):
                status, text = await client.check_health(command)
            elif isinstance(command, machine.Load):
                status, text = await client.load(command)
            else:
                assert isinstance(command, machine.Unload)
                status, text = await client.unload(command)
            self._events.put_nowait(machine.Answered(self._clock.monotonic(), status, text))

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            found = signature(self._path)
            if found == self._seen:
                continue
            self._seen = found
            try:
                self._configured(read(self._path))
            except InferwayError as error:
                LOG.error(
                    "The last good configuration stays in force",
                    extra={"data": {"error": str(error)}},
                )

    def _configured(self, config: Config) -> None:
        self._status.keep({*(a.id for a in config.wanted), *config.unwanted})
        self._events.put_nowait(machine.Configured(self._clock.monotonic(), config))
