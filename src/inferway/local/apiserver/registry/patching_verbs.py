"""PATCH: the four media types, over the registry's update path."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from inferway.local.apiserver.registry import errors
from inferway.local.apiserver.registry.kinds import Object
from inferway.local.apiserver.registry.options import Target, WriteOptions, Written
from inferway.local.apiserver.registry.registry import Registry, load, own_part, shaped
from inferway.local.apiserver.registry.seam import Manager

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
APPLY_CBOR = "application/apply-patch+cbor"

PATCH_TYPES = (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH)


def patch(
    registry: Registry, target: Target, media_type: str, body: Any, options: WriteOptions
) -> Written:
    """Applies a patch in one of the four forms."""
    kind = target.kind
    if media_type == APPLY_PATCH:
        return _apply(registry, target, body, options)
    if media_type == STRATEGIC_PATCH and kind.custom:
        raise errors.unsupported_media_type([JSON_PATCH, MERGE_PATCH, APPLY_PATCH])
    stored = registry.stored(target)
    current = load(kind, stored)
    if media_type == JSON_PATCH:
        patched = registry.rules.json_patch(current, body)
    elif not isinstance(body, dict):
        raise errors.bad_request("the patch has to be a JSON object")
    elif media_type == MERGE_PATCH:
        patched = registry.rules.merge(current, body)
    else:
        patched = registry.rules.strategic(kind, current, body)
    obj = _unmoved(target, current, shaped(target, patched))
    manager = Manager(options.field_manager, "Update", registry.now(), target.subresource)
    return registry.replace(target, stored, obj, options, manager)


def _unmoved(target: Target, current: Object, patched: Object) -> Object:
    """A patch can not rename an object."""
    if patched["metadata"].get("name") != target.name:
        raise errors.bad_request(
            f"the name of the object ({patched['metadata'].get('name')}) does not match the name "
            f"on the URL ({target.name})"
        )
    return patched


def _apply(registry: Registry, target: Target, body: Any, options: WriteOptions) -> Written:
    kind = target.kind
    if not isinstance(body, dict):
        raise errors.bad_request("the applied configuration has to be an object")
    if options.field_manager == "":
        raise errors.bad_request(
            'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required '
            "for apply patch"
        )
    for name in ("apiVersion", "kind"):
        if not body.get(name):
            raise errors.bad_request(f"Object '{name}' is missing in the applied configuration")
    applied = shaped(target, body)
    metadata = applied["metadata"]
    if metadata.get("managedFields"):
        raise errors.bad_request("metadata.managedFields must be nil")
    if metadata.setdefault("name", target.name) != target.name:
        raise errors.bad_request(
            f"the name of the object ({metadata['name']}) does not match the name on the URL "
            f"({target.name})"
        )
    registry.rules.check_types(kind, applied)
    warnings = registry.unknown(kind, applied, options)
    applied = own_part(target, registry.rules.prune(kind, applied))
    manager = Manager(options.field_manager, "Apply", registry.now(), target.subresource)
    stored = registry.store.get(registry.key(target))
    if stored is None:
        if target.subresource:
            raise errors.not_found(kind.subject(target.name))
        obj = registry.rules.apply(kind, None, applied, manager, options.force)
        return with_warnings(registry.create_applied(target, obj, options), warnings)
    current = load(kind, stored)
    obj = registry.rules.apply(kind, current, applied, manager, options.force)
    return with_warnings(registry.replace(target, stored, obj, options, None), warnings)


def with_warnings(written: Written, warnings: tuple[str, ...]) -> Written:
    return replace(written, warnings=(*warnings, *written.warnings))
