"""Who the other pickers are: Pods with the labels of this one, whatever their revision.

So replicas of a Deployment find each other during its update too, and no right is needed beyond
that to read Pods, which every published picker has.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping

import msgspec

from inferway.api.resources import PODS
from inferway.base.errors import InferwayError
from inferway.cluster.client import KubeClient
from inferway.cluster.informer import Informer
from inferway.picker.endpoints import Pod, decode_pod

_log = logging.getLogger(__name__)

# What controllers add to a Pod, by which it differs from its siblings.
OWN_LABELS = frozenset(
    {
        "pod-template-hash",
        "controller-revision-hash",
        "pod-template-generation",
        "statefulset.kubernetes.io/pod-name",
        "apps.kubernetes.io/pod-index",
    }
)
RETRY_SECONDS = 5.0


def own_pod(env: Mapping[str, str]) -> tuple[str, str]:
    """Namespace and name of the Pod, as far as the environment tells them."""
    name = env.get("POD_NAME") or env.get("HOSTNAME") or ""
    return env.get("POD_NAMESPACE") or env.get("NAMESPACE") or "default", name


def selector_of(labels: Mapping[str, str]) -> str:
    """Selects this Pod and its siblings; nothing if it has no labels to know them by."""
    return ",".join(f"{k}={v}" for k, v in sorted(labels.items()) if k not in OWN_LABELS)


def addresses(pods: Iterable[Pod], own: str, port: int) -> list[str]:
    """``host:port`` of the other Pods that run, those that are stopping too: they have requests."""
    found = []
    for pod in pods:
        ip = pod.status.podIP
        if pod.metadata.name != own and ip and pod.status.phase == "Running":
            found.append(f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}")
    return sorted(found)


async def watch(
    client: KubeClient,
    pod: tuple[str, str],
    port: int,
    tell: Callable[[list[str]], None],
) -> None:
    """Tells the other pickers and again after each change, until cancelled."""
    namespace, name = pod
    selector = await _own_selector(client, namespace, name)
    if not selector:
        _log.info("this picker is no Pod with labels: it looks for no others")
        return
    changed = asyncio.Event()
    pods: Informer[Pod] = Informer(
        client, PODS, decode=decode_pod, namespace=namespace, labels=selector
    )
    pods.subscribe(lambda key: changed.set())
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(pods.run(), name="watch pickers")
        await pods.synced.wait()
        while True:
            changed.clear()
            tell(addresses(pods.store.values(), name, port))
            await changed.wait()


async def _own_selector(client: KubeClient, namespace: str, name: str) -> str:
    while name:
        try:
            raw = await client.get(PODS, name, namespace)
            return selector_of(decode_pod(raw).metadata.labels or {})
        except msgspec.ValidationError:
            return ""
        except InferwayError as error:
            if getattr(error, "status", 0) == 404:
                return ""
            _log.debug("its own Pod can not be read", extra={"data": {"error": str(error)}})
        await asyncio.sleep(RETRY_SECONDS)
    return ""
