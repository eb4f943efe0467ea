"""JSON merge patch (RFC 7386) and JSON patch (RFC 6902)."""

from __future__ import annotations

import copy
from typing import Any

import jsonpatch

# Kubernetes' limit on the operations of one JSON patch; each may copy the whole object.
JSON_PATCH_OPERATIONS_MAX = 10_000


class PatchError(Exception):
    """A patch that cannot be applied; the text is for the client."""


def merge_patch(current: Any, patch: Any) -> Any:
    """RFC 7386: null removes, maps merge, everything else replaces."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(current) if isinstance(current, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge_patch(result.get(name), value)
    return result


def json_patch(current: Any, operations: Any) -> Any:
    """RFC 6902. Raises PatchError."""
    if not isinstance(operations, list):
        raise PatchError("a JSON patch is a list of operations")
    if len(operations) > JSON_PATCH_OPERATIONS_MAX:
        raise PatchError(
            f"The allowed maximum operations in a JSON patch is {JSON_PATCH_OPERATIONS_MAX}, "
            f"got {len(operations)}"
        )
    try:
        return jsonpatch.apply_patch(current, operations, in_place=False)
    except jsonpatch.JsonPatchTestFailed as error:
        raise PatchError(f"testing value failed: {error}") from None
    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException, TypeError) as error:
        raise PatchError(f"the operation cannot be applied: {error}") from None
