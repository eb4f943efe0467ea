"""What every namespace has: ServiceAccount ``default`` and ConfigMap ``kube-root-ca.crt``.

``plan`` is pure. Knows the certificate authority from the client's own configuration.
"""

from __future__ import annotations

from inferway.api.resources import CONFIG_MAPS, NAMESPACES, SERVICE_ACCOUNTS, ResourceType
from inferway.cluster.client import Object
from inferway.cluster.errors import AlreadyExistsError
from inferway.cluster.store import Key
from inferway.cluster.workqueue import WorkQueue
from inferway.local.controllers import objects as o
from inferway.local.controllers.actions import Action, Create, Patch
from inferway.local.controllers.objects import Raw
from inferway.local.controllers.runtime import Context, Controller

COMPONENT = "service-account-controller"
ACCOUNT = "default"
ROOT_CA = "kube-root-ca.crt"
_DESCRIPTION = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal "
    "endpoints such as the internal service IP or kubernetes.default.svc. No other usage is "
    "guaranteed across distributions of Kubernetes clusters."
)


def plan(namespace: str, account: Raw | None, root: Raw | None, ca: str) -> list[Action]:
    """Makes what is missing, and puts a changed certificate right."""
    actions: list[Action] = []
    if account is None:
        actions.append(Create(SERVICE_ACCOUNTS, _object(SERVICE_ACCOUNTS, namespace, ACCOUNT)))
    if not ca:
        return actions
    if root is None:
        config_map = _object(CONFIG_MAPS, namespace, ROOT_CA)
        config_map["metadata"]["annotations"] = {"kubernetes.io/description": _DESCRIPTION}
        config_map["data"] = {"ca.crt": ca}
        actions.append(Create(CONFIG_MAPS, config_map))
    elif (root.get("data") or {}) != {"ca.crt": ca}:
        extra = {key: None for key in root.get("data") or {} if key != "ca.crt"}
        actions.append(Patch(CONFIG_MAPS, root, {"data": {"ca.crt": ca, **extra}}))
    return actions


def _object(resource: ResourceType, namespace: str, name: str) -> Object:
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {"name": name, "namespace": namespace},
    }


def controller(context: Context) -> Controller:
    """The pump: namespaces in, and the two objects when someone deletes them."""
    queue: WorkQueue[Key] = WorkQueue("accounts")
    executor = context.executor(COMPONENT)
    ca = (context.client.config.ca or b"").decode()
    context.caches.of(NAMESPACES).subscribe(queue.add)
    for resource, wanted in ((SERVICE_ACCOUNTS, ACCOUNT), (CONFIG_MAPS, ROOT_CA)):

        def changed(key: Key, wanted: str = wanted) -> None:
            if key.name == wanted:
                queue.add(Key("", key.namespace))

        context.caches.of(resource).subscribe(changed)

    async def reconcile(key: Key) -> float | None:
        namespace = context.get(NAMESPACES, key)
        if namespace is None or o.deleting(namespace):
            return None
        account = context.get(SERVICE_ACCOUNTS, Key(key.name, ACCOUNT))
        root = context.get(CONFIG_MAPS, Key(key.name, ROOT_CA))
        for action in plan(key.name, account, root, ca):
            try:
                await executor.perform([action])
            except AlreadyExistsError:
                # The cache is about to show it.
                continue
        return None

    return Controller("accounts", queue, reconcile, workers=1)
