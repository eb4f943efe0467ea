"""Events that a Pod's machine takes, and commands that it gives."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ProbeKind(StrEnum):
    """What a probe decides: whether a container has started, lives, and may be sent requests."""

    STARTUP = "Startup"
    LIVENESS = "Liveness"
    READINESS = "Readiness"


class HookKind(StrEnum):
    """When a lifecycle hook runs."""

    POST_START = "PostStart"
    PRE_STOP = "PreStop"


# Events.


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


@dataclass(frozen=True, slots=True)
class VolumesReady:
    """All volumes are in place."""


@dataclass(frozen=True, slots=True)
class VolumesFailed:
    """A volume, or the address, cannot be had; it is tried again. ``reason`` is its Event's."""

    message: str
    reason: str = "FailedMount"


@dataclass(frozen=True, slots=True)
class SandboxReady:
    """The Pod has its namespaces and its address."""

    pod_ip: str


@dataclass(frozen=True, slots=True)
class SandboxFailed:
    """The namespaces or the address cannot be had; it is tried again."""

    message: str


@dataclass(frozen=True, slots=True)
class SandboxGone:
    """Everything of the Pod has ended, wanted or not."""


@dataclass(frozen=True, slots=True)
class Started:
    """A container's program runs. ``pulled`` is how long its image took; empty if it was here."""

    container: str
    container_id: str = ""
    image_id: str = ""
    pulled: str = ""


@dataclass(frozen=True, slots=True)
class Pulling:
    """A container's image is being fetched."""

    container: str


@dataclass(frozen=True, slots=True)
class StartFailed:
    """A container cannot be started.

    ``reason``: ErrImagePull, InvalidImageName, ErrImageNeverPull, CreateContainerConfigError
    (nothing ran) or StartError (the program cannot be executed, counts as an exit with 128).
    """

    container: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class ImagesChanged:
    """The image table is another one; ``containers`` have images that can be run by it."""

    containers: frozenset[str]


@dataclass(frozen=True, slots=True)
class Exited:
    """A container's main process has ended; ``message`` is its termination message."""

    container: str
    code: int
    message: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ProbeDone:
    """A probe has an answer; ``run`` names the start of the container that it was about."""

    container: str
    kind: ProbeKind
    passed: bool
    message: str = ""
    run: int = 0


@dataclass(frozen=True, slots=True)
class HookDone:
    """A hook has ended."""

    container: str
    kind: HookKind
    passed: bool
    message: str = ""
    run: int = 0


@dataclass(frozen=True, slots=True)
class Deleted:
    """The Pod is to end; its grace may also be cut later by a second event."""

    grace_seconds: float


Event = (
    Tick
    | VolumesReady
    | VolumesFailed
    | SandboxReady
    | SandboxFailed
    | SandboxGone
    | Started
    | StartFailed
    | Pulling
    | ImagesChanged
    | Exited
    | ProbeDone
    | HookDone
    | Deleted
)

# Commands.


@dataclass(frozen=True, slots=True)
class PrepareVolumes:
    """Answered by VolumesReady or VolumesFailed."""


@dataclass(frozen=True, slots=True)
class CreateSandbox:
    """Answered by SandboxReady or SandboxFailed."""


@dataclass(frozen=True, slots=True)
class EndSandbox:
    """Answered by SandboxGone."""


@dataclass(frozen=True, slots=True)
class StartContainer:
    """Answered by Started or StartFailed. ``run`` counts the starts of this container."""

    container: str
    run: int
    restart_count: int


@dataclass(frozen=True, slots=True)
class Signal:
    """SIGTERM goes to the main process, SIGKILL to all of the container. Exited follows."""

    container: str
    kill: bool


@dataclass(frozen=True, slots=True)
class RunProbe:
    """Answered by ProbeDone."""

    container: str
    kind: ProbeKind
    run: int


@dataclass(frozen=True, slots=True)
class RunHook:
    """Answered by HookDone."""

    container: str
    kind: HookKind
    run: int


@dataclass(frozen=True, slots=True)
class Tell:
    """An Event of the API about the Pod, or about a field of it."""

    warning: bool
    reason: str
    message: str
    field_path: str = ""


@dataclass(frozen=True, slots=True)
class Finish:
    """Nothing of the Pod is left: its object can be removed."""


Command = (
    PrepareVolumes
    | CreateSandbox
    | EndSandbox
    | StartContainer
    | Signal
    | RunProbe
    | RunHook
    | Tell
    | Finish
)
