"""The objects that are there from the start: namespaces, accounts, the API server's own Service."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from inferway.api.crds import builtin_definitions, to_object
from inferway.local.apiserver.registry.definitions import Definitions
from inferway.local.apiserver.registry.errors import StatusError
from inferway.local.apiserver.registry.expiry import Expiry
from inferway.local.apiserver.registry.kinds import Kind, KindTable, Object
from inferway.local.apiserver.registry.options import Target, WriteOptions
from inferway.local.apiserver.registry.registry import Registry

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_MANAGER = WriteOptions(field_manager="kube-apiserver", field_validation="Ignore")


def bootstrap(registry: Registry, address: str, port: int, ca: str) -> None:
    """Makes what is missing; what is there stays, except for the server's own address."""
    definitions = Definitions(registry)
    definitions.load()
    registry.hooks.append(definitions.written)
    registry.hooks.append(Expiry(registry).written)
    ground = _Ground(registry, ca, address, port)
    registry.hooks.append(ground.written)
    for name in NAMESPACES:
        ensure(registry, "", "namespaces", {"metadata": {"name": name}})
    for definition in builtin_definitions():
        _bring_definition(registry, remembered(to_object(definition)))
    for namespace in registry.store.objects("namespaces."):
        _fill_namespace(registry, ca, namespace.key.name)
    _own_service(registry, address, port)


# What comes back at once when somebody deletes it, by resource and name.
_IN_EVERY_NAMESPACE = {("serviceaccounts.", "default"), ("configmaps.", "kube-root-ca.crt")}
_OWN = {
    ("services.", "default", "kubernetes"),
    ("endpointslices.discovery.k8s.io", "default", "kubernetes"),
}


@dataclass(frozen=True, slots=True)
class _Ground:
    """Keeps the objects that every Pod stands on; a hook of the registry."""

    registry: Registry
    ca: str
    address: str
    port: int

    def written(self, kind: Kind, new: Object | None, old: Object | None) -> None:
        if kind.resource == "namespaces.":
            if new and "deletionTimestamp" not in new["metadata"]:
                _fill_namespace(self.registry, self.ca, new["metadata"]["name"])
            return
        if new is not None or old is None:
            return
        namespace, name = old["metadata"].get("namespace", ""), old["metadata"]["name"]
        if (kind.resource, name) in _IN_EVERY_NAMESPACE:
            _fill_namespace(self.registry, self.ca, namespace)
        elif (kind.resource, namespace, name) in _OWN:
            _own_service(self.registry, self.address, self.port)


def remembered(obj: Object) -> Object:
    """The object with kubectl's note of what was applied.

    ``kubectl apply`` of a project's own definition then replaces ours as a whole and has nothing to
    warn about.
    """
    metadata = obj["metadata"]
    text = msgspec.json.encode(obj).decode() + "\n"
    annotations = {**(metadata.get("annotations") or {}), LAST_APPLIED: text}
    return {**obj, "metadata": {**metadata, "annotations": annotations}}


def _bring_definition(registry: Registry, obj: Object) -> None:
    """Stores a built-in definition, unless somebody else has written one in its place."""
    group, plural = "apiextensions.k8s.io", "customresourcedefinitions"
    target = _target(registry.kinds, group, plural, obj)
    stored = registry.store.get(registry.key(target))
    if stored is None:
        registry.create(target, obj, _MANAGER)
        return
    managed = registry.get(target)["metadata"].get("managedFields") or ()
    if {entry.get("manager") for entry in managed} <= {_MANAGER.field_manager}:
        # A newer version of Inferway brings newer definitions.
        registry.update(target, obj, _MANAGER)


def ensure(registry: Registry, group: str, plural: str, obj: Object) -> None:
    """Creates an object unless it is there."""
    target = _target(registry.kinds, group, plural, obj)
    if registry.store.get(registry.key(target)) is None:
        registry.create(target, obj, _MANAGER)


def _target(kinds: KindTable, group: str, plural: str, obj: Object) -> Target:
    kind = kinds.find(group, "v1", plural)
    assert kind is not None
    metadata = obj["metadata"]
    return Target(kind, metadata.get("namespace", ""), metadata["name"])


def _fill_namespace(registry: Registry, ca: str, namespace: str) -> None:
    """What controllers of a cluster put in every namespace, so that a Pod can start at once."""
    account = {"metadata": {"name": "default", "namespace": namespace}}
    ca_map = {
        "metadata": {"name": "kube-root-ca.crt", "namespace": namespace},
        "data": {"ca.crt": ca},
    }
    for plural, obj in (("serviceaccounts", account), ("configmaps", ca_map)):
        try:
            ensure(registry, "", plural, obj)
        except StatusError as error:
            # A namespace that is being emptied, or is gone, gets nothing new.
            if error.code not in (403, 404):
                raise


def _own_service(registry: Registry, address: str, port: int) -> None:
    """``kubernetes.default``: the API server as a Service with itself as the only endpoint."""
    labels = {"component": "apiserver", "provider": "kubernetes"}
    service: Object = {
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": address,
            "clusterIPs": [address],
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "internalTrafficPolicy": "Cluster",
            "sessionAffinity": "None",
            "ports": [{"name": "https", "port": port, "protocol": "TCP", "targetPort": port}],
        },
    }
    slice_: Object = {
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": "kubernetes"},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    }
    for group, plural, obj in (
        ("", "services", service),
        ("discovery.k8s.io", "endpointslices", slice_),
    ):
        target = _target(registry.kinds, group, plural, obj)
        stored = registry.store.get(registry.key(target))
        if stored is None:
            registry.create(target, obj, _MANAGER)
            continue
        current = registry.get(target)
        if any(current.get(key) != value for key, value in obj.items() if key != "metadata"):
            # The stack was started on another address; the hook brings the new one.
            registry.remove(target, current, stored.revision)
