"""Which addresses a Pod gets: its own, and for proxies the one of their Service."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from inferway.api.pods import Pod
from inferway.local.node.environment import MissingError
from inferway.local.node.parts import NodeParts

FROM_SERVICE = "inferway.dev/address-from-service"
# The Service controller needs milliseconds; after this an Event says what is waited for.
SERVICE_SECONDS_MAX = 5.0
LOOK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class PodAddress:
    """``owned`` addresses are freed with the Pod; the node's own is not.

    ``bind_ip`` is where a program of the Pod that serves a Service itself has to listen: the
    load balancer address of that Service, which several Pods share, else the Pod's own.
    """

    ip: str
    owned: bool
    bind_ip: str


async def pod_address(parts: NodeParts, pod: Pod, is_ending: Callable[[], bool]) -> PodAddress:
    """The address of a Pod; does not wait for one that ends. Raises MissingError, InferwayError."""
    service = pod.metadata.annotations.get(FROM_SERVICE)
    shared = await _service_address(parts, pod, service, is_ending) if service else ""
    if pod.spec.host_network:
        return PodAddress(parts.options.host_ip, False, shared or parts.options.host_ip)
    before = pod.status.pod_ip
    if not (before and parts.addresses.claim(pod.metadata.uid, before)):
        before = parts.addresses.allocate(pod.metadata.uid)
    return PodAddress(before, True, shared or before)


async def _service_address(
    parts: NodeParts, pod: Pod, name: str, is_ending: Callable[[], bool]
) -> str:
    ends = parts.steady.now() + SERVICE_SECONDS_MAX
    while True:
        found = await parts.find(parts.caches.services, pod.metadata.namespace, name)
        status = ((found or {}).get("status") or {}).get("loadBalancer") or {}
        for ingress in status.get("ingress") or ():
            if ingress.get("ip"):
                return str(ingress["ip"])
        left = ends - parts.steady.now()
        if left <= 0 or is_ending():
            raise MissingError(
                f"the Pod is to have the address of Service {pod.metadata.namespace}/{name}, "
                + ("which has none yet" if found else "which does not exist")
            )
        await parts.changes.wait(min(left, LOOK_SECONDS))
