"""All that runs for one Pod: processes in its namespaces, and containers of podman or docker.

The clients of a container engine run under a second pause process without namespaces, which keeps
their logs and ends with the node as the first one does.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from inferway.local.node.containerengine import ContainerEngine
from inferway.local.node.sandboxes import Isolation, Launch, Launcher, Sandbox, SandboxEvent

# A container of a large image on a slow disk; after this its probes say what is wrong.
RUNNING_SECONDS_MAX = 60.0
# One look is one short process.
RUNNING_LOOK_SECONDS = 0.1
# The client itself takes part of a second, on a busy machine more; a probe's time is the command's.
EXECUTE_SECONDS_MORE = 3.0
Spawn = Callable[[Coroutine[Any, Any, None], str], None]


@dataclass(frozen=True, slots=True)
class Contained:
    """One run of a container in an engine."""

    engine: ContainerEngine
    name: str
    image_id: str
    pulled: str = ""
    publishes: bool = False


class PodSandbox:
    """``spawn`` runs work in the Pod's task group."""

    def __init__(
        self, launcher: Launcher, spawn: Spawn, notify: Callable[[SandboxEvent], None]
    ) -> None:
        self.closed = asyncio.Event()
        self.contained: dict[str, Contained] = {}
        self.starting = asyncio.Lock()
        """Held by whoever starts a container of an engine."""
        self._inner: Sandbox | None = None
        self._outer: Sandbox | None = None
        self._launcher = launcher
        self._spawn = spawn
        self._notify = notify
        self._serial = 0
        self._settled: dict[str, asyncio.Event] = {}
        """By the name of a run: set when its container runs or has ended."""
        self._removals = 0
        self._none_removed = asyncio.Event()
        self._none_removed.set()

    async def create(self, isolation: Isolation, address: str, host_name: str) -> None:
        """Makes the Pod's namespaces, as ``Launcher.create``. Raises OSError."""
        create = self._launcher.create
        self._inner = await create(isolation, address, host_name, self.on_event)

    @property
    def pid(self) -> int:
        """The process that holds the Pod's namespaces."""
        return self._inner.pid if self._inner is not None else 0

    @property
    def network_path(self) -> str:
        return f"/proc/{self.pid}/ns/net"

    @property
    def publisher(self) -> str:
        """The container whose network is offered at the Pod's address; empty if there is none."""
        return next((one.name for one in self.contained.values() if one.publishes), "")

    def next_name(self, uid: str, container: str) -> str:
        """A name that no other run of any container has."""
        self._serial += 1
        return f"inferway-{uid}-{container}-{self.pid}-{self._serial}"

    def on_event(self, event: SandboxEvent) -> None:
        """Takes what a pause says; the Pod is gone when both are."""
        if event.kind == "gone":
            self._on_gone()
            return
        run = self.contained.get(event.ident)
        if run is None or event.kind not in ("started", "exited", "failed"):
            self._notify(event)
        elif event.kind == "started":
            self._spawn(self._tell_running(event, run), f"await {run.name}")
        else:
            if event.kind == "exited":
                self._tell_started(SandboxEvent("started", event.ident), run)
            del self.contained[event.ident]
            self._settled.pop(run.name).set()
            self._remove(run)
            self._notify(event)

    def _remove(self, run: Contained) -> None:
        """Takes away what a client may have left of its container."""
        self._removals += 1
        self._none_removed.clear()
        self._spawn(self._see_removal(run), f"remove {run.name}")

    async def _see_removal(self, run: Contained) -> None:
        try:
            await run.engine.remove([run.name])
        finally:
            self._removals -= 1
            if self._removals == 0:
                self._none_removed.set()

    async def _tell_running(self, event: SandboxEvent, run: Contained) -> None:
        """The client was started; its container runs a moment later."""
        ends = asyncio.get_running_loop().time() + RUNNING_SECONDS_MAX
        while self.contained.get(event.ident) is run:
            late = asyncio.get_running_loop().time() >= ends
            if late or await run.engine.is_running(run.name):
                self._tell_started(event, run)
                return
            await asyncio.sleep(RUNNING_LOOK_SECONDS)

    def _tell_started(self, event: SandboxEvent, run: Contained) -> None:
        settled = self._settled.get(run.name)
        if self.contained.get(event.ident) is run and settled is not None and not settled.is_set():
            settled.set()
            self._notify(event)

    def _on_gone(self) -> None:
        # Without one half a Pod is none.
        for half in (self._inner, self._outer):
            if half is not None and not half.closed.is_set():
                half.end()
                return
        left, self.contained = list(self.contained.values()), {}
        for settled in self._settled.values():
            settled.set()
        for one in left:
            self._remove(one)
        if not self.closed.is_set():
            self.closed.set()
            self._notify(SandboxEvent("gone"))

    def start(self, ident: str, launch: Launch) -> None:
        """Starts a process in the Pod's namespaces."""
        if self._inner is not None:
            self._inner.start(ident, launch)

    async def start_contained(self, ident: str, launch: Launch, contained: Contained) -> None:
        """Starts a container in its engine. Raises OSError."""
        assert self.starting.locked(), "containers of a Pod that start side by side share a pause"
        if self._outer is None:
            isolation = Isolation("none")
            self._outer = await self._launcher.create(isolation, "", "", self.on_event)
        self.contained[ident] = contained
        self._settled[contained.name] = asyncio.Event()
        self._outer.start(ident, launch)

    async def until_running(self, ident: str, run: Contained) -> None:
        """Returns when a container runs, or has ended."""
        settled = self._settled.get(run.name)
        if self.contained.get(ident) is run and settled is not None:
            await settled.wait()

    def signal(self, ident: str, number: int) -> None:
        """The client passes signals on, but for the last one."""
        contained = self.contained.get(ident)
        if contained is None or self._outer is None:
            if self._inner is not None:
                self._inner.signal(ident, number)
        elif number == signal.SIGKILL:
            self._spawn(self._kill(ident, contained), f"kill {contained.name}")
        else:
            self._outer.signal(ident, number)

    async def _kill(self, ident: str, contained: Contained) -> None:
        await contained.engine.kill(contained.name)
        if self._outer is not None and self.contained.get(ident) is contained:
            self._outer.signal(ident, signal.SIGKILL)

    async def execute(
        self, container: str, argv: list[str], seconds: float
    ) -> tuple[int, bytes] | None:
        """As ``Sandbox.execute``, in a container of an engine too."""
        contained = self.contained.get(container)
        if contained is None or self._outer is None:
            assert self._inner is not None
            return await self._inner.execute(container, argv, seconds)
        words = [contained.engine.program, "exec", contained.name, *argv]
        return await self._outer.execute(container, words, seconds + EXECUTE_SECONDS_MORE)

    async def end(self) -> None:
        """Kills everything in the Pod."""
        for one in list(self.contained.values()):
            await one.engine.remove([one.name])
        await self._none_removed.wait()
        self.end_pauses()

    def end_pauses(self) -> None:
        """Kills what the pauses hold, without a word to the engine."""
        for half in (self._inner, self._outer):
            if half is not None:
                half.end()

    def kill(self) -> None:
        """The hard way, for pauses that do not react."""
        for half in (self._inner, self._outer):
            if half is not None:
                half.kill()
