"""Which function completes which built-in kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from inferway.api.codec import Object, without_nulls
from inferway.api.defaults import deployment, job, others, pod, service, sets

Complete = Callable[[Object], None]

_RBAC = "rbac.authorization.k8s.io"
COMPLETIONS: Mapping[tuple[str, str], Complete] = MappingProxyType(
    {
        ("", "ConfigMap"): others.complete_config_map,
        ("", "PersistentVolumeClaim"): others.complete_claim,
        ("", "Pod"): pod.complete,
        ("", "Secret"): others.complete_secret,
        ("", "Service"): service.complete,
        ("apiextensions.k8s.io", "CustomResourceDefinition"): others.complete_crd,
        ("apps", "DaemonSet"): sets.complete_daemon_set,
        ("apps", "Deployment"): deployment.complete,
        ("apps", "ReplicaSet"): deployment.complete_replica_set,
        ("apps", "StatefulSet"): sets.complete_stateful_set,
        ("autoscaling", "HorizontalPodAutoscaler"): others.complete_autoscaler,
        ("batch", "CronJob"): job.complete_cron_job,
        ("batch", "Job"): job.complete,
        ("discovery.k8s.io", "EndpointSlice"): service.complete_endpoint_slice,
        ("networking.k8s.io", "NetworkPolicy"): others.complete_network_policy,
        (_RBAC, "ClusterRoleBinding"): others.complete_binding,
        (_RBAC, "RoleBinding"): others.complete_binding,
    }
)


def complete(group: str, kind: str, obj: Object) -> Object:
    """A copy of a built-in object with all defaults. Null stands for absent, as in Go.

    The object's values have the types of its schema: ask ``schema.decoding`` first.
    """
    result: Object = without_nulls(obj)
    function = COMPLETIONS.get((group, kind))
    if function is not None:
        function(result)
    return result
