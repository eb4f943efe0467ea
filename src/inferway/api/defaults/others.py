"""Kinds with a default or two: autoscalers, policies, claims, role bindings, Secrets."""

from __future__ import annotations

from inferway.api.codec import Object

_RBAC = "rbac.authorization.k8s.io"
# Percent of the requested CPU at which an autoscaler without metrics aims.
CPU_TARGET_PERCENT = 80


def complete_autoscaler(autoscaler: Object) -> None:
    spec = autoscaler.setdefault("spec", {})
    spec.setdefault("minReplicas", 1)
    if not spec.get("metrics"):
        target = {"type": "Utilization", "averageUtilization": CPU_TARGET_PERCENT}
        spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]


def complete_network_policy(policy: Object) -> None:
    spec = policy.setdefault("spec", {})
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]
    for rule in (*(spec.get("ingress") or ()), *(spec.get("egress") or ())):
        for port in rule.get("ports") or ():
            port.setdefault("protocol", "TCP")


def complete_claim(claim: Object) -> None:
    claim.setdefault("spec", {}).setdefault("volumeMode", "Filesystem")


def complete_binding(binding: Object) -> None:
    """A subject's group follows from its kind."""
    role = binding.setdefault("roleRef", {})
    role.setdefault("apiGroup", _RBAC)
    for subject in binding.get("subjects") or ():
        if subject.get("kind") in ("User", "Group"):
            subject.setdefault("apiGroup", _RBAC)


def complete_crd(crd: Object) -> None:
    """A definition converts between versions by name only, unless it says otherwise."""
    spec = crd.setdefault("spec", {})
    spec.setdefault("conversion", {}).setdefault("strategy", "None")


def complete_secret(secret: Object) -> None:
    """Base64 is kept without the line ends of wrapped text."""
    _unwrap(secret, "data")


def complete_config_map(config_map: Object) -> None:
    _unwrap(config_map, "binaryData")


def _unwrap(obj: Object, name: str) -> None:
    values = obj.get(name)
    if values:
        obj[name] = {
            key: value.replace("\r", "").replace("\n", "") for key, value in values.items()
        }
