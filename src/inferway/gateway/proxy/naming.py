"""Names of the objects of a Gateway's proxies: readable, valid, and never the same for two.

Gateway names have up to 253 characters and dots; a Service's name is a label of DNS.
"""

from __future__ import annotations

import hashlib

GATEWAY_LABEL = "gateway.networking.k8s.io/gateway-name"
CLASS_LABEL = "gateway.networking.k8s.io/gateway-class-name"
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MANAGED_BY = "inferway"

# Leaves room for what a ReplicaSet and a Pod append, within the 63 characters of a label.
NAME_CHARACTERS_MAX = 45
_LABEL_CHARACTERS_MAX = 63
_HASH_CHARACTERS = 8


def object_name(gateway: str, gateway_class: str) -> str:
    """The name of the Deployment and the Service."""
    wanted = f"{gateway}-{gateway_class}"
    name = wanted.replace(".", "-")
    if not name[0].isalpha():
        name = f"gw-{name}"
    if name == wanted and len(name) <= NAME_CHARACTERS_MAX:
        return name
    return _cut(name, wanted, NAME_CHARACTERS_MAX)


def gateway_label(gateway: str) -> str:
    """The value of the label that names the Gateway."""
    if len(gateway) <= _LABEL_CHARACTERS_MAX:
        return gateway
    return _cut(gateway, gateway, _LABEL_CHARACTERS_MAX)


def _cut(name: str, whole: str, limit: int) -> str:
    mark = hashlib.sha256(whole.encode()).hexdigest()[:_HASH_CHARACTERS]
    return f"{name[: limit - _HASH_CHARACTERS - 1].rstrip('-.')}-{mark}"
