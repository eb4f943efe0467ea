"""What a field of a custom kind promises besides its type.

Knows the words of an OpenAPI v3 schema. The facts are not checked by ``codec.decode``: the API
server has checked an object before anyone reads it, and may have a newer idea of what is allowed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Facts:
    """``schema`` has words of OpenAPI v3 such as maxLength, default, x-kubernetes-list-type.

    ``values`` has the words for the values of a map, or for the items of a list of scalars.
    """

    description: str = ""
    required: bool = False
    schema: tuple[tuple[str, Any], ...] = ()
    values: tuple[tuple[str, Any], ...] = ()


def field(
    description: str,
    *,
    required: bool = False,
    values: dict[str, Any] | None = None,
    **schema: Any,
) -> Facts:
    """Facts of one field. Underscores stand for dashes: ``x_kubernetes_list_type="map"``."""
    named = ((key.replace("_", "-"), value) for key, value in schema.items())
    return Facts(description, required, tuple(named), tuple((values or {}).items()))


def rule(expression: str, message: str) -> dict[str, str]:
    """A CEL rule of x-kubernetes-validations."""
    return {"rule": expression, "message": message}


def map_of(*keys: str) -> dict[str, Any]:
    """A list whose items are known by keys."""
    return {"x_kubernetes_list_type": "map", "x_kubernetes_list_map_keys": list(keys)}


ATOMIC: dict[str, Any] = {"x_kubernetes_list_type": "atomic"}
