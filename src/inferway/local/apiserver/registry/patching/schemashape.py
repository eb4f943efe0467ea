"""The ``Shape`` of a structural schema of ``api.schema``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from inferway.api.schema.model import FREE_FORM, MISSING, Schema
from inferway.local.apiserver.registry.patching.shape import ListType, Shape


@dataclass(frozen=True, slots=True)
class SchemaShape:
    """Reads merge facts off a schema; parts that the schema does not know are free form."""

    schema: Schema

    @property
    def list_type(self) -> ListType:
        schema = self.schema
        if schema.list_type == ListType.MAP and schema.list_keys:
            return ListType.MAP
        return ListType.SET if schema.list_type == ListType.SET else ListType.ATOMIC

    @property
    def list_keys(self) -> tuple[str, ...]:
        return self.schema.list_keys

    @property
    def list_key_defaults(self) -> Mapping[str, Any]:
        items = self.schema.items
        if items is None:
            return {}
        return {
            key: member.default
            for key in self.schema.list_keys
            if (member := items.properties.get(key)) and member.default is not MISSING
        }

    @property
    def map_is_atomic(self) -> bool:
        return self.schema.map_type == "atomic"

    @property
    def strategies(self) -> frozenset[str]:
        return self.schema.strategies

    @property
    def merge_key(self) -> str | None:
        return self.schema.merge_key or None

    def member(self, name: str) -> Shape:
        return SchemaShape(self.schema.member(name) or FREE_FORM)

    def item(self) -> Shape:
        return SchemaShape(self.schema.items or FREE_FORM)
