"""Writes statuses, and only when they changed.

``merge_diff`` is pure. Knows merge patches (RFC 7386); does not know what a status means.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inferway.api.resources import ResourceType
from inferway.cluster.client import KubeClient, Object, PatchType
from inferway.cluster.store import key_of


def merge_diff(old: Mapping[str, Any], new: Mapping[str, Any]) -> Object:
    """The merge patch that turns ``old`` into ``new``; empty if they are equal."""
    patch: Object = {key: None for key in old if key not in new and old[key] is not None}
    for key, value in new.items():
        before = old.get(key)
        if value == before:
            continue
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            patch[key] = merge_diff(before, value)
        else:
            patch[key] = value
    return patch


async def write_status(
    client: KubeClient, resource: ResourceType, current: Mapping[str, Any], status: Object
) -> Object | None:
    """Makes the status of ``current`` equal to ``status``; None if it is so already.

    Fields of the status that are not in ``status`` are removed: the caller owns all of it.
    """
    patch = merge_diff(current.get("status") or {}, status)
    if not patch:
        return None
    key = key_of(current)
    # The uid keeps a namesake that was made meanwhile from getting this status.
    guard = {"uid": current["metadata"].get("uid")} if current["metadata"].get("uid") else {}
    return await client.patch(
        resource,
        key.name,
        {"metadata": guard, "status": patch} if guard else {"status": patch},
        key.namespace or None,
        patch_type=PatchType.MERGE,
        subresource="status",
    )


def _contains(current: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    for key, value in wanted.items():
        before = current.get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            if not _contains(before, value):
                return False
        elif value != before:
            return False
    return True
