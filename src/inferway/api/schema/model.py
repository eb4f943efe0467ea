"""The form of a structural schema."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final


class _Missing:
    """Stands for a value that is not there, because null is a value."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits of a value; None where there is none."""

    minimum: float | None = None
    maximum: float | None = None
    exclusive_minimum: bool = False
    exclusive_maximum: bool = False
    multiple_of: float | None = None
    min_length: int | None = None
    max_length: int | None = None
    min_items: int | None = None
    max_items: int | None = None
    min_properties: int | None = None
    max_properties: int | None = None
    unique_items: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of x-kubernetes-validations."""

    expression: str
    message: str = ""
    message_expression: str = ""
    reason: str = "FieldValueInvalid"
    field_path: str = ""
    optional_old_self: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Schema:
    """What one value may be. Compared by identity, because definitions refer to themselves."""

    name: str = ""
    """Name of the definition, for built-in kinds."""
    type: str = ""
    format: str = ""
    description: str = ""
    properties: Mapping[str, Schema] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    values: Schema | None = None
    """The schema of a map's values."""
    items: Schema | None = None
    """The schema of a list's items."""
    open: bool = False
    """Fields that are not named are kept as they are."""
    embedded: bool = False
    """The value is an object with apiVersion, kind and metadata."""
    int_or_string: bool = False
    nullable: bool = False
    default: Any = MISSING
    enum: tuple[Any, ...] = ()
    pattern: str = ""
    bounds: Bounds = Bounds()
    list_type: str = ""
    """atomic, set or map; empty means atomic."""
    list_keys: tuple[str, ...] = ()
    map_type: str = ""
    """atomic or granular; empty means granular."""
    merge_key: str = ""
    strategies: frozenset[str] = frozenset()
    """Strategic merge: merge, replace, retainKeys."""
    all_of: tuple[Schema, ...] = ()
    any_of: tuple[Schema, ...] = ()
    one_of: tuple[Schema, ...] = ()
    not_: Schema | None = None
    rules: tuple[Rule, ...] = ()

    def member(self, name: str) -> Schema | None:
        """The schema of a field or of a map's value; None if the schema does not know it."""
        return self.properties.get(name) or self.values


FREE_FORM: Final = Schema(open=True)
"""Any JSON value."""
