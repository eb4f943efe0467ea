"""The built-in kinds: one table.

Custom kinds (Gateway API, inference, Inferway's own) are CustomResourceDefinition objects instead.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from inferway.local.apiserver.registry import custom, strategies
from inferway.local.apiserver.registry.index import SELECTABLE
from inferway.local.apiserver.registry.kinds import Kind, Object, ScalePaths, Strategy
from inferway.local.apiserver.registry.printers import builtin_printers

_ALL = ("all",)
_STATUS = frozenset({"status"})
_STORED = Strategy()
_SPEC = Strategy(generation=True)
_REVIEW_VERBS = ("create",)


def builtin_kinds() -> tuple[Kind, ...]:
    """Every built-in kind with its printer and selectable fields."""
    printers = builtin_printers()
    return tuple(
        replace(
            kind,
            printer=printers.get(f"{kind.plural}.{kind.group}"),
            selectable=frozenset(SELECTABLE.get(kind.resource, ())),
        )
        for kind in (*_core(), *_pods(), *_workloads(), *_others(), *_reviews())
    )


def _core() -> tuple[Kind, ...]:
    returns = Strategy(returns_deleted=True)
    return (
        Kind("", "v1", "ConfigMap", "configmaps", short_names=("cm",), strategy=_STORED),
        Kind("", "v1", "Event", "events", short_names=("ev",), strategy=strategies.EVENT),
        Kind(
            "",
            "v1",
            "Namespace",
            "namespaces",
            namespaced=False,
            short_names=("ns",),
            subresources=frozenset({"status", "finalize"}),
            strategy=strategies.NAMESPACE,
        ),
        Kind(
            "",
            "v1",
            "Node",
            "nodes",
            namespaced=False,
            short_names=("no",),
            subresources=_STATUS,
            strategy=Strategy(status_keeps_metadata=True),
        ),
        Kind("", "v1", "Secret", "secrets", strategy=strategies.SECRET),
        Kind(
            "",
            "v1",
            "Service",
            "services",
            short_names=("svc",),
            categories=_ALL,
            subresources=_STATUS,
            strategy=strategies.SERVICE,
        ),
        Kind(
            "",
            "v1",
            "ServiceAccount",
            "serviceaccounts",
            short_names=("sa",),
            subresources=frozenset({"token"}),
            strategy=returns,
        ),
    )


def _pods() -> tuple[Kind, ...]:
    return (
        Kind(
            "",
            "v1",
            "PersistentVolumeClaim",
            "persistentvolumeclaims",
            short_names=("pvc",),
            subresources=_STATUS,
            strategy=Strategy(returns_deleted=True),
        ),
        Kind(
            "",
            "v1",
            "Pod",
            "pods",
            short_names=("po",),
            categories=_ALL,
            subresources=frozenset({"status", "log", "binding", "eviction", "portforward"}),
            strategy=strategies.POD,
        ),
    )


def _workloads() -> tuple[Kind, ...]:
    scalable = (
        ("Deployment", "deployments", "deploy"),
        ("ReplicaSet", "replicasets", "rs"),
        ("StatefulSet", "statefulsets", "sts"),
    )
    return (
        Kind(
            "apps",
            "v1",
            "DaemonSet",
            "daemonsets",
            short_names=("ds",),
            categories=_ALL,
            subresources=_STATUS,
            strategy=_SPEC,
        ),
        *(
            Kind(
                "apps",
                "v1",
                kind,
                plural,
                short_names=(short,),
                categories=_ALL,
                subresources=frozenset({"status", "scale"}),
                scale=ScalePaths(selector=("spec", "selector")),
                strategy=_SPEC,
            )
            for kind, plural, short in scalable
        ),
        Kind(
            "autoscaling",
            "v2",
            "HorizontalPodAutoscaler",
            "horizontalpodautoscalers",
            short_names=("hpa",),
            categories=_ALL,
            subresources=_STATUS,
        ),
        Kind(
            "batch",
            "v1",
            "Job",
            "jobs",
            categories=_ALL,
            subresources=_STATUS,
            strategy=_SPEC,
        ),
    )


def _others() -> tuple[Kind, ...]:
    rbac = "rbac.authorization.k8s.io"
    return (
        Kind(
            "apiextensions.k8s.io",
            "v1",
            "CustomResourceDefinition",
            "customresourcedefinitions",
            namespaced=False,
            short_names=("crd", "crds"),
            categories=("api-extensions",),
            subresources=_STATUS,
            strategy=Strategy(complete=custom.complete, validate=custom.validate, generation=True),
        ),
        Kind(
            "coordination.k8s.io",
            "v1",
            "Lease",
            "leases",
            strategy=Strategy(create_on_update=True),
        ),
        Kind("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", strategy=_SPEC),
        Kind(
            "events.k8s.io",
            "v1",
            "Event",
            "events",
            short_names=("ev",),
            strategy=strategies.EVENT,
            storage_resource="events.",
            storage_version="v1",
            from_storage=events_view,
            to_storage=core_event,
        ),
        Kind(
            "networking.k8s.io",
            "v1",
            "NetworkPolicy",
            "networkpolicies",
            short_names=("netpol",),
            strategy=_SPEC,
        ),
        Kind(
            "policy",
            "v1",
            "PodDisruptionBudget",
            "poddisruptionbudgets",
            short_names=("pdb",),
            subresources=_STATUS,
            strategy=_SPEC,
        ),
        Kind(rbac, "v1", "ClusterRole", "clusterroles", namespaced=False),
        Kind(rbac, "v1", "ClusterRoleBinding", "clusterrolebindings", namespaced=False),
        Kind(rbac, "v1", "Role", "roles"),
        Kind(rbac, "v1", "RoleBinding", "rolebindings"),
    )


def _reviews() -> tuple[Kind, ...]:
    """Questions that are answered and not stored."""
    authorization, authentication = "authorization.k8s.io", "authentication.k8s.io"

    def review(group: str, kind: str, namespaced: bool = False) -> Kind:
        plural = f"{kind.lower()}s"
        return Kind(group, "v1", kind, plural, namespaced=namespaced, verbs=_REVIEW_VERBS)

    return (
        review(authentication, "TokenReview"),
        review(authentication, "SelfSubjectReview"),
        review(authorization, "SelfSubjectAccessReview"),
        review(authorization, "SubjectAccessReview"),
        review(authorization, "LocalSubjectAccessReview", namespaced=True),
        review(authorization, "SelfSubjectRulesReview"),
    )


# events.k8s.io/v1 name <-> v1 name of the same field.
_EVENT_FIELDS = (
    ("note", "message"),
    ("regarding", "involvedObject"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
    ("reportingController", "reportingComponent"),
)


def events_view(obj: Object) -> Object:
    """A stored v1 Event in the words of events.k8s.io/v1."""
    names = {core: view for view, core in _EVENT_FIELDS}
    result: dict[str, Any] = {names.get(key, key): value for key, value in obj.items()}
    result["apiVersion"] = "events.k8s.io/v1"
    return result


def core_event(obj: Object) -> Object:
    """The v1 Event to store from one of events.k8s.io/v1."""
    names = dict(_EVENT_FIELDS)
    result: dict[str, Any] = {names.get(key, key): value for key, value in obj.items()}
    result["apiVersion"] = "v1"
    return result
