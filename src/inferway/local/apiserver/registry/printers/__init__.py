"""The columns of ``kubectl get`` for built-in kinds: one table. Cells are pure functions."""

from __future__ import annotations

from inferway.local.apiserver.registry.kinds import Printer
from inferway.local.apiserver.registry.printers import cluster, pods, workloads


def builtin_printers() -> dict[str, Printer]:
    """Printers by ``plural.group``."""
    return {
        "configmaps.": cluster.CONFIG_MAP,
        "customresourcedefinitions.apiextensions.k8s.io": cluster.DEFINITION,
        "clusterrolebindings.rbac.authorization.k8s.io": cluster.ROLE_BINDING,
        "clusterroles.rbac.authorization.k8s.io": cluster.ROLE,
        "daemonsets.apps": workloads.DAEMON_SET,
        "deployments.apps": workloads.DEPLOYMENT,
        "endpointslices.discovery.k8s.io": cluster.ENDPOINT_SLICE,
        "events.": cluster.EVENT,
        "events.events.k8s.io": cluster.EVENT,
        "horizontalpodautoscalers.autoscaling": workloads.AUTOSCALER,
        "jobs.batch": workloads.JOB,
        "leases.coordination.k8s.io": cluster.LEASE,
        "namespaces.": cluster.NAMESPACE,
        "networkpolicies.networking.k8s.io": cluster.NETWORK_POLICY,
        "nodes.": cluster.NODE,
        "persistentvolumeclaims.": cluster.CLAIM,
        "poddisruptionbudgets.policy": workloads.BUDGET,
        "pods.": pods.POD,
        "replicasets.apps": workloads.REPLICA_SET,
        "rolebindings.rbac.authorization.k8s.io": cluster.ROLE_BINDING,
        "roles.rbac.authorization.k8s.io": cluster.ROLE,
        "secrets.": cluster.SECRET,
        "serviceaccounts.": cluster.SERVICE_ACCOUNT,
        "services.": cluster.SERVICE,
        "statefulsets.apps": workloads.STATEFUL_SET,
    }
