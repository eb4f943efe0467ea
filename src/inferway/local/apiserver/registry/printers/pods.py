"""``kubectl get pods``: READY STATUS RESTARTS AGE, and IP NODE in wide."""

from __future__ import annotations

from typing import Any

from inferway.base.clock import parse_rfc3339
from inferway.local.apiserver.registry.kinds import Cells, Object
from inferway.local.apiserver.registry.printers.cells import (
    NONE,
    UNKNOWN,
    items,
    name_of,
    part,
    printer,
)
from inferway.local.apiserver.registry.table import age, since


def _cells(pod: Object, now: float) -> Cells:
    status = part(pod, "status")
    listed = items(part(pod, "spec").get("containers"))
    sidecars = _sidecars(pod)
    ready = total = len(listed) + len(sidecars)
    ready = sum(
        bool(state.get("ready"))
        for state in (
            *items(status.get("containerStatuses")),
            *(s for s in items(status.get("initContainerStatuses")) if s.get("name") in sidecars),
        )
    )
    gates = items(part(pod, "spec").get("readinessGates"))
    conditions = {c.get("type"): c.get("status") for c in items(status.get("conditions"))}
    passed = sum(conditions.get(gate.get("conditionType")) == "True" for gate in gates)
    return [
        name_of(pod),
        f"{ready}/{total}",
        phase_text(pod),
        _restarts(pod, sidecars, now),
        age(pod, now),
        str(status.get("podIP") or NONE),
        str(part(pod, "spec").get("nodeName") or NONE),
        str(status.get("nominatedNodeName") or NONE),
        f"{passed}/{len(gates)}" if gates else NONE,
    ]


def _sidecars(pod: Object) -> set[Any]:
    """Init containers that keep running."""
    return {
        container.get("name")
        for container in items(part(pod, "spec").get("initContainers"))
        if container.get("restartPolicy") == "Always"
    }


def _restarts(pod: Object, sidecars: set[Any], now: float) -> str:
    """``3 (10s ago)``: of running containers, or of init containers while those run."""
    status = part(pod, "status")
    init = items(status.get("initContainerStatuses"))
    if _init_text(pod):
        states = init
    else:
        kept = [state for state in init if state.get("name") in sidecars]
        states = [*items(status.get("containerStatuses")), *kept]
    count = sum(int(state.get("restartCount") or 0) for state in states)
    last = ""
    for state in states:
        ended = part(state, "lastState", "terminated").get("finishedAt")
        if ended and (not last or _later(str(ended), last)):
            last = str(ended)
    return f"{count} ({since(last, now)} ago)" if count and last else str(count)


def _later(one: str, other: str) -> bool:
    try:
        return parse_rfc3339(one) > parse_rfc3339(other)
    except ValueError:
        return False


def phase_text(pod: Object) -> str:
    """The STATUS word: a container's trouble before the phase, deletion before all."""
    status = part(pod, "status")
    reason = str(status.get("reason") or status.get("phase") or UNKNOWN)
    scheduled = [c for c in items(status.get("conditions")) if c.get("type") == "PodScheduled"]
    if scheduled and scheduled[0].get("reason") == "SchedulingGated":
        reason = "SchedulingGated"
    text = _init_text(pod)
    if text:
        reason = text
    elif items(status.get("containerStatuses")):
        reason = _container_text(pod, reason)
    if pod["metadata"].get("deletionTimestamp"):
        return "Unknown" if status.get("reason") == "NodeLost" else "Terminating"
    return reason


def _init_text(pod: Object) -> str:
    """``Init:0/1`` and its kin while init containers are at work; empty afterwards."""
    sidecars = _sidecars(pod)
    states = items(part(pod, "status").get("initContainerStatuses"))
    total = len(items(part(pod, "spec").get("initContainers")))
    for number, state in enumerate(states):
        ended, waiting = part(state, "state", "terminated"), part(state, "state", "waiting")
        if ended and ended.get("exitCode") == 0:
            continue
        if state.get("name") in sidecars and state.get("started"):
            continue
        if ended:
            if ended.get("reason"):
                return f"Init:{ended['reason']}"
            if ended.get("signal"):
                return f"Init:Signal:{ended['signal']}"
            return f"Init:ExitCode:{ended.get('exitCode')}"
        if waiting.get("reason") not in (None, "", "PodInitializing"):
            return f"Init:{waiting['reason']}"
        return f"Init:{number}/{total}"
    return ""


def _container_text(pod: Object, reason: str) -> str:
    status = part(pod, "status")
    running = False
    for state in reversed(items(status.get("containerStatuses"))):
        waiting, ended = part(state, "state", "waiting"), part(state, "state", "terminated")
        if waiting.get("reason"):
            reason = str(waiting["reason"])
        elif ended.get("reason"):
            reason = str(ended["reason"])
        elif ended:
            word = f"Signal:{ended['signal']}" if ended.get("signal") else ""
            reason = word or f"ExitCode:{ended.get('exitCode')}"
        elif state.get("ready") and part(state, "state").get("running") is not None:
            running = True
    if reason == "Completed" and running:
        ready = any(
            c.get("type") == "Ready" and c.get("status") == "True"
            for c in items(status.get("conditions"))
        )
        return "Running" if ready else "NotReady"
    return reason


POD = printer("Name Ready Status Restarts Age | IP Node Nominated_Node Readiness_Gates", _cells)
