"""One Pod's worker: feeds its machine with events and carries out the machine's commands.

The only place where a Pod's machine meets processes, files and the API. Nothing here decides.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import signal
from collections.abc import Awaitable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

from inferway.api import codec
from inferway.api.pods import Container, Pod
from inferway.api.resources import PODS
from inferway.base.errors import InferwayError
from inferway.cluster.errors import ApiError, NotFoundError
from inferway.cluster.events import reference
from inferway.cluster.status import write_status
from inferway.local.node import images, launching
from inferway.local.node.addressing import PodAddress, pod_address
from inferway.local.node.containing import ContainerStart, Containing, leaves_pod_network
from inferway.local.node.environment import MissingError, service_variables
from inferway.local.node.logreader import last_words
from inferway.local.node.machine import values as v
from inferway.local.node.machine.plan import read_plan, restart_counts
from inferway.local.node.machine.pod import PodMachine
from inferway.local.node.machine.status import pod_status
from inferway.local.node.parts import NodeParts
from inferway.local.node.placing import PodFolder
from inferway.local.node.podsandbox import PodSandbox
from inferway.local.node.sandboxes import SandboxEvent
from inferway.local.node.state import PodRecord, PodRecords

_log = logging.getLogger(__name__)
Object = dict[str, Any]

# A machine that wants a look at once gets it after the loop had a turn for others.
TICK_SECONDS_MIN = 0.01
STATUS_RETRY_SECONDS = 1.0
STATUS_SETTLE_SECONDS = 0.02
HOOK_SECONDS_MAX = 3600.0
# Killing the processes of a Pod takes milliseconds.
END_SECONDS_MAX = 3.0
# Exit codes of podman and docker themselves: an error, not executable, not found.
CLIENT_CODES = (125, 126, 127)


class PodWorker:
    """One Pod on this node, from the moment it is seen until it is gone."""

    def __init__(self, parts: NodeParts, records: PodRecords, raw: Object) -> None:
        self.raw = raw
        self.uid = str(raw["metadata"]["uid"])
        self.keep_object = False
        self.gone = False
        self._ending = bool(raw["metadata"].get("deletionTimestamp"))
        self._parts = parts
        self._records = records
        self._pod = codec.decode(Pod, raw)
        self._events: asyncio.Queue[v.Event] = asyncio.Queue()
        self._status_wanted = asyncio.Event()
        self._done = asyncio.Event()
        self._sandbox: PodSandbox | None = None
        self._address = PodAddress("", owned=False, bind_ip="")
        self._place: launching.PodPlace | None = None
        self._folder = PodFolder(parts, self._pod, parts.options.state / "pods" / self.uid)
        meta = self._pod.metadata
        self.logs = parts.options.state / "logs" / f"{meta.namespace}_{meta.name}_{self.uid}"
        counts = restart_counts(raw)
        self._machine = PodMachine(read_plan(self._pod), parts.steady.now(), counts)
        self._group: asyncio.TaskGroup | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    # What the outside says.

    def update(self, raw: Object) -> None:
        """The Pod's object has changed."""
        was_deleting = bool(self.raw["metadata"].get("deletionTimestamp"))
        grace_before = self.raw["metadata"].get("deletionGracePeriodSeconds")
        self.raw = raw
        self._pod = codec.decode(Pod, raw)
        self._folder.pod = self._pod
        meta = raw["metadata"]
        if meta.get("deletionTimestamp"):
            grace = meta.get("deletionGracePeriodSeconds")
            self._ending = True
            if not was_deleting or grace != grace_before:
                self._events.put_nowait(v.Deleted(30.0 if grace is None else float(grace)))
        self._status_wanted.set()

    def end(self, grace_seconds: float, *, keep_object: bool) -> None:
        """Ends the Pod's processes; with ``keep_object`` nothing more is written of it."""
        self._ending = True
        self.keep_object = self.keep_object or keep_object
        self._events.put_nowait(v.Deleted(grace_seconds))

    def images_changed(self) -> None:
        """The image table is another one: what waits for an entry may have it."""
        self._events.put_nowait(v.ImagesChanged(self._runnable()))

    def _runnable(self) -> frozenset[str]:
        """Containers whose images have an entry."""
        specs = [state.plan.spec for state in self._machine.containers.values()]
        return frozenset(
            spec.name
            for spec in specs
            if isinstance(
                images.find_mapping(self._parts.table, spec.image, pull_never=False),
                images.Mapping,
            )
        )

    @property
    def container_names(self) -> list[str]:
        return list(self._machine.containers)

    def restart_count(self, container: str) -> int:
        """Which run's log is the latest one."""
        return self._machine.containers[container].restart_count

    def waiting_reason(self, container: str) -> str:
        """Why a container does not run."""
        state = self._machine.containers[container]
        return state.message or state.reason

    def is_running(self, container: str) -> bool:
        return self._machine.containers[container].alive

    # The loop.

    async def run(self) -> None:
        """Works until the Pod is gone."""
        if self.raw["metadata"].get("deletionTimestamp"):
            grace = self.raw["metadata"].get("deletionGracePeriodSeconds") or 0
            self._events.put_nowait(v.Deleted(float(grace)))
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                status = group.create_task(self._keep_status(), name=f"status {self.uid}")
                files = group.create_task(self._keep_files(), name=f"files {self.uid}")
                await self._loop()
                # A hook that hangs must not hold its Pod.
                for task in (status, files, *self._tasks):
                    task.cancel()
        finally:
            await self._clean_up()
        if not self.keep_object:
            await self._remove_object()

    async def _loop(self) -> None:
        self._obey(self._machine.begin(self._parts.steady.now()))
        while not self._done.is_set():
            event = await self._next_event()
            now = self._parts.steady.now()
            try:
                commands = self._machine.handle(event, now)
            except Exception:
                # One Pod's trouble is not the node's; the Pod is looked at again.
                _log.exception("a Pod's machine failed", extra={"data": {"uid": self.uid}})
                await asyncio.sleep(STATUS_RETRY_SECONDS)
                continue
            self._obey(commands)
            self._status_wanted.set()

    async def _next_event(self) -> v.Event:
        moment = self._machine.next_at()
        if moment is None:
            return await self._events.get()
        pause = max(TICK_SECONDS_MIN, moment - self._parts.steady.now())
        try:
            async with asyncio.timeout(pause):
                return await self._events.get()
        except TimeoutError:
            return v.Tick()

    def _obey(self, commands: list[v.Command]) -> None:
        for command in commands:
            match command:
                case v.PrepareVolumes():
                    self._spawn(self._prepare(), "prepare")
                case v.CreateSandbox():
                    self._spawn(self._create_sandbox(), "sandbox")
                case v.EndSandbox():
                    self._end_sandbox()
                case v.StartContainer(name, _, restart_count):
                    self._spawn(self._start(name, restart_count), f"start {name}")
                case v.Signal(name, kill):
                    if self._sandbox is not None:
                        self._sandbox.signal(name, signal.SIGKILL if kill else signal.SIGTERM)
                case v.RunProbe(name, kind, run):
                    self._spawn(self._probe(name, kind, run), f"probe {name}")
                case v.RunHook(name, hook, run):
                    self._spawn(self._hook(name, hook, run), f"hook {name}")
                case v.Tell():
                    self._tell(command)
                case v.Finish():
                    self._done.set()

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        assert self._group is not None
        task = self._group.create_task(self._guarded(work), name=f"{name} {self.uid}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, work: Awaitable[None]) -> None:
        try:
            await work
        except Exception:
            _log.exception("a Pod's task failed", extra={"data": {"uid": self.uid}})

    def _put(self, event: v.Event) -> None:
        self._events.put_nowait(event)

    def _tell(self, command: v.Tell) -> None:
        if self.keep_object:
            return
        about = reference(self.raw, "Pod", "v1")
        if command.field_path:
            about = {**about, "fieldPath": command.field_path}
        level = "Warning" if command.warning else "Normal"
        self._parts.events.event(about, level, command.reason, command.message)  # type: ignore[arg-type]

    # Commands.

    async def _prepare(self) -> None:
        try:
            self._address = await pod_address(self._parts, self._pod, lambda: self._ending)
        except (InferwayError, MissingError) as error:
            self._put(v.VolumesFailed(str(error), "FailedCreatePodSandBox"))
            return
        self._folder.pod_ip = self._address.ip
        try:
            self._folder.root.mkdir(parents=True, exist_ok=True)
            await self._folder.prepare()
        except (MissingError, OSError, InferwayError) as error:
            self._put(v.VolumesFailed(str(error)))
            return
        self._put(v.VolumesReady())

    async def _create_sandbox(self) -> None:
        parts, spec = self._parts, self._pod.spec
        mappings = [
            found
            for container in (*spec.containers, *spec.init_containers)
            if isinstance(
                found := images.find_mapping(parts.table, container.image, pull_never=False),
                images.Mapping,
            )
        ]
        isolated = parts.isolation.level != "none"
        host = launching.wants_host_network(self._pod, mappings, isolated=isolated)
        host = host or leaves_pod_network(parts.table, self._pod, parts.isolation)
        address = "" if host else self._address.ip
        host_name = spec.hostname or self._pod.metadata.name
        try:
            sandbox = PodSandbox(parts.launcher, self._spawn, self._on_sandbox_event)
            await sandbox.create(parts.isolation, address, host_name)
        except OSError as error:
            self._put(v.SandboxFailed(str(error)))
            return
        self._sandbox = sandbox
        self._records.put(PodRecord.of(self.uid, sandbox.pid))
        namespace = self._pod.metadata.namespace
        services = [
            service
            for key, service in parts.caches.services.store.items()
            if key.namespace == namespace and spec.enable_service_links
        ]
        self._place = launching.PodPlace(
            pod_ip=self._address.ip,
            bind_ip=self._address.bind_ip,
            host_network=host,
            isolated=isolated,
            folders=self._folder.folders,
            logs=self.logs,
            extra_mounts=self._folder.extra_mounts(host_name),
            account_dir=self._folder.account_dir,
            pick_socket=parts.pick_socket(self.uid),
            services=service_variables(services),
            api_server=parts.api_server,
            port_offset=parts.port_offset,
        )
        self._put(v.SandboxReady(self._address.ip))

    def _on_sandbox_event(self, event: SandboxEvent) -> None:
        match event.kind:
            case "started":
                self._put(self._started(event.ident))
            case "failed":
                self._put(v.StartFailed(event.ident, event.reason, event.message))
            case "exited":
                message = self._last_words(event.ident, event.code)
                killed = self._parts.limits.was_out_of_memory(self.uid, event.ident)
                reason = "OOMKilled" if killed and event.code == 137 else ""
                self._put(v.Exited(event.ident, event.code, message, reason))
            case "gone":
                self._sandbox = None
                self._records.remove(self.uid)
                self._put(v.SandboxGone())

    def _started(self, name: str) -> v.Started:
        run = self._sandbox.contained.get(name) if self._sandbox is not None else None
        if run is None:
            return v.Started(name, f"inferway://{self.uid}-{name}", "inferway://local")
        identity = f"{run.engine.runtime}://{run.name}"
        return v.Started(name, identity, run.image_id, run.pulled)

    def _last_words(self, name: str, code: int) -> str:
        """The end of the log, for containers that want it as their termination message."""
        state = self._machine.containers[name]
        policy = state.plan.spec.termination_message_policy
        # Here the client of the container engine says why it could not start the container.
        refused = not state.container_id.startswith("inferway:") and code in CLIENT_CODES
        # A model that does not load is said in the log alone, and vLLM's images ask for nothing.
        mapping = images.find_mapping(self._parts.table, state.plan.spec.image, pull_never=False)
        engine = isinstance(mapping, images.Mapping) and mapping.engine == "vllm"
        wanted = engine or policy == "FallbackToLogsOnError"
        if not refused and (code == 0 or not wanted):
            return ""
        path = launching.log_file(self.logs, name, state.restart_count)
        return last_words(path)

    def _end_sandbox(self) -> None:
        if self._sandbox is None:
            self._put(v.SandboxGone())
        else:
            self._spawn(self._see_end(self._sandbox), "end")

    async def _see_end(self, sandbox: PodSandbox) -> None:
        await sandbox.end()
        try:
            async with asyncio.timeout(END_SECONDS_MAX):
                await sandbox.closed.wait()
        except TimeoutError:
            sandbox.kill()

    async def _start(self, name: str, restart_count: int) -> None:
        container = self._machine.containers[name].plan.spec
        never = container.image_pull_policy == "Never"
        self._parts.images.look()
        mapping = images.find_mapping(self._parts.table, container.image, pull_never=never)
        if isinstance(mapping, images.ImageProblem):
            self._put(v.StartFailed(name, mapping.reason, mapping.message))
            return
        assert self._place is not None
        try:
            await self._folder.look_up_environment(container)
            if images.runtime_of(self._parts.table, mapping) != "process":
                await self._start_contained(container, mapping, restart_count)
                return
            launch = launching.make_launch(
                container,
                mapping,
                self._place,
                self._folder.environment(),
                self._parts.machine,
                restart_count,
            )
        except (MissingError, InferwayError) as error:
            self._put(v.StartFailed(name, "CreateContainerConfigError", str(error)))
            return
        if isinstance(launch, images.ImageProblem):
            self._put(v.StartFailed(name, launch.reason, launch.message))
            return
        Path(launch.log).parent.mkdir(parents=True, exist_ok=True)
        if "INFERWAY_PICK_SOCKET" in launch.env:
            await self._announce(launch.env["INFERWAY_PICK_SOCKET"])
        if self._sandbox is not None:
            group = self._parts.limits.group(self.uid, container)
            self._sandbox.start(name, replace(launch, cgroup=group))

    async def _start_contained(
        self, container: Container, mapping: images.Mapping, restart_count: int
    ) -> None:
        containing = Containing(self._parts, self._folder, self._put)
        place, sandbox = self._place, self._sandbox
        assert place is not None
        if sandbox is None:
            return
        try:
            wish = ContainerStart(container, mapping, place, restart_count)
            problem = await containing.start(wish, sandbox)
        except OSError as error:
            problem = images.ImageProblem("CreateContainerError", str(error))
        if problem is not None:
            self._put(v.StartFailed(container.name, problem.reason, problem.message))

    async def _announce(self, path: str) -> None:
        key = "inferway.dev/pick-socket"
        if self._pod.metadata.annotations.get(key) == path:
            return
        meta = self._pod.metadata
        patch = {"metadata": {"uid": meta.uid, "annotations": {key: path}}}
        try:
            await self._parts.client.patch(PODS, meta.name, patch, meta.namespace)
        except InferwayError as error:
            # The pick port serves as well; the next start tells again.
            _log.warning("a pick socket was not announced", extra={"data": {"error": str(error)}})

    async def _probe(self, name: str, kind: v.ProbeKind, run: int) -> None:
        plan = self._machine.containers[name].plan
        probe = {
            v.ProbeKind.STARTUP: plan.startup,
            v.ProbeKind.LIVENESS: plan.liveness,
            v.ProbeKind.READINESS: plan.readiness,
        }[kind]
        if probe is None or self._sandbox is None:
            return
        passed, message = await self._parts.prober.probe(
            probe, plan.spec, self._address.ip, self._sandbox
        )
        self._put(v.ProbeDone(name, kind, passed, message, run))

    async def _hook(self, name: str, kind: v.HookKind, run: int) -> None:
        plan = self._machine.containers[name].plan
        handler = plan.post_start if kind is v.HookKind.POST_START else plan.pre_stop
        if handler is None or self._sandbox is None:
            self._put(v.HookDone(name, kind, True, "", run))
            return
        passed, message = await self._parts.prober.hook(
            handler, plan.spec, self._address.ip, self._sandbox, HOOK_SECONDS_MAX
        )
        self._put(v.HookDone(name, kind, passed, message, run))

    # Files, status and the end.

    async def _keep_files(self) -> None:
        """Brings changed ConfigMaps, Secrets, labels and tokens into the files."""
        while True:
            renewal = self._folder.token_renewal()
            pause = 3600.0 if renewal is None else max(1.0, renewal - self._parts.steady.now())
            await self._parts.changes.wait(min(pause, 3600.0))
            if self._place is None or not self._folder.is_stale():
                continue
            try:
                await self._folder.refresh()
            except (MissingError, OSError, InferwayError) as error:
                # The files stay as they are, as in a cluster.
                _log.info(
                    "a volume was not updated",
                    extra={"data": {"uid": self.uid, "error": str(error)}},
                )

    async def _keep_status(self) -> None:
        while True:
            await self._status_wanted.wait()
            # A container starts within this time, so that one write tells of it.
            await asyncio.sleep(STATUS_SETTLE_SECONDS)
            self._status_wanted.clear()
            try:
                await self._write_status()
            except InferwayError as error:
                if not isinstance(error, NotFoundError):
                    _log.debug("a status was not written", extra={"data": {"error": str(error)}})
                    await asyncio.sleep(STATUS_RETRY_SECONDS)
                    self._status_wanted.set()

    async def _write_status(self) -> None:
        if self.keep_object:
            return
        host_ip, now = self._parts.options.host_ip, self._parts.steady.now()
        status = pod_status(self._machine, self.raw, host_ip, now)
        written = await write_status(self._parts.client, PODS, self.raw, status)
        if written is not None and written["metadata"].get("uid") == self.uid:
            self.raw = {**self.raw, "status": written.get("status") or {}}

    async def _clean_up(self) -> None:
        sandbox = self._sandbox
        if sandbox is not None:
            sandbox.end_pauses()
            sandbox.kill()
        self._records.remove(self.uid)
        self._parts.addresses.release(self.uid)
        self._folder.remove()
        self._parts.limits.remove(self.uid)
        if self.gone or not self.keep_object:
            shutil.rmtree(self.logs, ignore_errors=True)

    async def _remove_object(self) -> None:
        meta = self.raw["metadata"]
        try:
            await self._write_status()
            await self._parts.client.delete(
                PODS, meta["name"], meta["namespace"], grace_seconds=0, uid=self.uid
            )
        except NotFoundError:
            return
        except ApiError as error:
            _log.warning("a Pod was not removed", extra={"data": {"error": str(error)}})
