"""A kind as data: names, scope, subresources, columns and the strategy of its writes.

Knows shapes only; the kinds themselves stand in ``builtin.py`` and come from CRDs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from inferway.local.apiserver.registry.errors import Cause, Subject

Object = dict[str, Any]
Cells = list[Any]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of ``kubectl get``. Priority above 0 is shown with ``-o wide``."""

    name: str
    type: str = "string"
    format: str = ""
    description: str = ""
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Printer:
    """The columns of a kind, and the cells of an object at a moment (seconds since epoch)."""

    columns: tuple[Column, ...]
    cells: Callable[[Object, float], Cells]


@dataclass(frozen=True, slots=True)
class ScalePaths:
    """Where the scale subresource reads and writes."""

    spec_replicas: tuple[str, ...] = ("spec", "replicas")
    status_replicas: tuple[str, ...] = ("status", "replicas")
    selector: tuple[str, ...] = ()


# Judges an object; ``old`` is None when it is created.
Validate = Callable[[Object, Object | None], list[Cause]]
# Completes an object in place.
Complete = Callable[[Object, Object | None], None]


def _no_causes(obj: Object, old: Object | None) -> list[Cause]:
    return []


def _leave(obj: Object, old: Object | None) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Strategy:
    """What is particular about writing a kind."""

    complete: Complete = _leave
    """Defaults that depend on more than the schema."""
    validate: Validate = _no_causes
    generation: bool = False
    """``metadata.generation`` counts changes of everything but metadata and status."""
    create_on_update: bool = False
    """PUT of a missing object creates it."""
    unconditional_update: bool = True
    """PUT without a resourceVersion is taken."""
    graceful: bool = False
    """Deletion waits for the node (Pods)."""
    returns_deleted: bool = False
    """DELETE answers with the object instead of a Status."""
    status_keeps_metadata: bool = False
    """A status write may change labels and annotations too."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind in one version."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool = True
    singular: str = ""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: frozenset[str] = frozenset()
    list_kind: str = ""
    strategy: Strategy = field(default_factory=Strategy)
    printer: Printer | None = None
    scale: ScalePaths | None = None
    selectable: frozenset[str] = frozenset()
    """Field selectors besides metadata.name and metadata.namespace."""
    storage_version: str = ""
    """The version in which objects are kept, if it is another one."""
    storage_resource: str = ""
    from_storage: Callable[[Object], Object] | None = None
    to_storage: Callable[[Object], Object] | None = None
    schema: Mapping[str, Any] | None = None
    """The OpenAPI v3 schema of a custom resource; None for built-in kinds."""
    custom: bool = False
    verbs: tuple[str, ...] = (
        "create",
        "delete",
        "deletecollection",
        "get",
        "list",
        "patch",
        "update",
        "watch",
    )

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        """The store's name of the resource; versions of a kind share it."""
        return self.storage_resource or f"{self.plural}.{self.group}"

    @property
    def name_of_list(self) -> str:
        return self.list_kind or f"{self.kind}List"

    @property
    def name_singular(self) -> str:
        return self.singular or self.kind.lower()

    @property
    def stored_as_is(self) -> bool:
        """The stored bytes can be sent without decoding them."""
        return self.from_storage is None

    def subject(self, name: str = "") -> Subject:
        return Subject(self.group, self.plural, name, self.kind)

    def load(self, obj: Object) -> Object:
        """An object of this version from the stored one."""
        return obj if self.from_storage is None else self.from_storage(obj)

    def keep(self, obj: Object) -> Object:
        """The object to store from one of this version."""
        return obj if self.to_storage is None else self.to_storage(obj)


class KindTable:
    """The kinds that are served, by group, version and plural. CRDs change it at run time."""

    def __init__(self, kinds: tuple[Kind, ...]) -> None:
        self._builtin = {(k.group, k.version, k.plural): k for k in kinds}
        self._custom: dict[str, tuple[Kind, ...]] = {}
        self._all = dict(self._builtin)

    def find(self, group: str, version: str, plural: str) -> Kind | None:
        return self._all.get((group, version, plural))

    def all(self) -> list[Kind]:
        return list(self._all.values())

    def builtin_owner(self, group: str, plural: str) -> bool:
        """Whether a built-in kind has this name, so that no CRD may take it."""
        return any(g == group and p == plural for g, _, p in self._builtin)

    def custom(self, crd: str) -> tuple[Kind, ...]:
        return self._custom.get(crd, ())

    def set_custom(self, crd: str, kinds: tuple[Kind, ...]) -> None:
        """The versions that one CRD serves; none removes it."""
        if kinds:
            self._custom[crd] = kinds
        else:
            self._custom.pop(crd, None)
        self._all = dict(self._builtin)
        for group in self._custom.values():
            self._all |= {(k.group, k.version, k.plural): k for k in group}
