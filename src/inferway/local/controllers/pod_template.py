"""Pods made from templates, and the hash that names a template.

Pure. Knows labels and owners; the Pod spec itself is copied and never read.
"""

from __future__ import annotations

from typing import Any

import msgspec

from inferway.api.resources import PODS, ResourceType
from inferway.cluster.client import Object
from inferway.local.controllers.objects import Raw, controller_reference, name, namespace

HASH_LABEL = "pod-template-hash"
# Kubernetes cuts the prefix so that five random letters still fit into 63 characters.
NAME_PREFIX_CHARACTERS_MAX = 58

# Kubernetes' alphabet for hashes in names: no vowels and no digits that read as letters.
_SAFE = "bcdfghjklmnpqrstvwxz2456789"
_FNV_OFFSET = 0x811C9DC5
_FNV_PRIME = 0x01000193


def fnv1a_32(data: bytes) -> int:
    """The FNV-1a hash (Fowler, Noll, Vo), 32 bits."""
    value = _FNV_OFFSET
    for byte in data:
        value = ((value ^ byte) * _FNV_PRIME) & 0xFFFFFFFF
    return value


def template_hash(template: Raw, collisions: int = 0) -> str:
    """The pod-template-hash of a template; another one for each count of collisions."""
    data = msgspec.json.encode(_sorted(template))
    if collisions:
        data += collisions.to_bytes(8, "little")
    return "".join(_SAFE[int(digit)] for digit in str(fnv1a_32(data)))


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


def without_hash(template: Raw) -> Object:
    """A template as the user wrote it, for comparisons."""
    meta = dict(template.get("metadata") or {})
    labels = {k: v for k, v in (meta.get("labels") or {}).items() if k != HASH_LABEL}
    meta = {k: v for k, v in {**meta, "labels": labels}.items() if v}
    meta.pop("creationTimestamp", None)
    return {**template, "metadata": meta}


def new_pod(owner: Raw, resource: ResourceType, template: Raw, labels: Raw | None = None) -> Object:
    """A Pod for an owner; the server appends the random part of the name."""
    template_meta = template.get("metadata") or {}
    prefix = f"{name(owner)}-"
    if len(prefix) > NAME_PREFIX_CHARACTERS_MAX:
        prefix = prefix[:NAME_PREFIX_CHARACTERS_MAX]
    metadata: Object = {
        "generateName": prefix,
        "namespace": namespace(owner),
        "ownerReferences": [controller_reference(owner, resource)],
    }
    all_labels = {**(template_meta.get("labels") or {}), **(labels or {})}
    if all_labels:
        metadata["labels"] = all_labels
    for field in ("annotations", "finalizers"):
        if template_meta.get(field):
            metadata[field] = template_meta[field]
    return {
        "apiVersion": PODS.api_version,
        "kind": PODS.kind,
        "metadata": metadata,
        "spec": template.get("spec") or {},
    }
