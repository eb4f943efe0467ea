"""Keeps the table of kinds equal to the stored CustomResourceDefinitions.

A definition is served within the write that stores it. When it is deleted its objects go first.
"""

from __future__ import annotations

import logging

from inferway.local.apiserver.registry import custom, deleting
from inferway.local.apiserver.registry.kinds import Kind, Object
from inferway.local.apiserver.registry.options import DeleteOptions, Target
from inferway.local.apiserver.registry.registry import Registry, finished, load

logger = logging.getLogger(__name__)


class Definitions:
    """Hooks of the registry for definitions and for objects of custom kinds."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def load(self) -> None:
        """Serves what is stored, after a start."""
        for stored in self._registry.store.objects(custom.RESOURCE):
            crd = load(self._kind(), stored)
            try:
                self._serve(crd)
            except (KeyError, TypeError, ValueError, StopIteration) as error:
                # One bad definition hurts its own kind and no other.
                logger.warning(
                    "a stored definition can not be served",
                    extra={"data": {"name": crd["metadata"]["name"], "error": str(error)}},
                )

    def _kind(self) -> Kind:
        kind = self._registry.kinds.find("apiextensions.k8s.io", "v1", "customresourcedefinitions")
        assert kind is not None
        return kind

    def written(self, kind: Kind, new: Object | None, old: Object | None) -> None:
        """The registry's hook."""
        if kind.resource == custom.RESOURCE:
            if new is None:
                assert old is not None
                self._registry.kinds.set_custom(old["metadata"]["name"], ())
            elif new["metadata"].get("deletionTimestamp"):
                self._empty(new)
            else:
                self._accept(new)
        elif kind.custom and new is None:
            self._let_go(f"{kind.plural}.{kind.group}")

    def _accept(self, crd: Object) -> None:
        registry = self._registry
        status = custom.status_of(crd, registry.now(), self._conflict(crd))
        if status != crd.get("status"):
            target = Target(self._kind(), "", crd["metadata"]["name"])
            crd = {**crd, "status": status, "metadata": dict(crd["metadata"])}
            registry.save(target, crd, registry.stored(target).revision)
        self._serve(crd)

    def _serve(self, crd: Object) -> None:
        name = crd["metadata"]["name"]
        accepted = not self._conflict(crd)
        self._registry.kinds.set_custom(name, custom.kinds_of(crd) if accepted else ())

    def _conflict(self, crd: Object) -> str:
        spec = crd["spec"]
        if self._registry.kinds.builtin_owner(spec["group"], spec["names"]["plural"]):
            return f'"{spec["names"]["plural"]}" is already in use'
        return ""

    def _empty(self, crd: Object) -> None:
        """Deletes every object of a definition that is to go."""
        registry = self._registry
        name = crd["metadata"]["name"]
        kinds = registry.kinds.custom(name)
        if kinds:
            for stored in registry.store.objects(kinds[0].resource):
                target = Target(kinds[0], stored.key.namespace, stored.key.name)
                if registry.store.get(stored.key) is not None:
                    deleting.delete(registry, target, DeleteOptions())
        self._let_go(name)

    def _let_go(self, name: str) -> None:
        """Takes the clean-up finalizer off a definition that is to go and has no objects left."""
        registry = self._registry
        target = Target(self._kind(), "", name)
        stored = registry.store.get(registry.key(target))
        if stored is None:
            return
        crd = load(target.kind, stored)
        finalizers = crd["metadata"].get("finalizers") or []
        going = crd["metadata"].get("deletionTimestamp") and custom.CLEANUP_FINALIZER in finalizers
        if not going or registry.store.objects(name):
            return
        left = [entry for entry in finalizers if entry != custom.CLEANUP_FINALIZER]
        metadata = {key: value for key, value in crd["metadata"].items() if key != "finalizers"}
        if left:
            metadata["finalizers"] = left
        crd["metadata"] = metadata
        if finished(target.kind, crd):
            registry.remove(target, crd, stored.revision)
        else:
            registry.save(target, crd, stored.revision)
