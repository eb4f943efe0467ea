"""Chooses a node for a Pod, or says in Kubernetes' words why there is none.

Pure. Knows allocatable amounts, requests, node selectors and affinity, taints and cordons. It does
not evict Pods for others, which the last part of its message says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from inferway.local.controllers import objects as o
from inferway.local.controllers import requests
from inferway.local.controllers.objects import Raw

# What the scheduler plugins of Kubernetes call their findings.
UNSCHEDULABLE = "node(s) were unschedulable"
SELECTOR = "node(s) didn't match Pod's node affinity/selector"
NODE_NAME = "node(s) didn't match the requested node name"
NO_NODES = "no nodes available to schedule pods"
_NO_VICTIMS = "No preemption victims found for incoming pod"
_NOT_HELPFUL = "Preemption is not helpful for scheduling"
_UNSCHEDULABLE_TAINT = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}


@dataclass(frozen=True, slots=True)
class NodeRoom:
    """A node and what the Pods that are bound to it leave free."""

    node: Raw
    allocatable: requests.Amounts
    used: requests.Amounts
    pods: int


@dataclass(frozen=True, slots=True)
class Choice:
    """``node`` is the name of the chosen node; empty with the ``message`` that says why."""

    node: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class _Refusal:
    reasons: Sequence[str]
    room_would_help: bool


def room(
    node: Raw,
    pods: Sequence[Raw],
    requests_of: Callable[[Raw], requests.Amounts] = requests.of_pod,
) -> NodeRoom:
    """The node with these Pods on it; finished Pods take no room."""
    used: dict[str, Decimal] = {}
    count = 0
    for pod in pods:
        if not o.pod_finished(pod):
            used = requests.plus(used, requests_of(pod))
            count += 1
    status = o.status(node)
    allocatable = requests.parse(status.get("allocatable") or status.get("capacity"))
    return NodeRoom(node, allocatable, used, count)


def choose(pod: Raw, rooms: Sequence[NodeRoom]) -> Choice:
    """The fitting node with the largest free share; by name among equals."""
    if not rooms:
        return Choice("", NO_NODES)
    asked = requests.of_pod(pod)
    fitting: list[NodeRoom] = []
    refusals: list[_Refusal] = []
    for candidate in rooms:
        refusal = _refuse(pod, asked, candidate)
        if refusal is None:
            fitting.append(candidate)
        else:
            refusals.append(refusal)
    if not fitting:
        return Choice("", _message(refusals))
    best = min(fitting, key=lambda c: (-_free_share(asked, c), o.name(c.node)))
    return Choice(o.name(best.node))


def _refuse(pod: Raw, asked: requests.Amounts, candidate: NodeRoom) -> _Refusal | None:
    """The first finding about a node, in the order of Kubernetes' filters."""
    node = candidate.node
    tolerations = o.spec(pod).get("tolerations") or ()
    cordoned = o.spec(node).get("unschedulable")
    if cordoned and not tolerated(_UNSCHEDULABLE_TAINT, tolerations):
        return _Refusal([UNSCHEDULABLE], False)
    for taint in o.spec(node).get("taints") or ():
        hard = taint.get("effect") in ("NoSchedule", "NoExecute")
        if hard and not tolerated(taint, tolerations):
            key, value = taint.get("key", ""), taint.get("value", "")
            return _Refusal([f"node(s) had untolerated taint {{{key}: {value}}}"], False)
    if not _selected(pod, node):
        return _Refusal([SELECTOR], False)
    missing = []
    if candidate.pods + 1 > candidate.allocatable.get("pods", Decimal("Infinity")):
        missing.append("Too many pods")
    for name, amount in asked.items():
        free = candidate.allocatable.get(name, Decimal(0)) - candidate.used.get(name, Decimal(0))
        if amount > 0 and amount > free:
            missing.append(f"Insufficient {name}")
    return _Refusal(missing, True) if missing else None


def tolerated(taint: Mapping[str, object], tolerations: Sequence[Raw]) -> bool:
    for toleration in tolerations:
        effect, key = toleration.get("effect"), toleration.get("key")
        if effect and effect != taint.get("effect"):
            continue
        if key and key != taint.get("key"):
            continue
        exists = toleration.get("operator") == "Exists"
        if (not key and exists) or (key and exists):
            return True
        if key and (toleration.get("value") or "") == (taint.get("value") or ""):
            return True
    return False


def _selected(pod: Raw, node: Raw) -> bool:
    labels = o.labels(node)
    if any(labels.get(k) != v for k, v in (o.spec(pod).get("nodeSelector") or {}).items()):
        return False
    affinity = (o.spec(pod).get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if not required:
        return True
    return any(_term_holds(term, node) for term in required.get("nodeSelectorTerms") or ())


def _term_holds(term: Raw, node: Raw) -> bool:
    """The requirements of one term hold together; an empty term holds nowhere."""
    expressions = term.get("matchExpressions") or ()
    fields = term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    known = {"metadata.name": o.name(node)}
    return all(o.expression_holds(e, o.labels(node)) for e in expressions) and all(
        o.expression_holds(f, known) for f in fields
    )


def _free_share(asked: requests.Amounts, candidate: NodeRoom) -> Decimal:
    shares = []
    for name in ("cpu", "memory"):
        total = candidate.allocatable.get(name, Decimal(0))
        if total > 0:
            used = candidate.used.get(name, Decimal(0)) + asked.get(name, Decimal(0))
            shares.append((total - used) / total)
    return sum(shares, Decimal(0)) / len(shares) if shares else Decimal(0)


def _message(refusals: Sequence[_Refusal]) -> str:
    total = len(refusals)
    reasons = Counter(reason for refusal in refusals for reason in refusal.reasons)
    helped = Counter(_NO_VICTIMS if r.room_would_help else _NOT_HELPFUL for r in refusals)
    head = f"0/{total} nodes are available"
    return f"{head}: {_histogram(reasons)} preemption: {head}: {_histogram(helped)}"


def _histogram(counts: Mapping[str, int]) -> str:
    return ", ".join(sorted(f"{count} {reason}" for reason, count in counts.items())) + "."
