"""What all Pods of the node share: the client, the launcher, caches, the image table."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shlex
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from inferway.api.resources import ResourceType
from inferway.cluster.client import KubeClient
from inferway.cluster.errors import NotFoundError
from inferway.cluster.events import EventRecorder
from inferway.cluster.informer import Informer
from inferway.cluster.store import Key
from inferway.local.node.addresses import PodAddresses
from inferway.local.node.imagekeeper import (
    ImageFiles,
    ImageKeeper,
    ImageSettings,
    write_settings,
)
from inferway.local.node.images import ImageTable, Programs
from inferway.local.node.launching import Machine
from inferway.local.node.limits import Limits
from inferway.local.node.options import NodeOptions
from inferway.local.node.pickmodule import PickModule
from inferway.local.node.prober import Prober
from inferway.local.node.sandboxes import Isolation, Launcher

Object = dict[str, Any]

# Moved by as much, a privileged port is free for everybody and still recognizable.
PORT_OFFSET = 8000
UNIX_PATH_BYTES_MAX = 107
PRIVILEGED_PORTS_TRIED = (1023, 1022, 1021)


@dataclass(frozen=True, slots=True)
class Caches:
    """Local copies of what Pods refer to."""

    config_maps: Informer[Object]
    secrets: Informer[Object]
    services: Informer[Object]
    accounts: Informer[Object]


@dataclass(frozen=True, slots=True)
class NodeParts:
    """Made once by ``main.run`` and passed to every Pod's worker."""

    options: NodeOptions
    client: KubeClient
    launcher: Launcher
    isolation: Isolation
    images: ImageKeeper
    addresses: PodAddresses
    events: EventRecorder
    caches: Caches
    prober: Prober
    machine: Machine
    allocatable: Mapping[str, Decimal]
    api_server: tuple[str, str]
    port_offset: int
    pick_module: PickModule
    changes: ChangeBell
    steady: SteadyClock
    limits: Limits

    @property
    def table(self) -> ImageTable:
        """The image table of this moment."""
        return self.images.table

    def pick_socket(self, uid: str) -> str:
        """Where a picker of this Pod serves picks; the kernel allows 107 bytes."""
        path = self.options.state / "picks" / f"{uid[:13]}.sock"
        if len(str(path)) > UNIX_PATH_BYTES_MAX:
            digest = hashlib.sha256(str(self.options.state).encode()).hexdigest()[:8]
            path = Path(tempfile.gettempdir()) / f"inferway-{digest}" / path.name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.unlink(missing_ok=True)
        return str(path)

    async def find(self, cache: Informer[Object], namespace: str, name: str) -> Object | None:
        """An object of a cache, or of the server where the cache may not have it yet."""
        found = cache.store.get(Key(namespace, name))
        if found is not None:
            return found
        return await self.fetch(cache.resource, namespace, name)

    async def fetch(self, resource: ResourceType, namespace: str, name: str) -> Object | None:
        """An object of the server; None if there is none."""
        try:
            return await self.client.get(resource, name, namespace)
        except NotFoundError:
            return None


@dataclass(slots=True)
class ChangeBell:
    """Wakes those who wait for any change of a referenced object."""

    _event: asyncio.Event = field(default_factory=asyncio.Event)

    def ring(self) -> None:
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self, seconds: float) -> None:
        """Returns at the next change, or when the time is over."""
        event = self._event
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return


@dataclass(frozen=True, slots=True)
class SteadyClock:
    """Seconds since the epoch that never run backwards, for the machines."""

    offset: float = field(default_factory=lambda: time.time() - time.monotonic())

    def now(self) -> float:
        return self.offset + time.monotonic()


def image_keeper(options: NodeOptions) -> ImageKeeper:
    """The image table of a node. Raises UsageError for a wrong file on the command line."""
    files = ImageFiles(options.images, options.state / "images.yaml", options.user_images)
    keeper = ImageKeeper(files, options.engine, options.runtime)
    programs = this_machine(options).programs
    settings = ImageSettings(
        images=str(options.images or ""),
        user_images=str(options.user_images or ""),
        engine=options.engine,
        runtime=options.runtime,
        python=programs.python,
        vllm_programs=programs.vllm,
        simulator_programs=programs.simulator,
    )
    with contextlib.suppress(OSError):
        # For people who ask; the node itself can do without it.
        write_settings(options.state, settings)
    return keeper


def this_machine(options: NodeOptions) -> Machine:
    """The machine that the node itself runs on."""
    vllm = str(options.engine_programs) if options.engine_programs else ""
    simulator = write_simulator_programs(options)
    programs = Programs(finder(options.python), options.python, vllm, simulator)
    return Machine(programs, dict(os.environ))


def finder(python: str) -> Callable[[str], str | None]:
    """Looks for programs beside a Python, then on PATH."""
    beside = Path(python).parent

    def find(name: str) -> str | None:
        own = beside / name
        if os.access(own, os.X_OK) and own.is_file():
            return str(own)
        return shutil.which(name)

    return find


def write_simulator_programs(options: NodeOptions) -> str:
    """A folder with ``vllm``, ``python3`` and ``python`` for containers that call vLLM in a shell.

    Its path; empty where it can not be written, as on a full disk.
    """
    folder = options.state / "programs"
    python = shlex.quote(options.python)
    simulator = f'exec {python} -m inferway simulator "$@"\n'
    server = "vllm.entrypoints.openai.api_server"
    scripts = {
        "vllm": f'#!/bin/sh\n[ "$1" = serve ] && shift\n{simulator}',
        "python3": f'#!/bin/sh\nif [ "$1 $2" = "-m {server}" ]; then\n  shift 2\n  {simulator}fi\n'
        f'exec {python} "$@"\n',
    }
    scripts["python"] = scripts["python3"]
    try:
        folder.mkdir(exist_ok=True)
        for name, text in scripts.items():
            new = folder / f".{name}.new"
            new.write_text(text)
            new.chmod(0o755)
            new.replace(folder / name)
    except OSError:
        return ""
    return str(folder.resolve())


def needed_port_offset(address: str) -> int:
    """0 where a port under 1024 can be bound, found by trying; else the offset."""
    for port in PRIVILEGED_PORTS_TRIED:
        with socket.socket() as probe:
            try:
                probe.bind((address, port))
            except PermissionError:
                return PORT_OFFSET
            except OSError:
                continue
            return 0
    return 0
