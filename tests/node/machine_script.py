"""Scripts for the Pod's machine: events in, commands as short words out, a clock that is moved."""

from __future__ import annotations

from typing import Any

from inferway.api import codec
from inferway.api.pods import Pod
from inferway.local.node.machine import values as v
from inferway.local.node.machine.plan import read_plan
from inferway.local.node.machine.pod import PodMachine
from inferway.local.node.machine.status import pod_status

START = 1_700_000_000.0
TICKS_MAX = 5000


def word(command: v.Command) -> str:
    match command:
        case v.StartContainer(name, _, restart_count):
            return f"start {name}" + (f" #{restart_count}" if restart_count else "")
        case v.Signal(name, kill):
            return f"{'kill' if kill else 'term'} {name}"
        case v.RunProbe(name, kind, _):
            return f"probe {name} {kind.value.lower()}"
        case v.RunHook(name, kind, _):
            return f"hook {name} {kind.value}"
        case v.Tell(_, reason, _, _):
            return f"tell {reason}"
        case _:
            return {
                "PrepareVolumes": "volumes",
                "CreateSandbox": "sandbox",
                "EndSandbox": "end sandbox",
                "Finish": "finish",
            }[type(command).__name__]


class Script:
    """One Pod. Times are seconds after the start."""

    def __init__(self, spec: dict[str, Any], **counts: int) -> None:
        meta = {"name": "pod", "namespace": "ns", "uid": "u1"}
        self.raw = {"metadata": meta, "spec": spec, "status": {}}
        self.at = 0.0
        self.told: list[v.Tell] = []
        self.runs: dict[str, int] = {}
        self.machine = PodMachine(read_plan(codec.decode(Pod, self.raw)), START, counts)
        self.log: list[str] = []
        self._take(self.machine.begin(START))

    def _take(self, commands: list[v.Command]) -> list[str]:
        words = []
        for command in commands:
            if isinstance(command, v.Tell):
                self.told.append(command)
                continue
            if isinstance(command, v.StartContainer):
                self.runs[command.container] = command.run
            words.append(word(command))
        self.log += words
        return words

    def do(self, *events: v.Event) -> list[str]:
        """Hands in events; the commands that follow, without Events of the API."""
        words = []
        for event in events:
            words += self._take(self.machine.handle(event, START + self.at))
        return words

    def ready(self) -> list[str]:
        """Volumes and sandbox are there."""
        self.do(v.VolumesReady())
        return self.do(v.SandboxReady("127.77.1.1"))

    def started(self, *names: str) -> list[str]:
        return self.do(*(v.Started(name, f"id-{name}") for name in names))

    def exited(self, name: str, code: int = 0) -> list[str]:
        return self.do(v.Exited(name, code))

    def probed(self, name: str, kind: str, passed: bool, message: str = "no") -> list[str]:
        kinds = {kind.value.lower(): kind for kind in v.ProbeKind}
        return self.do(v.ProbeDone(name, kinds[kind], passed, message, self.runs[name]))

    def hooked(self, name: str, kind: v.HookKind, passed: bool = True) -> list[str]:
        return self.do(v.HookDone(name, kind, passed, "", self.runs[name]))

    def go(self, at: float) -> list[tuple[float, str]]:
        """Moves the clock with the Ticks that the machine asks for; what it commanded when."""
        found = []
        for _ in range(TICKS_MAX):
            moment = self.machine.next_at()
            if moment is None or moment - START > at:
                self.at = at
                return found
            self.at = max(self.at, moment - START)
            found += [(round(self.at, 3), one) for one in self.do(v.Tick())]
        raise AssertionError(f"the machine asked for {TICKS_MAX} Ticks before {at} s")

    def status(self) -> dict[str, Any]:
        status = pod_status(self.machine, self.raw, "127.77.0.2", START + self.at)
        self.raw["status"] = status
        return status

    def condition(self, kind: str) -> tuple[str, str]:
        row = next(row for row in self.status()["conditions"] if row["type"] == kind)
        return row["status"], row.get("reason", "")

    def row(self, name: str) -> dict[str, Any]:
        status = self.status()
        rows = status["containerStatuses"] + status.get("initContainerStatuses", [])
        return next(row for row in rows if row["name"] == name)

    def waiting(self, name: str) -> str:
        return str(self.row(name)["state"].get("waiting", {}).get("reason", ""))


def main(name: str = "main", **more: Any) -> dict[str, Any]:
    return {"name": name, "image": "busybox:1", **more}


def sidecar(name: str = "side", **more: Any) -> dict[str, Any]:
    return {**main(name, **more), "restartPolicy": "Always"}
