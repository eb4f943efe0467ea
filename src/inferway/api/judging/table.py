"""Which function judges which built-in kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from inferway.api.codec import Object
from inferway.api.judging import data, others, pod, service, workloads
from inferway.api.judging.words import Errors
from inferway.api.schema.errors import FieldError

Judge = Callable[[Object, Object | None], Errors]

_RBAC = "rbac.authorization.k8s.io"
JUDGES: Mapping[tuple[str, str], Judge] = MappingProxyType(
    {
        ("", "ConfigMap"): data.judge_config_map,
        ("", "Event"): others.judge_event,
        ("", "Pod"): pod.judge,
        ("", "Secret"): data.judge_secret,
        ("", "Service"): service.judge,
        ("apps", "DaemonSet"): workloads.judge_daemon_set,
        ("apps", "Deployment"): workloads.judge_deployment,
        ("apps", "ReplicaSet"): workloads.judge_replica_set,
        ("apps", "StatefulSet"): workloads.judge_stateful_set,
        ("autoscaling", "HorizontalPodAutoscaler"): others.judge_autoscaler,
        ("batch", "CronJob"): workloads.judge_cron_job,
        ("batch", "Job"): workloads.judge_job,
        ("coordination.k8s.io", "Lease"): others.judge_lease,
        ("discovery.k8s.io", "EndpointSlice"): service.judge_endpoint_slice,
        ("networking.k8s.io", "NetworkPolicy"): others.judge_network_policy,
        ("policy", "PodDisruptionBudget"): others.judge_disruption_budget,
        (_RBAC, "ClusterRole"): others.judge_role,
        (_RBAC, "ClusterRoleBinding"): others.judge_binding,
        (_RBAC, "Role"): others.judge_role,
        (_RBAC, "RoleBinding"): others.judge_binding,
    }
)


def judge(group: str, kind: str, obj: Object, old: Object | None = None) -> list[FieldError]:
    """What is wrong with a built-in object that has its defaults. ``old`` is None for a new one."""
    function = JUDGES.get((group, kind))
    return [] if function is None else list(function(obj, old))
