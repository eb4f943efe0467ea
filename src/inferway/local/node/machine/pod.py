"""The Pod's machine: ``handle(event, now) -> list[command]``.

Level-based as a kubelet's sync: each event changes a fact, then the machine looks at all facts and
gives the commands that are missing. ``now`` is in seconds; it never runs backwards and its zero is
the epoch's, because it becomes timestamps. ``next_at`` says when a Tick is wanted.
"""

from __future__ import annotations

from collections.abc import Mapping

from inferway.local.node.machine.backoff import go_seconds
from inferway.local.node.machine.container import (
    CREATING,
    INITIALIZING,
    ContainerState,
    Phase,
)
from inferway.local.node.machine.plan import PodPlan
from inferway.local.node.machine.values import (
    Command,
    CreateSandbox,
    Deleted,
    EndSandbox,
    Event,
    Exited,
    Finish,
    HookDone,
    HookKind,
    ImagesChanged,
    PrepareVolumes,
    ProbeDone,
    Pulling,
    SandboxFailed,
    SandboxGone,
    SandboxReady,
    Started,
    StartFailed,
    Tell,
    Tick,
    VolumesFailed,
    VolumesReady,
)

# A missing ConfigMap or a taken address may appear at any time; a kubelet looks as often.
RETRY_SECONDS = 2.0


