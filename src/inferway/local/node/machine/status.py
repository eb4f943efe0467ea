"""The status of a Pod as the API shows it, from the facts of its machine.

Phases, conditions, container statuses, reasons and messages are worded as by a kubelet. Conditions
that others own (the scheduler's, readiness gates) are read from the observed status and kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inferway.base import clock
from inferway.local.node.machine.container import ContainerState, Ending, Phase
from inferway.local.node.machine.pod import PodMachine

Object = dict[str, Any]


def pod_status(
    machine: PodMachine, observed: Mapping[str, Any], host_ip: str, now: float
) -> Object:
    """The whole status; ``observed`` is the Pod as the API server has it."""
    spec = observed.get("spec") or {}
    old = observed.get("status") or {}
    phase = _phase(machine)
    status: Object = {
        "phase": phase,
        "conditions": _conditions(machine, phase, old.get("conditions") or [], now),
        "hostIP": host_ip,
        "hostIPs": [{"ip": host_ip}],
        "startTime": clock.rfc3339(machine.started_at),
        "qosClass": old.get("qosClass") or _qos_class(spec),
        "containerStatuses": [
            _container_status(machine.containers[plan.name]) for plan in machine.plan.containers
        ],
    }
    if machine.plan.init_containers:
        status["initContainerStatuses"] = [
            _container_status(machine.containers[plan.name])
            for plan in machine.plan.init_containers
        ]
    if machine.pod_ip:
        status["podIP"] = machine.pod_ip
        status["podIPs"] = [{"ip": machine.pod_ip}]
    for name, value in (("reason", machine.final_reason), ("message", machine.final_message)):
        if value:
            status[name] = value
    generation = (observed.get("metadata") or {}).get("generation")
    if generation:
        status["observedGeneration"] = generation
    return status


def _phase(machine: PodMachine) -> str:
    states = [machine.containers[plan.name] for plan in machine.plan.containers]
    if machine.final_phase:
        # While something still runs, a Pod is Running.
        alive = any(state.alive for state in machine.containers.values())
        return "Running" if alive and machine.initialized else machine.final_phase
    if (
        machine.deleting
        and machine.initialized
        and not any(state.phase is not Phase.ENDED for state in states)
    ):
        failed = any(state.ending and state.ending.code != 0 for state in states)
        return "Failed" if failed else "Succeeded"
    if not machine.initialized:
        return "Pending"
    fresh = [state for state in states if not _has_run(state)]
    return "Pending" if fresh else "Running"


def _has_run(state: ContainerState) -> bool:
    running = state.phase is Phase.RUNNING and not state.hook_pending
    return running or state.ending is not None or state.last is not None


def _conditions(machine: PodMachine, phase: str, old: list[Object], now: float) -> list[Object]:
    before = {str(condition.get("type")): condition for condition in old}
    done = phase in {"Succeeded", "Failed"}
    states = list(machine.containers.values())
    unfinished = [
        state.plan.name
        for state in states
        if state.plan.is_init and not _init_is_done(machine, state)
    ]
    unready = [
        state.plan.name
        for state in states
        if (state.plan.sidecar or not state.plan.is_init) and not _is_ready(state)
    ]
    initialized = ("True", "", "")
    if unfinished and phase != "Succeeded":
        names = " ".join(unfinished)
        text = f"containers with incomplete status: [{names}]"
        initialized = ("False", "ContainersNotInitialized", text)
    elif done and phase == "Succeeded":
        initialized = ("True", "PodCompleted", "")
    ready = _containers_ready(phase, unready)
    rows = {
        "PodReadyToStartContainers": ("True" if machine.pod_ip and not done else "False", "", ""),
        "Initialized": initialized,
        "Ready": _with_gates(ready, machine.plan.readiness_gates, before),
        "ContainersReady": ready,
        "PodScheduled": ("True", "", ""),
    }
    others = [condition for name, condition in before.items() if name not in rows]
    return others + [_condition(name, row, before.get(name), now) for name, row in rows.items()]


def _init_is_done(machine: PodMachine, state: ContainerState) -> bool:
    if machine.initialized:
        return True
    if state.plan.sidecar:
        return state.phase is Phase.RUNNING and state.started
    return state.ending is not None and state.ending.code == 0


def _is_ready(state: ContainerState) -> bool:
    return state.phase is Phase.RUNNING and state.ready and not state.hook_pending


def _containers_ready(phase: str, unready: list[str]) -> tuple[str, str, str]:
    if phase == "Succeeded":
        return ("False", "PodCompleted", "")
    if phase == "Failed":
        return ("False", "PodFailed", "")
    if unready:
        names = " ".join(unready)
        return ("False", "ContainersNotReady", f"containers with unready status: [{names}]")
    return ("True", "", "")


def _with_gates(
    ready: tuple[str, str, str], gates: tuple[str, ...], before: Mapping[str, Object]
) -> tuple[str, str, str]:
    if ready[0] != "True":
        return ready
    messages = []
    for gate in gates:
        found = before.get(gate)
        if found is None:
            messages.append(
                f'corresponding condition of pod readiness gate "{gate}" does not exist.'
            )
        elif found.get("status") != "True":
            messages.append(
                f'the status of pod readiness gate "{gate}" is not "True", '
                f"but {found.get('status')}"
            )
    return ("False", "ReadinessGatesNotReady", ", ".join(messages)) if messages else ready


def _condition(name: str, row: tuple[str, str, str], before: Object | None, now: float) -> Object:
    status, reason, message = row
    since = clock.rfc3339(now)
    if before is not None and before.get("status") == status:
        since = str(before.get("lastTransitionTime") or since)
    condition: Object = {
        "type": name,
        "status": status,
        "lastProbeTime": None,
        "lastTransitionTime": since,
    }
    if reason:
        condition["reason"] = reason
    if message:
        condition["message"] = message
    return condition


def _container_status(state: ContainerState) -> Object:
    last = state.ending if state.crash_message else state.last
    done_init = (
        state.plan.is_init
        and not state.plan.sidecar
        and state.ending is not None
        and state.ending.code == 0
    )
    status: Object = {
        "name": state.plan.name,
        "image": state.plan.image,
        "imageID": state.image_id,
        "ready": _is_ready(state) or done_init,
        "restartCount": state.restart_count,
        "started": state.started and state.phase is Phase.RUNNING,
        "state": _state(state),
        "lastState": {"terminated": _terminated(last)} if last else {},
    }
    identity = state.container_id or (state.ending.container_id if state.ending else "")
    if identity:
        status["containerID"] = identity
    return status


def _state(state: ContainerState) -> Object:
    if state.phase is Phase.RUNNING and not state.hook_pending:
        return {"running": {"startedAt": clock.rfc3339(state.started_at)}}
    if state.crash_message:
        return {"waiting": {"reason": "CrashLoopBackOff", "message": state.crash_message}}
    if state.phase is Phase.ENDED:
        assert state.ending is not None
        return {"terminated": _terminated(state.ending)}
    waiting: Object = {"reason": state.reason}
    if state.message:
        waiting["message"] = state.message
    return {"waiting": waiting}


def _terminated(ending: Ending) -> Object:
    found: Object = {
        "exitCode": ending.code,
        "reason": ending.reason,
        "startedAt": clock.rfc3339(ending.started_at),
        "finishedAt": clock.rfc3339(ending.finished_at),
    }
    if ending.message:
        found["message"] = ending.message
    if ending.container_id:
        found["containerID"] = ending.container_id
    return found


def _qos_class(spec: Mapping[str, Any]) -> str:
    """Guaranteed if limits equal requests everywhere, BestEffort if there are none at all."""
    containers = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    some = guaranteed = False
    for number, container in enumerate(containers):
        resources = container.get("resources") or {}
        limits = resources.get("limits") or {}
        requests = {**limits, **(resources.get("requests") or {})}
        named = {name for name in ("cpu", "memory") if name in requests}
        some = some or bool(named)
        equal = len(named) == 2 and all(limits.get(name) == requests[name] for name in named)
        guaranteed = equal and (guaranteed or number == 0)
    return "Guaranteed" if guaranteed else "Burstable" if some else "BestEffort"
