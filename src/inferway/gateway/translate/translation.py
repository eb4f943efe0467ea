"""The whole translation: objects in, IR and statuses out.

Pure and total: mistakes of users become conditions and diagnostics, never exceptions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from inferway.api.gateway import Gateway, HTTPRoute
from inferway.gateway.translate import classes, gateways, ir, listeners, pool_status, route_status
from inferway.gateway.translate.attach import Attached, attach, gateway_of
from inferway.gateway.translate.backends import Backends
from inferway.gateway.translate.hosts import HostTable
from inferway.gateway.translate.listeners import JudgedListener
from inferway.gateway.translate.rules import TranslatedRoute, translate_rules
from inferway.gateway.translate.snapshot import Key, Snapshot
from inferway.gateway.translate.verdicts import Diagnostic, Object, Problem

CODE_ROUTE = "INFERWAY0301"
CODE_BACKEND = "INFERWAY0302"
CODE_GATEWAY = "INFERWAY0303"
CODE_LISTENER = "INFERWAY0304"
CODE_POOL = "INFERWAY0305"
CODE_CLASS = "INFERWAY0306"


@dataclass(frozen=True, slots=True)
class PlannedGateway:
    """A Gateway of ours. ``accepted``: whether proxies are to run for it."""

    gateway: Gateway
    ir: ir.Gateway
    accepted: bool
    status: Object
    serving: frozenset[str]


@dataclass(frozen=True, slots=True)
class Result:
    """Statuses by key; those of routes and pools hold only this controller's entries."""

    gateways: Mapping[Key, PlannedGateway]
    class_statuses: Mapping[Key, Object]
    route_statuses: Mapping[Key, list[Object]]
    pool_statuses: Mapping[Key, list[Object]]
    diagnostics: tuple[Diagnostic, ...]


@dataclass(slots=True)
class _Work:
    snapshot: Snapshot
    backends: Backends
    gateways: dict[Key, Gateway]
    listeners: dict[Key, tuple[JudgedListener, ...]]
    problems: dict[Key, list[Problem]]
    tables: dict[Key, dict[int, HostTable]] = field(default_factory=dict)
    attached: dict[Key, dict[str, int]] = field(default_factory=dict)
    diagnostics: list[Diagnostic] = field(default_factory=list)


def translate(snapshot: Snapshot) -> Result:
    """Everything that follows from a snapshot."""
    own_classes = classes.ours(snapshot)
    own = {
        key: item
        for key, item in sorted(snapshot.gateways.items())
        if item.spec.gateway_class_name in own_classes
    }
    judged = {key: listeners.judge(item) for key, item in own.items()}
    found = {key: gateways.problems(snapshot, item, judged[key]) for key, item in own.items()}
    work = _Work(snapshot, Backends(snapshot), own, judged, found)
    for key in own:
        work.tables[key] = _listen(judged[key])
        work.attached[key] = {}
    references = pool_status.References()
    route_statuses = {
        key: entries
        for key, route in sorted(snapshot.http_routes.items())
        if (entries := _route(work, route, references)) is not None
    }
    class_statuses = {
        ("", name): classes.status(snapshot, item) for name, item in sorted(own_classes.items())
    }
    planned = {key: _plan(work, key) for key in own}
    pool_statuses = {
        key: pool_status.entries(pool, work.backends, references.of(key))
        for key, pool in sorted(snapshot.inference_pools.items())
    }
    _diagnose(work, class_statuses, planned, pool_statuses)
    return Result(planned, class_statuses, route_statuses, pool_statuses, tuple(work.diagnostics))


def _listen(items: tuple[JudgedListener, ...]) -> dict[int, HostTable]:
    tables: dict[int, HostTable] = {}
    for item in items:
        if item.serves:
            tables.setdefault(item.spec.port, HostTable(item.spec.port)).listen(item.hostname)
    return tables