class PodMachine:
    """One Pod. ``restart_counts`` are those of an earlier life of the node."""

    def __init__(
        self, plan: PodPlan, now: float, restart_counts: Mapping[str, int] | None = None
    ) -> None:
        self.plan = plan
        self.started_at = now
        self.pod_ip = ""
        self.initialized = False
        self.volumes_message = ""
        self.sandbox_message = ""
        self.deleting = False
        self.final_phase = ""
        self.final_reason = ""
        self.final_message = ""
        self.finished = False
        self._commands: list[Command] = []
        self._volumes = ""
        self._sandbox = ""
        self._retry_at: float | None = None
        self._end_deadline = 0.0
        self._looked_at = now
        self.containers: dict[str, ContainerState] = {}
        waiting = INITIALIZING if plan.init_containers else CREATING
        for container in (*plan.init_containers, *plan.containers):
            state = ContainerState(container, self._commands, reason=waiting)
            state.restart_count = (restart_counts or {}).get(container.name, 0)
            self.containers[container.name] = state

    def begin(self, now: float) -> list[Command]:
        """The first commands."""
        return self.handle(Tick(), now)

    def handle(self, event: Event, now: float) -> list[Command]:
        """Takes one event."""
        self._note(event, now)
        self._sync(now)
        self._looked_at = now
        commands = list(self._commands)
        self._commands.clear()
        return commands

    def next_at(self) -> float | None:
        """When the machine wants a Tick; None if only events can change something."""
        ending = self.deleting or bool(self.final_phase)
        times = [self._retry_at] if self._retry_at is not None and not ending else []
        if self.plan.deadline_seconds is not None and not ending:
            times.append(self.started_at + self.plan.deadline_seconds)
        for state in self.containers.values():
            moments = [state.next_look(), state.next_push(), self._restart_at(state)]
            if not ending:
                moments.append(state.next_back_off())
            times.extend(moment for moment in moments if moment is not None)
        # What was due at the last look and was not done waits for an event, not for the time.
        return min((moment for moment in times if moment > self._looked_at), default=None)

    # Facts.

    def _note(self, event: Event, now: float) -> None:
        match event:
            case VolumesReady() | VolumesFailed() if self._volumes != "asked":
                pass
            case SandboxReady() | SandboxFailed() if self._sandbox != "asked":
                pass
            case SandboxGone() if self._sandbox not in {"ready", "ending"}:
                pass
            case VolumesReady():
                self._volumes, self.volumes_message, self._retry_at = "ready", "", None
            case VolumesFailed(message, reason):
                self._volumes, self._retry_at = "failed", now + RETRY_SECONDS
                if message != self.volumes_message:
                    self._tell(reason, message, warning=True)
                self.volumes_message = message
            case SandboxReady(pod_ip):
                self._sandbox, self.pod_ip, self._retry_at = "ready", pod_ip, None
                self.sandbox_message = ""
            case SandboxFailed(message):
                self._sandbox, self._retry_at = "failed", now + RETRY_SECONDS
                if message != self.sandbox_message:
                    text = f"Failed to create pod sandbox: {message}"
                    self._tell("FailedCreatePodSandBox", text, warning=True)
                self.sandbox_message = message
            case SandboxGone():
                self._on_sandbox_gone(now)
            case Deleted(grace_seconds):
                self._on_deleted(grace_seconds, now)
            case Started() | StartFailed() | Exited() | ProbeDone() | HookDone():
                self._note_container(event, now)
            case Pulling(container):
                if self.containers[container].phase is Phase.STARTING:
                    self.containers[container].on_pulling()
            case ImagesChanged(names):
                for name in sorted(names):
                    self.containers[name].on_images_changed(now)
            case Tick():
                pass

    def _note_container(
        self, event: Started | StartFailed | Exited | ProbeDone | HookDone, now: float
    ) -> None:
        state = self.containers[event.container]
        match event:
            case Started():
                if state.phase is Phase.STARTING:
                    state.on_started(event, now)
            case StartFailed():
                if state.phase is Phase.STARTING:
                    state.on_start_failed(event, now)
            case Exited(_, code, message, reason):
                if state.alive:
                    state.on_exited(code, message, reason, now)
            case ProbeDone():
                state.on_probe(event, self.plan.grace_seconds, now)
            case HookDone(_, kind, passed, message, run):
                if run == state.run and kind is HookKind.POST_START:
                    state.on_post_start(passed, message, now)
                elif run == state.run:
                    state.on_pre_stop(passed, message, now)

    def _on_sandbox_gone(self, now: float) -> None:
        wanted = self._sandbox == "ending"
        self._sandbox = ""
        for state in self.containers.values():
            if state.alive:
                state.on_exited(137, "", "" if wanted else "ContainerStatusUnknown", now)
        if not wanted and not self.deleting and not self.final_phase:
            self._tell("SandboxChanged", "Pod sandbox changed, it will be killed and re-created.")
            self.initialized = False
            for state in self._inits():
                # A new sandbox begins with its init containers.
                if state.phase is Phase.ENDED and state.plan.is_init and not state.plan.sidecar:
                    state.last, state.ending = state.ending, None
                    state.phase, state.reason = Phase.WAITING, INITIALIZING

    def _on_deleted(self, grace_seconds: float, now: float) -> None:
        if not self.deleting:
            self.deleting = True
            for state in self.containers.values():
                if state.alive:
                    state.tell("Killing", f"Stopping container {state.plan.name}")
        self._end_deadline = now + grace_seconds

    # The look at all facts.

    def _sync(self, now: float) -> None:
        if self.finished:
            return
        for state in self.containers.values():
            state.push_end(now)
        if self.deleting:
            if self._end_all(max(0.0, self._end_deadline - now), now):
                self._take_down()
            return
        self._check_deadline(now)
        if self.final_phase:
            if self._end_all(self.plan.grace_seconds, now) and self._sandbox == "ready":
                self._sandbox = "ending"
                self._commands.append(EndSandbox())
            return
        if not self._prepared(now):
            return
        if self._run_inits(now):
            self._run_mains(now)
        if self.final_phase:
            self._sync(now)
            return
        for state in self.containers.values():
            state.push_back_off(now)
            state.look(now)

    def _check_deadline(self, now: float) -> None:
        limit = self.plan.deadline_seconds
        if limit is None or self.final_phase or now - self.started_at < limit:
            return
        self.final_phase, self.final_reason = "Failed", "DeadlineExceeded"
        self.final_message = "Pod was active on the node longer than the specified deadline"
        self._tell("DeadlineExceeded", self.final_message, warning=True)

    def _prepared(self, now: float) -> bool:
        """Volumes first, then the sandbox; True when both are there."""
        if self._volumes == "" or (self._volumes == "failed" and self._retry_due(now)):
            self._volumes = "asked"
            self._commands.append(PrepareVolumes())
        if self._volumes != "ready":
            return False
        if self._sandbox == "" or (self._sandbox == "failed" and self._retry_due(now)):
            self._sandbox = "asked"
            self._commands.append(CreateSandbox())
        return self._sandbox == "ready"

    def _retry_due(self, now: float) -> bool:
        if self._retry_at is None or now < self._retry_at:
            return False
        self._retry_at = None
        return True

    def _inits(self) -> list[ContainerState]:
        return [self.containers[plan.name] for plan in self.plan.init_containers]

    def _mains(self) -> list[ContainerState]:
        return [self.containers[plan.name] for plan in self.plan.containers]

    def _run_inits(self, now: float) -> bool:
        """Works on the init containers in order; True when the main containers may run."""
        for state in self._inits():
            if state.plan.sidecar:
                self._keep_up(state, now)
                if not self.initialized and not (state.phase is Phase.RUNNING and state.started):
                    return False
            elif not self.initialized:
                if state.phase is Phase.ENDED and state.ending and state.ending.code == 0:
                    continue
                if state.phase is Phase.ENDED and self.plan.restart_policy == "Never":
                    self.final_phase = "Failed"
                    return False
                self._keep_up(state, now)
                return False
        if not self.initialized:
            self.initialized = True
            for state in self._mains():
                if state.reason == INITIALIZING:
                    state.reason = CREATING if state.phase is Phase.WAITING else state.reason
        return True

    def _run_mains(self, now: float) -> None:
        for state in self._mains():
            if state.phase is Phase.ENDED and not self._restarts(state):
                continue
            self._keep_up(state, now)
        if all(state.phase is Phase.ENDED and not self._restarts(state) for state in self._mains()):
            failed = any(state.ending and state.ending.code != 0 for state in self._mains())
            self.final_phase = "Failed" if failed else "Succeeded"

    def _restarts(self, state: ContainerState) -> bool:
        policy = self.plan.restart_policy
        if state.plan.sidecar or policy == "Always":
            return True
        return policy == "OnFailure" and state.ending is not None and state.ending.code != 0

    def _keep_up(self, state: ContainerState, now: float) -> None:
        """Starts a container that waits or has ended, when its back-off allows it."""
        if state.alive:
            return
        moment = self._restart_at(state)
        if moment is None or now >= moment:
            state.start(now)
            return
        if state.phase is Phase.ENDED and not state.crash_message:
            pause = go_seconds(state.backoff.seconds)
            name, label = state.plan.name, self.plan.label
            state.crash_message = f"back-off {pause} restarting failed container={name} pod={label}"
            text = f"Back-off restarting failed container {name} in pod {label}"
            state.tell("BackOff", text, warning=True)

    def _restart_at(self, state: ContainerState) -> float | None:
        """When a container that is down may start; None if nothing holds it back."""
        if self.deleting or self.final_phase:
            return None
        if state.phase is Phase.WAITING and state.retry_at:
            return state.retry_at
        if state.phase is Phase.ENDED and state.ending is not None and self._restarts_any(state):
            return state.backoff.waits_until(state.ending.finished_at)
        return None

    def _restarts_any(self, state: ContainerState) -> bool:
        if state.plan.is_init and not state.plan.sidecar:
            failed = state.ending is not None and state.ending.code != 0
            return failed and not self.initialized and self.plan.restart_policy != "Never"
        return self._restarts(state)

    def _end_all(self, grace_seconds: float, now: float) -> bool:
        """Main containers first, then sidecars from the last to the first; True when none runs."""
        ordinary = [
            state for state in self.containers.values() if not state.plan.sidecar and state.alive
        ]
        if ordinary:
            for state in ordinary:
                state.end(grace_seconds, now)
            if grace_seconds > 0:
                return False
        for state in reversed([state for state in self._inits() if state.plan.sidecar]):
            if state.alive:
                state.end(grace_seconds, now)
                if grace_seconds > 0:
                    return False
        return not any(state.alive for state in self.containers.values())

    def _take_down(self) -> None:
        if self._sandbox == "ready":
            self._sandbox = "ending"
            self._commands.append(EndSandbox())
        elif self._sandbox in {"", "failed"} and self._volumes != "asked":
            self.finished = True
            self._commands.append(Finish())

    def _tell(self, reason: str, message: str, *, warning: bool = False) -> None:
        self._commands.append(Tell(warning, reason, message))
