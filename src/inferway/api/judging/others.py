"""Kinds with a rule or two: roles, autoscalers, disruption budgets, leases, events."""

from __future__ import annotations

from inferway.api.codec import Object
from inferway.api.judging import words
from inferway.api.judging.words import Errors
from inferway.api.schema import errors


def judge_role(role: Object, old: Object | None) -> Errors:
    for place, rule in enumerate(role.get("rules") or ()):
        here = f"rules[{place}]"
        if not rule.get("verbs"):
            yield errors.required(f"{here}.verbs", "verbs must contain at least one value")
        if rule.get("nonResourceURLs"):
            continue
        if not rule.get("apiGroups"):
            text = "resource rules must supply at least one api group"
            yield errors.required(f"{here}.apiGroups", text)
        if not rule.get("resources"):
            text = "resource rules must supply at least one resource"
            yield errors.required(f"{here}.resources", text)


def judge_binding(binding: Object, old: Object | None) -> Errors:
    role = binding.get("roleRef") or {}
    kinds = (
        ("ClusterRole",) if binding.get("kind") == "ClusterRoleBinding" else ("Role", "ClusterRole")
    )
    if role.get("kind") not in kinds:
        yield errors.not_supported("roleRef.kind", role.get("kind") or "", kinds)
    if not role.get("name"):
        yield errors.required("roleRef.name")
    for place, subject in enumerate(binding.get("subjects") or ()):
        here = f"subjects[{place}]"
        kind = subject.get("kind") or ""
        if not subject.get("name"):
            yield errors.required(f"{here}.name")
        yield from words.one_of(f"{here}.kind", kind, ("ServiceAccount", "User", "Group"))
        if kind == "ServiceAccount" and not subject.get("namespace"):
            yield errors.required(f"{here}.namespace")
    if old is not None and role != (old.get("roleRef") or {}):
        yield errors.invalid("roleRef", role, "cannot change roleRef")


def judge_autoscaler(autoscaler: Object, old: Object | None) -> Errors:
    spec = autoscaler.get("spec") or {}
    least, most = spec.get("minReplicas", 1), spec.get("maxReplicas") or 0
    if least < 0:
        yield errors.invalid("spec.minReplicas", least, words.NOT_NEGATIVE)
    if most < 1:
        yield errors.invalid("spec.maxReplicas", most, "must be greater than 0")
    elif most < least:
        text = "must be greater than or equal to `minReplicas`"
        yield errors.invalid("spec.maxReplicas", most, text)
    target = spec.get("scaleTargetRef") or {}
    for name in ("kind", "name"):
        if not target.get(name):
            yield errors.required(f"spec.scaleTargetRef.{name}")


def judge_disruption_budget(budget: Object, old: Object | None) -> Errors:
    spec = budget.get("spec") or {}
    names = [name for name in ("minAvailable", "maxUnavailable") if spec.get(name) is not None]
    if len(names) > 1:
        text = "minAvailable and maxUnavailable cannot be both set"
        yield errors.invalid("spec", {name: spec[name] for name in names}, text)
    for name in names:
        yield from words.amount_or_percent(f"spec.{name}", spec[name])
    yield from words.label_selector("spec.selector", spec.get("selector"))


def judge_network_policy(policy: Object, old: Object | None) -> Errors:
    spec = policy.get("spec") or {}
    yield from words.label_selector("spec.podSelector", spec.get("podSelector"))
    for place, kind in enumerate(spec.get("policyTypes") or ()):
        yield from words.one_of(f"spec.policyTypes[{place}]", kind, ("Egress", "Ingress"))


def judge_lease(lease: Object, old: Object | None) -> Errors:
    spec = lease.get("spec") or {}
    duration = spec.get("leaseDurationSeconds")
    if duration is not None and duration <= 0:
        yield errors.invalid("spec.leaseDurationSeconds", duration, "must be greater than 0")
    yield from words.not_negative("spec.leaseTransitions", spec.get("leaseTransitions"))


def judge_event(event: Object, old: Object | None) -> Errors:
    namespace = (event.get("metadata") or {}).get("namespace") or ""
    about = event.get("involvedObject") or {}
    involved = about.get("namespace") or ""
    if involved != namespace and not (not involved and namespace == "default"):
        text = "does not match event.namespace"
        yield errors.invalid("involvedObject.namespace", involved, text)
