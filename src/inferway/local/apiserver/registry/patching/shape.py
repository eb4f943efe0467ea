"""What patching asks of a schema: which fields are lists with keys, sets, or atoms.

The facts are Kubernetes' x-kubernetes-list-type, -list-map-keys, -map-type, -patch-strategy and
-patch-merge-key extensions of OpenAPI.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol


class ListType(StrEnum):
    """How a list merges; a list without a type is atomic."""

    ATOMIC = "atomic"
    SET = "set"
    MAP = "map"


class Shape(Protocol):
    """The shape of one value. Unknown parts have the shape of free-form JSON."""

    @property
    def list_type(self) -> ListType: ...

    @property
    def list_keys(self) -> tuple[str, ...]:
        """The fields that name an item of a list of type map."""
        ...

    @property
    def list_key_defaults(self) -> Mapping[str, Any]:
        """Values of key fields that an item may leave out, such as protocol TCP."""
        ...

    @property
    def map_is_atomic(self) -> bool: ...

    @property
    def strategies(self) -> frozenset[str]:
        """Strategic merge: any of ``merge``, ``replace``, ``retainKeys``."""
        ...

    @property
    def merge_key(self) -> str | None:
        """Strategic merge: the field that names an item."""
        ...

    def member(self, name: str) -> Shape:
        """The shape of a field or of a map's values."""
        ...

    def item(self) -> Shape:
        """The shape of a list's items."""
        ...


@dataclass(frozen=True, slots=True)
class PlainShape:
    """A shape written down by hand; without arguments it is free-form JSON."""

    list_type: ListType = ListType.ATOMIC
    list_keys: tuple[str, ...] = ()
    list_key_defaults: Mapping[str, Any] = field(default_factory=dict)
    map_is_atomic: bool = False
    strategies: frozenset[str] = frozenset()
    merge_key: str | None = None
    members: Mapping[str, Shape] = field(default_factory=dict)
    items: Shape | None = None

    def member(self, name: str) -> Shape:
        return self.members.get(name) or PlainShape()

    def item(self) -> Shape:
        return self.items or PlainShape()
