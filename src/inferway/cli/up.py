"""``inferway up``: a cluster on this machine, and in it the same manifests that the charts render.

Starts the API server, the controllers and the node in this process; everything else is a Pod.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from inferway.base.errors import InferwayError
from inferway.cli import demo
from inferway.cli.envoy_binary import require_envoy
from inferway.cli.images import require_runtime
from inferway.cli.progress import Steps
from inferway.cli.stack import StackOptions, running_stack
from inferway.cli.state import (
    EngineNote,
    StateFolder,
    claimed_network,
    held,
    open_folder,
    own_record,
    unusable,
)
from inferway.cli.vllm.choice import Choice, choose
from inferway.cli.vllm.programs import write_programs
from inferway.cluster import kubeconfig
from inferway.cluster.client import KubeClient
from inferway.local.node.imagekeeper import user_file
from inferway.local.node.images import Runtime
from inferway.observe import logs

# Without --timeout: the simulated servers are there in seconds, a model has to be read first.
DEMO_SECONDS_MAX = 120
VLLM_SECONDS_MAX = 900


@dataclass(frozen=True, slots=True)
class UpOptions:
    """What the command line says."""

    state: str | None = None
    empty: bool = False
    node_capacity: str | None = None
    timeout: int | None = None
    images: str | None = None
    runtime: Runtime = "process"
    engine: str = "simulator"
    model: tuple[str, ...] = ()


def run(options: UpOptions, env: Mapping[str, str]) -> int:
    """Runs a stack until it is told to stop. Raises InferwayError when it cannot start."""
    folder = open_folder(options.state, env, create=True)
    require_envoy()
    require_runtime(options.runtime, env)
    console = Console(stderr=True)
    with held(folder), claimed_network(folder) as network:
        engine = choose(options.engine, options.model, env, empty=options.empty)
        note = EngineNote(engine.engine, engine.why, engine.version, dict(engine.models))
        own_record(folder, network, empty=options.empty, engine=note)
        _log_to(folder, env.get("INFERWAY_LOG_LEVEL", "info"))
        stack = StackOptions(
            folder=folder,
            network=network,
            node_capacity=options.node_capacity,
            images=options.images,
            user_images=user_file(env),
            runtime=options.runtime,
            engine=engine.engine,
            engine_programs=_programs(folder, engine),
        )
        try:
            asyncio.run(_up(stack, _Start(options, engine), console))
        except BaseExceptionGroup as group:
            raise _first_cause(group) from None
    return 0


@dataclass(frozen=True, slots=True)
class _Start:
    """What is to be started, and with which engine."""

    options: UpOptions
    engine: Choice

    @property
    def seconds_max(self) -> int:
        if self.options.timeout is not None:
            return self.options.timeout
        return VLLM_SECONDS_MAX if self.engine.engine == "vllm" else DEMO_SECONDS_MAX


def _programs(folder: StateFolder, engine: Choice) -> Path | None:
    if engine.engine != "vllm":
        return None
    try:
        return write_programs(folder.engine, engine.python, engine.models, engine.cache)
    except OSError as error:
        raise unusable(folder.engine, error) from None


def _log_to(folder: StateFolder, level: str) -> None:
    try:
        logs.install_file(str(folder.log_file), level)
    except OSError as error:
        raise unusable(folder.log_file, error) from None


def _first_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error to tell the user of: the first InferwayError, else the first of all."""
    leaves: list[BaseException] = []

    def collect(error: BaseException) -> None:
        if isinstance(error, BaseExceptionGroup):
            for inner in error.exceptions:
                collect(inner)
        else:
            leaves.append(error)

    collect(group)
    return next((leaf for leaf in leaves if isinstance(leaf, InferwayError)), leaves[0])


async def _up(stack: StackOptions, start: _Start, console: Console) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    steps = Steps(console, time.monotonic)
    steps.begin("Kubernetes API server, controllers and node")
    async with running_stack(stack), asyncio.TaskGroup() as group:
        told = group.create_task(_tell(stack.folder, start, console, steps), name="start")
        await _first_of(stop, told)
        steps.stop()
        if not stop.is_set():
            await stop.wait()
        told.cancel()
        console.print("Stopping; Ctrl-C again ends it at once.", highlight=False)
        loop.add_signal_handler(signal.SIGINT, os._exit, 130)


async def _first_of(stop: asyncio.Event, task: asyncio.Task[None]) -> None:
    """Returns when the user wants to stop or the stack has started; start errors are raised."""
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({stopping, task}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
    if task.done():
        task.result()


async def _tell(folder: StateFolder, start: _Start, console: Console, steps: Steps) -> None:
    """Applies the demo, shows how it comes up, and prints what to try."""
    async with KubeClient(kubeconfig.load(folder.kubeconfig)) as client:
        await demo.wait_for_node(client)
        if start.options.empty:
            steps.end()
            demo.print_empty(console, folder)
            return
        await demo.apply(client, steps, start.engine)
        try:
            found = await demo.wait(client, steps, seconds=start.seconds_max)
        except InferwayError as error:
            # What does not start is looked at best where it runs, so the stack stays.
            steps.stop()
            console.print(f"\ninferway: {error}", highlight=False, markup=False, soft_wrap=True)
            demo.print_unready(console, folder)
            return
    steps.end()
    demo.print_next(console, folder, found, start.engine)
    sys.stderr.flush()
    logging.getLogger(__name__).info("the stack is up")
