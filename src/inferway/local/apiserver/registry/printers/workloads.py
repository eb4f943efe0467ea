"""Columns of the kinds that run Pods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inferway.base.clock import parse_rfc3339
from inferway.local.apiserver.registry.kinds import Cells, Object
from inferway.local.apiserver.registry.printers.cells import (
    NONE,
    UNKNOWN,
    containers,
    items,
    name_of,
    part,
    printer,
    selector,
)
from inferway.local.apiserver.registry.table import age, duration


def _replicas(obj: Object) -> int:
    wanted = part(obj, "spec").get("replicas")
    return 1 if wanted is None else int(wanted)


def _number(status: Mapping[str, Any], name: str) -> int:
    return int(status.get(name) or 0)


def _deployment(obj: Object, now: float) -> Cells:
    status = part(obj, "status")
    return [
        name_of(obj),
        f"{_number(status, 'readyReplicas')}/{_replicas(obj)}",
        _number(status, "updatedReplicas"),
        _number(status, "availableReplicas"),
        age(obj, now),
        *containers(obj),
        selector(part(obj, "spec").get("selector")),
    ]


def _replica_set(obj: Object, now: float) -> Cells:
    status = part(obj, "status")
    return [
        name_of(obj),
        _replicas(obj),
        _number(status, "replicas"),
        _number(status, "readyReplicas"),
        age(obj, now),
        *containers(obj),
        selector(part(obj, "spec").get("selector")),
    ]


def _stateful_set(obj: Object, now: float) -> Cells:
    ready = _number(part(obj, "status"), "readyReplicas")
    return [name_of(obj), f"{ready}/{_replicas(obj)}", age(obj, now), *containers(obj)]


def _daemon_set(obj: Object, now: float) -> Cells:
    status = part(obj, "status")
    nodes = part(obj, "spec", "template", "spec").get("nodeSelector") or {}
    names = (
        "desiredNumberScheduled",
        "currentNumberScheduled",
        "numberReady",
        "updatedNumberScheduled",
        "numberAvailable",
    )
    return [
        name_of(obj),
        *(_number(status, name) for name in names),
        ",".join(f"{key}={value}" for key, value in sorted(nodes.items())) or NONE,
        age(obj, now),
        *containers(obj),
        selector(part(obj, "spec").get("selector")),
    ]


def _job(obj: Object, now: float) -> Cells:
    spec, status = part(obj, "spec"), part(obj, "status")
    conditions = {
        c.get("type") for c in items(status.get("conditions")) if c.get("status") == "True"
    }
    word = "Running"
    for kind, text in (
        ("Complete", "Complete"),
        ("Failed", "Failed"),
        ("Suspended", "Suspended"),
        ("FailureTarget", "FailureTarget"),
        ("SuccessCriteriaMet", "SuccessCriteriaMet"),
    ):
        if kind in conditions:
            word = text
            break
    if obj["metadata"].get("deletionTimestamp") and word == "Running":
        word = "Terminating"
    wanted = spec.get("completions")
    done = _number(status, "succeeded")
    if wanted is None:
        several = int(spec.get("parallelism") or 1)
        text = f"{done}/1 of {several}" if several > 1 else f"{done}/1"
    else:
        text = f"{done}/{wanted}"
    return [
        name_of(obj),
        word,
        text,
        _job_duration(status, now),
        age(obj, now),
        *containers(obj),
        selector(spec.get("selector")),
    ]


def _job_duration(status: Mapping[str, Any], now: float) -> str:
    if not status.get("startTime"):
        return ""
    try:
        end = status.get("completionTime")
        until = parse_rfc3339(str(end)) if end else now
        return duration(until - parse_rfc3339(str(status["startTime"])))
    except ValueError:
        return "<invalid>"


def _budget(obj: Object, now: float) -> Cells:
    spec = part(obj, "spec")
    return [
        name_of(obj),
        str(spec.get("minAvailable", "N/A")),
        str(spec.get("maxUnavailable", "N/A")),
        _number(part(obj, "status"), "disruptionsAllowed"),
        age(obj, now),
    ]


def _autoscaler(obj: Object, now: float) -> Cells:
    spec, status = part(obj, "spec"), part(obj, "status")
    reference = part(obj, "spec", "scaleTargetRef")
    targets = [_metric(metric) for metric in items(spec.get("metrics"))]
    return [
        name_of(obj),
        f"{reference.get('kind', '')}/{reference.get('name', '')}",
        ", ".join(targets) or NONE,
        str(spec.get("minReplicas", "<unset>")),
        _number(spec, "maxReplicas"),
        _number(status, "currentReplicas"),
        age(obj, now),
    ]


def _metric(metric: Mapping[str, Any]) -> str:
    """``cpu: <unknown>/80%``: nothing measures here, so the current value is unknown."""
    source = next((v for k, v in metric.items() if k != "type" and isinstance(v, dict)), {})
    target = part(source, "target")
    wanted = target.get("averageUtilization")
    text = f"{wanted}%" if wanted is not None else target.get("averageValue", target.get("value"))
    name = f"{source['name']}: " if source.get("name") else ""
    return f"{name}{UNKNOWN}/{text}"


DEPLOYMENT = printer(
    "Name Ready Up-to-date:integer Available:integer Age | Containers Images Selector",
    _deployment,
)
REPLICA_SET = printer(
    "Name Desired:integer Current:integer Ready:integer Age | Containers Images Selector",
    _replica_set,
)
STATEFUL_SET = printer("Name Ready Age | Containers Images", _stateful_set)
DAEMON_SET = printer(
    "Name Desired:integer Current:integer Ready:integer Up-to-date:integer Available:integer "
    "Node_Selector Age | Containers Images Selector",
    _daemon_set,
)
JOB = printer("Name Status Completions Duration Age | Containers Images Selector", _job)
BUDGET = printer("Name Min_Available Max_Unavailable Allowed_Disruptions:integer Age", _budget)
AUTOSCALER = printer(
    "Name Reference Targets MinPods MaxPods:integer Replicas:integer Age", _autoscaler
)
