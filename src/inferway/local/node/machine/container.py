"""One container inside of a Pod's machine: its state, probes, hooks and its ending.

Gives commands through a list that the Pod's machine owns; decides nothing about other containers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from inferway.local.node.machine.backoff import RestartBackoff
from inferway.local.node.machine.plan import Container
from inferway.local.node.machine.probing import ProbeState
from inferway.local.node.machine.values import (
    Command,
    HookKind,
    ProbeDone,
    ProbeKind,
    RunHook,
    RunProbe,
    Signal,
    StartContainer,
    Started,
    StartFailed,
    Tell,
)

# A kubelet gives SIGTERM at least this long when a preStop hook used up the grace.
GRACE_AFTER_HOOK_SECONDS = 2.0
# Repeated, because a signal may race with a process that just forked.
KILL_AGAIN_SECONDS = 5.0
CREATING = "ContainerCreating"
INITIALIZING = "PodInitializing"
# As long as a kubelet takes, about, to look again at a container whose image it could not pull.
BACK_OFF_TOLD_SECONDS = 2.0
# What another image table can mend.
_IMAGE_REASONS = {"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "CreateContainerError"}


class Phase(StrEnum):
    """Where a container is. STARTING: asked for, not yet answered."""

    WAITING = "waiting"
    STARTING = "starting"
    RUNNING = "running"
    ENDED = "terminated"


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended."""

    code: int
    reason: str
    message: str
    started_at: float
    finished_at: float
    container_id: str = ""


@dataclass(slots=True)
class Ender:
    """An ending on its way: a preStop hook, then SIGTERM, then SIGKILL."""

    deadline: float
    hook_runs: bool = False
    hook_ran: bool = False
    term_sent: bool = False
    kill_at: float = 0.0
    killed_at: float | None = None


