"""What a field of a custom kind promises besides its type.

Knows the words of an OpenAPI v3 schema. The facts are not checked by ``codec.decode``: the API
server has checked an object before anyone reads it, and may have a newer idea of what is allowed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any


@dataclass(frozen=True, slots=True, eq=False)
class Facts:
    """``schema`` has words of OpenAPI v3 such as maxLength, default, x-kubernetes-list-type.

    Several Facts on one type add up, the last word wins.
    """

    description: str = ""
    required: bool = False
    schema: tuple[tuple[str, Any], ...] = ()


def field(description: str = "", *, required: bool = False, **schema: Any) -> Facts:
    """Facts of one field or type. Underscores stand for dashes: ``x_kubernetes_list_type="set"``.

    A field without a default is required anyway; ``required`` is for those that have one for the
    convenience of readers.
    """
    named = ((key.replace("_", "-"), value) for key, value in schema.items())
    return Facts(description, required, tuple(named))


Rule = tuple[str, str]
"""A CEL expression over ``self``, and the message when it does not hold."""


def map_of(*keys: str) -> dict[str, Any]:
    """A list whose items are known by keys."""
    return {"x_kubernetes_list_type": "map", "x_kubernetes_list_map_keys": list(keys)}


ATOMIC: dict[str, Any] = {"x_kubernetes_list_type": "atomic"}
SET: dict[str, Any] = {"x_kubernetes_list_type": "set"}

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_DOMAIN = rf"{_LABEL}(\.{_LABEL})*"

GroupName = Annotated[str, field(maxLength=253, pattern=f"^$|^{_DOMAIN}$")]
KindName = Annotated[
    str, field(minLength=1, maxLength=63, pattern="^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$")
]
ObjectName = Annotated[str, field(minLength=1, maxLength=253)]
NamespaceName = Annotated[str, field(minLength=1, maxLength=63, pattern=f"^{_LABEL}$")]
SectionName = Annotated[str, field(minLength=1, maxLength=253, pattern=f"^{_DOMAIN}$")]
PortNumber = Annotated[int, field(format="int32", minimum=1, maximum=65535)]
Hostname = Annotated[str, field(minLength=1, maxLength=253, pattern=rf"^(\*\.)?{_DOMAIN}$")]
PreciseHostname = Annotated[str, field(minLength=1, maxLength=253, pattern=f"^{_DOMAIN}$")]
ControllerName = Annotated[
    str,
    field(
        minLength=1,
        maxLength=253,
        pattern=rf"^{_DOMAIN}\/[A-Za-z0-9\/\-._~%!$&'()*+,;=:]+$",
    ),
]
LabelValue = Annotated[
    str,
    field(minLength=0, maxLength=63, pattern="^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$"),
]
HeaderName = Annotated[
    str, field(minLength=1, maxLength=256, pattern=r"^[A-Za-z0-9!#$%&'*+\-.^_\x60|~]+$")
]
Duration = Annotated[str, field(pattern="^([0-9]{1,5}(h|m|s|ms)){1,4}$")]
Int32 = Annotated[int, field(format="int32")]
ADDRESS_TYPE_PATTERN = (
    rf"^Hostname|IPAddress|NamedAddress|{_DOMAIN}\/[A-Za-z0-9\/\-._~%!$&'()*+,;=:]+$"
)
_IP_ADDRESS = ["IPAddress"]
# An address of type IPAddress is one; others have forms of their own.
ADDRESS_FORM = field(
    oneOf=[
        {
            "properties": {
                "type": {"enum": _IP_ADDRESS},
                "value": {"anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]},
            }
        },
        {"properties": {"type": {"not": {"enum": _IP_ADDRESS}}}},
    ]
)
PROTOCOL_PATTERN = rf"^[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?$|{_DOMAIN}\/[A-Za-z0-9]+$"


def waiting(*types: str) -> list[dict[str, str]]:
    """The conditions that an object has before any controller has seen it."""
    return [
        {
            "type": type_,
            "status": "Unknown",
            "reason": "Pending",
            "message": "Waiting for controller",
            "lastTransitionTime": "1970-01-01T00:00:00Z",
        }
        for type_ in types
    ]