def _route(
    work: _Work, route: HTTPRoute, references: pool_status.References
) -> list[Object] | None:
    """The entries of a route's status; None if no parent is ours."""
    attempts: list[Attached] = []
    for parent in route.spec.parent_refs or ():
        key = gateway_of(route, parent)
        if key is None or key not in work.gateways:
            continue
        attempts.append(
            attach(work.snapshot, route, parent, work.gateways[key], work.listeners[key])
        )
    if not attempts:
        return None
    rules = translate_rules(route, work.backends)
    about = f"HTTPRoute {route.metadata.namespace}/{route.metadata.name}"
    for text in rules.unsupported:
        work.diagnostics.append(Diagnostic(CODE_ROUTE, about, text))
    for problem in dict.fromkeys(rules.refs):
        work.diagnostics.append(Diagnostic(CODE_BACKEND, about, problem.message))
    for attempt in attempts:
        if attempt.problem is not None:
            work.diagnostics.append(Diagnostic(CODE_ROUTE, about, attempt.problem.message))
        else:
            _enter(work, attempt, rules)
        accepted = attempt.problem is None and not rules.unsupported
        references.note(route, attempt.gateway, accepted=accepted)
    return [route_status.entry(route, attempt, rules) for attempt in attempts]


def _enter(work: _Work, attempt: Attached, rules: TranslatedRoute) -> None:
    counts = work.attached[attempt.gateway]
    if rules.unsupported:
        return
    for attachment in attempt.attachments:
        listener = attachment.listener
        counts[listener.name] = counts.get(listener.name, 0) + 1
        if listener.serves:
            table = work.tables[attempt.gateway][listener.spec.port]
            table.add(listener.hostname, attachment.hostnames, rules.candidates)


def _plan(work: _Work, key: Key) -> PlannedGateway:
    gateway = work.gateways[key]
    ports = tuple(table.port() for _, table in sorted(work.tables[key].items()))
    problems = work.problems[key]
    return PlannedGateway(
        gateway=gateway,
        ir=ir.Gateway(key[0], key[1], ports, _clusters(work.backends, ports)),
        accepted=not problems,
        status=gateways.draft(gateway, problems, work.listeners[key], work.attached[key]),
        serving=frozenset(item.name for item in work.listeners[key] if item.serves),
    )


def _clusters(backends: Backends, ports: Iterable[ir.Port]) -> tuple[ir.Cluster, ...]:
    names = set()
    for port in ports:
        for host in port.hosts:
            for route in host.routes:
                for share in route.shares:
                    names.add(share.cluster)
                    if share.pick is not None:
                        names.add(share.pick.picker)
                        names.add(share.pick.picker.replace("picker/", "feedback/", 1))
    known = backends.clusters
    return tuple(known[name] for name in sorted(names) if name in known)


def _diagnose(
    work: _Work,
    class_statuses: Mapping[Key, Object],
    planned: Mapping[Key, PlannedGateway],
    pools: Mapping[Key, list[Object]],
) -> None:
    for (_, name), status in class_statuses.items():
        _note(work, CODE_CLASS, f"GatewayClass {name}", status["conditions"])
    for (namespace, name), plan in planned.items():
        about = f"Gateway {namespace}/{name}"
        _note(work, CODE_GATEWAY, about, plan.status["conditions"])
        for item in plan.status["listeners"]:
            _note(work, CODE_LISTENER, f"{about} listener {item['name']}", item["conditions"])
    for key, entries in pools.items():
        about = f"InferencePool {key[0]}/{key[1]}"
        for entry in entries:
            _note(work, CODE_POOL, about, entry["conditions"])
        resolved = work.backends.pools.get(key)
        for text in resolved.notes if resolved is not None else ():
            work.diagnostics.append(Diagnostic(CODE_POOL, about, text))


def _note(work: _Work, code: str, about: str, conditions: list[Object]) -> None:
    for item in conditions:
        if item["type"] != "Conflicted" and item["status"] == "False":
            diagnostic = Diagnostic(code, about, f"{item['type']}: {item['message']}")
            if diagnostic not in work.diagnostics:
                work.diagnostics.append(diagnostic)