@dataclass(slots=True)
class ContainerState:
    """Mutable, owned by one Pod's machine."""

    plan: Container
    commands: list[Command]
    phase: Phase = Phase.WAITING
    reason: str = CREATING
    message: str = ""
    run: int = 0
    restart_count: int = 0
    started: bool = False
    ready: bool = False
    started_at: float = 0.0
    container_id: str = ""
    image_id: str = ""
    ending: Ending | None = None
    last: Ending | None = None
    hook_pending: bool = False
    ender: Ender | None = None
    probes: dict[ProbeKind, ProbeState] = field(default_factory=dict)
    backoff: RestartBackoff = field(default_factory=RestartBackoff)
    retry_backoff: RestartBackoff = field(default_factory=RestartBackoff)
    retry_at: float = 0.0
    pull_failed_at: float | None = None
    """Set between a failed pull and the word that its back-off has begun."""
    pulling: bool = False
    crash_message: str = ""
    """Not empty while a container that has ended waits for its back-off."""

    @property
    def alive(self) -> bool:
        """There is, or will be at once, a process."""
        return self.phase in {Phase.STARTING, Phase.RUNNING}

    # Starting.

    def start(self, now: float) -> None:
        """Asks for the process; a container that has ended counts a restart."""
        if self.phase is Phase.ENDED:
            assert self.ending is not None
            self.backoff.note_start(self.ending.finished_at, now)
            self.last, self.ending = self.ending, None
            self.restart_count += 1
            self.reason, self.message = CREATING, ""
        elif self.reason == INITIALIZING:
            self.reason = CREATING
        self.phase = Phase.STARTING
        self.crash_message = ""
        self.run += 1
        self.ready = self.started = False
        self.probes.clear()
        self.commands.append(StartContainer(self.plan.name, self.run, self.restart_count))

    def on_started(self, event: Started, now: float) -> None:
        """The process runs: hooks and probes begin."""
        self.phase = Phase.RUNNING
        self.started_at = now
        self.container_id = event.container_id
        self.image_id = event.image_id or self.image_id
        self.retry_backoff = RestartBackoff()
        self.pull_failed_at, self.pulling = None, False
        if event.pulled:
            self.tell("Pulled", event.pulled)
        else:
            present = f'Container image "{self.plan.image}" already present on machine'
            self.tell("Pulled", present)
        self.tell("Created", f"Container created: {self.plan.name}")
        self.tell("Started", f"Container started: {self.plan.name}")
        if self.ender is not None:
            return
        if self.plan.post_start is not None:
            # Until the hook has ended a container is not seen as running.
            self.hook_pending = True
            self.commands.append(RunHook(self.plan.name, HookKind.POST_START, self.run))
            return
        self._begin_probes(now)

    def _begin_probes(self, now: float) -> None:
        self.started = self.plan.startup is None
        self.ready = self.started and self.plan.readiness is None
        for kind, probe in (
            (ProbeKind.STARTUP, self.plan.startup),
            (ProbeKind.LIVENESS, self.plan.liveness),
            (ProbeKind.READINESS, self.plan.readiness),
        ):
            if probe is not None:
                early = kind is not ProbeKind.LIVENESS
                self.probes[kind] = ProbeState(probe, now, early)

    def on_post_start(self, passed: bool, message: str, now: float) -> None:
        """The postStart hook has ended; one that fails kills its container."""
        self.hook_pending = False
        if self.ender is not None or self.phase is not Phase.RUNNING:
            return
        if passed:
            self._begin_probes(now)
            return
        self.tell("FailedPostStartHook", message or "PostStartHook failed", warning=True)
        self.tell("Killing", "FailedPostStartHook")
        self.end(0.0, now)

    def on_pulling(self) -> None:
        """The image is being fetched."""
        if not self.pulling:
            self.pulling = True
            self.tell("Pulling", f'Pulling image "{self.plan.image}"')

    def on_images_changed(self, now: float) -> None:
        """The image can be run: there is no reason to wait for the back-off."""
        if self.phase is Phase.WAITING and self.reason in _IMAGE_REASONS:
            self.retry_at = now
            self.retry_backoff = RestartBackoff()

    def on_start_failed(self, event: StartFailed, now: float) -> None:
        """There is no process; either it counts as an exit, or it is tried again later."""
        if event.reason == "StartError":
            self.tell("Failed", f"Error: {event.message}", warning=True)
            self.phase = Phase.ENDED
            self.ending = Ending(128, "StartError", event.message, 0.0, now)
            self.ender = None
            return
        self.phase = Phase.WAITING
        self.ender = None
        self.retry_backoff.note_start(now, now)
        self.retry_at = now + self.retry_backoff.seconds
        image = self.plan.image
        if event.reason == "ErrImagePull":
            self.on_pulling()
            text = f'Failed to pull image "{image}": {event.message}'
            self.tell("Failed", text, warning=True)
            self.tell("Failed", "Error: ErrImagePull", warning=True)
            self.pull_failed_at = now
        elif event.reason == "InvalidImageName":
            self.tell(
                "InspectFailed",
                f'Failed to apply default image tag "{image}": {event.message}',
                warning=True,
            )
            self.tell("Failed", "Error: InvalidImageName", warning=True)
        elif event.reason == "ErrImageNeverPull":
            self.tell("ErrImageNeverPull", event.message, warning=True)
            self.tell("Failed", "Error: ErrImageNeverPull", warning=True)
        else:
            self.tell("Failed", f"Error: {event.message}", warning=True)
        self.reason, self.message = event.reason, event.message
        self.pulling = False

    def push_back_off(self, now: float) -> None:
        """Says that a failed pull waits for its back-off, a moment after it has failed."""
        moment = self.next_back_off()
        if moment is None or now < moment:
            return
        self.pull_failed_at = None
        image = self.plan.image
        self.reason = "ImagePullBackOff"
        self.message = f'Back-off pulling image "{image}": ErrImagePull: {self.message}'
        self.tell("BackOff", f'Back-off pulling image "{image}"')
        self.tell("Failed", "Error: ImagePullBackOff", warning=True)

    def next_back_off(self) -> float | None:
        """When the back-off of a failed pull is told."""
        if self.pull_failed_at is None or self.phase is not Phase.WAITING:
            return None
        return self.pull_failed_at + BACK_OFF_TOLD_SECONDS

    def on_exited(self, code: int, message: str, reason: str, now: float) -> None:
        """The main process has ended."""
        self.phase = Phase.ENDED
        self.ender = None
        self.hook_pending = False
        self.ready = self.started = False
        self.probes.clear()
        why = reason or ("Completed" if code == 0 else "Error")
        self.ending = Ending(code, why, message, self.started_at, now, self.container_id)

    # Probes.

    def look(self, now: float) -> None:
        """Sends out the probes that are due."""
        if self.phase is not Phase.RUNNING or self.ender is not None or self.hook_pending:
            return
        for kind, state in self.probes.items():
            if not self._wanted(kind) or not state.due(now):
                continue
            state.begin(now)
            self.commands.append(RunProbe(self.plan.name, kind, self.run))

    def _wanted(self, kind: ProbeKind) -> bool:
        return (not self.started) if kind is ProbeKind.STARTUP else self.started

    def on_probe(self, event: ProbeDone, pod_grace_seconds: float, now: float) -> None:
        """Takes a probe's answer; may begin to end the container."""
        state = self.probes.get(event.kind)
        if event.run != self.run or state is None or self.ender is not None:
            return
        if state.answer(event.passed, now):
            text = f"{event.kind.value} probe failed: {event.message}"
            self.tell("Unhealthy", text, warning=True)
        if event.kind is ProbeKind.STARTUP and state.verdict:
            self.started = True
            self.ready = self.plan.readiness is None
        elif event.kind is ProbeKind.READINESS:
            self.ready = state.verdict is True
        elif state.failed_for_good:
            name = self.plan.name
            word = event.kind.value.lower()
            self.tell("Killing", f"Container {name} failed {word} probe, will be restarted")
            grace = state.probe.termination_grace_period_seconds
            self.end(pod_grace_seconds if grace is None else float(grace), now)

    def next_look(self) -> float | None:
        """When the next probe is due."""
        if self.phase is not Phase.RUNNING or self.ender is not None or self.hook_pending:
            return None
        times = [
            state.next_at
            for kind, state in self.probes.items()
            if self._wanted(kind) and not state.in_flight
        ]
        return min(times, default=None)

    # Ending.

    def end(self, grace_seconds: float, now: float) -> None:
        """Begins to end the container, or shortens an ending that has begun."""
        if not self.alive:
            return
        if self.ender is not None:
            deadline = now + grace_seconds
            if deadline < self.ender.deadline:
                self.ender.deadline = self.ender.kill_at = deadline
                self.push_end(now)
            return
        self.ready = False
        self.ender = Ender(now + grace_seconds, kill_at=now + grace_seconds)
        if self.plan.pre_stop is not None and grace_seconds > 0 and self.phase is Phase.RUNNING:
            self.ender.hook_runs = self.ender.hook_ran = True
            self.commands.append(RunHook(self.plan.name, HookKind.PRE_STOP, self.run))
        self.push_end(now)

    def on_pre_stop(self, passed: bool, message: str, now: float) -> None:
        """The preStop hook has ended; SIGTERM follows either way."""
        if not passed:
            self.tell("FailedPreStopHook", message or "PreStopHook failed", warning=True)
        if self.ender is not None:
            self.ender.hook_runs = False
            self.push_end(now)

    def push_end(self, now: float) -> None:
        """Takes the next step of an ending, if it is time for one."""
        ender = self.ender
        if ender is None or self.phase is not Phase.RUNNING:
            return
        if ender.hook_runs and now >= ender.deadline:
            ender.hook_runs = False
        if ender.hook_runs:
            return
        if not ender.term_sent:
            ender.term_sent = True
            least = GRACE_AFTER_HOOK_SECONDS if ender.hook_ran else 0.0
            ender.kill_at = max(ender.deadline, now + least)
            if ender.kill_at > now:
                self.commands.append(Signal(self.plan.name, kill=False))
        if now >= ender.kill_at and (
            ender.killed_at is None or now - ender.killed_at >= KILL_AGAIN_SECONDS
        ):
            ender.killed_at = now
            self.commands.append(Signal(self.plan.name, kill=True))

    def next_push(self) -> float | None:
        """When the ending needs its next step."""
        if self.ender is None or self.phase is not Phase.RUNNING:
            return None
        if self.ender.killed_at is not None:
            return self.ender.killed_at + KILL_AGAIN_SECONDS
        return self.ender.deadline if self.ender.hook_runs else self.ender.kill_at

    def tell(self, reason: str, message: str, *, warning: bool = False) -> None:
        """An Event about this container."""
        self.commands.append(Tell(warning, reason, message, self.plan.field_path))
