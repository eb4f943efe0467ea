"""How a cluster chooses a host.

A pool follows the list that its picker gave: first the first, on a retry the next. What happens
without a usable list is the pool's failure mode: fail open balances by load, fail closed finds
nobody (503), so that a wrong list is never a silent round robin.
"""

from __future__ import annotations

from typing import Any

from envoy.config.cluster.v3 import cluster_pb2
from envoy.extensions.load_balancing_policies.least_request.v3 import least_request_pb2
from envoy.extensions.load_balancing_policies.override_host.v3 import override_host_pb2
from envoy.extensions.load_balancing_policies.round_robin.v3 import round_robin_pb2
from envoy.extensions.load_balancing_policies.subset.v3 import subset_pb2

from inferway.gateway.envoy.names import DESTINATION_HEADER, NATIVE_NAMESPACE, PICK_NAMESPACE
from inferway.gateway.envoy.pack import pack
from inferway.gateway.translate.ir import Cluster, ClusterKind

_Policy = cluster_pb2.LoadBalancingPolicy
_PREFIX = "envoy.load_balancing_policies."


def load_balancing(cluster: Cluster) -> Any:
    """The policy of a cluster."""
    if cluster.kind is ClusterKind.PICKER:
        # One that is gone has least requests of all; in turn, the second attempt is at another.
        return _policy("round_robin", round_robin_pb2.RoundRobin())
    if cluster.kind is not ClusterKind.POOL:
        return _policy("least_request", least_request_pb2.LeastRequest())
    message = override_host_pb2.OverrideHost()
    for namespace in (PICK_NAMESPACE, NATIVE_NAMESPACE):
        source = message.override_host_sources.add()
        source.metadata.key = namespace
        source.metadata.path.add().key = DESTINATION_HEADER
    message.fallback_policy.CopyFrom(_nobody() if cluster.strict else _least_loaded())
    return _policy("override_host", message)


def _least_loaded() -> Any:
    return _policy("least_request", least_request_pb2.LeastRequest())


def _nobody() -> Any:
    """A subset by a key that no host has, and no fallback from it."""
    subset = subset_pb2.Subset(fallback_policy=subset_pb2.Subset.NO_FALLBACK)
    subset.subset_selectors.add(keys=["inferway-nobody"])
    subset.subset_lb_policy.CopyFrom(_least_loaded())
    return _policy("subset", subset)


def _policy(name: str, message: Any) -> Any:
    policy = _Policy()
    extension = policy.policies.add().typed_extension_config
    extension.name = _PREFIX + name
    extension.typed_config.CopyFrom(pack(message))
    return policy
