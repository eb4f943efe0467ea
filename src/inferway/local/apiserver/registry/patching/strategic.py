"""Kubernetes' strategic merge patch: merge patch whose lists merge by key.

Directives: ``$patch`` (delete, replace, merge), ``$retainKeys``, ``$setElementOrder/FIELD``,
``$deleteFromPrimitiveList/FIELD``. Semantics follow the published API conventions and what kubectl
sends.
"""

from __future__ import annotations

import copy
from typing import Any

from inferway.local.apiserver.registry.patching.mergepatch import PatchError
from inferway.local.apiserver.registry.patching.shape import Shape

_PATCH = "$patch"
_RETAIN = "$retainKeys"
_ORDER = "$setElementOrder/"
_REMOVE = "$deleteFromPrimitiveList/"


def strategic_merge(current: Any, patch: Any, shape: Shape) -> Any:
    """The current object with the patch merged in. Raises PatchError."""
    if not isinstance(patch, dict):
        raise PatchError("a strategic merge patch is an object")
    return _merge_map(current if isinstance(current, dict) else {}, patch, shape)


def _merge_map(current: dict[str, Any], patch: dict[str, Any], shape: Shape) -> dict[str, Any]:
    directive = patch.get(_PATCH)
    if directive == "delete":
        return {}
    if directive == "replace":
        replaced: dict[str, Any] = _without_directives(patch)
        return replaced
    if directive not in (None, "merge"):
        raise PatchError(f"Unknown patch type found: {directive}")
    result = dict(current)
    if _RETAIN in patch:
        kept = set(patch[_RETAIN])
        result = {name: value for name, value in result.items() if name in kept}
    for name, gone in _prefixed(patch, _REMOVE).items():
        if isinstance(result.get(name), list):
            result[name] = [item for item in result[name] if item not in gone]
    for name, value in patch.items():
        if name.startswith("$"):
            continue
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _merge_value(result.get(name), value, shape.member(name), name)
    for name, order in _prefixed(patch, _ORDER).items():
        if isinstance(result.get(name), list):
            result[name] = _ordered(result[name], order, shape.member(name))
    return result


def _merge_value(current: Any, patch: Any, shape: Shape, name: str) -> Any:
    if isinstance(patch, dict):
        if "replace" in shape.strategies:
            return _without_directives(patch)
        return _merge_map(current if isinstance(current, dict) else {}, patch, shape)
    if isinstance(patch, list):
        old = current if isinstance(current, list) else []
        if "merge" not in shape.strategies:
            return _without_directives(patch)
        if shape.merge_key is None:
            return old + [item for item in patch if item not in old]
        return _merge_list(old, patch, shape, name)
    return copy.deepcopy(patch)


def _merge_list(current: list[Any], patch: list[Any], shape: Shape, name: str) -> list[Any]:
    key = shape.merge_key
    assert key is not None
    for item in patch:
        if not isinstance(item, dict):
            raise PatchError(f"{name}: an item of this list is an object with the field {key}")
    if any(item.get(_PATCH) == "replace" for item in patch):
        return [_without_directives(item) for item in patch if _PATCH not in item]
    result = list(current)
    for item in patch:
        if key not in item:
            raise PatchError(f"map: {item} does not contain declared merge key: {key}")
        place = next(
            (
                index
                for index, old in enumerate(result)
                if isinstance(old, dict) and old.get(key) == item[key]
            ),
            None,
        )
        if item.get(_PATCH) == "delete":
            if place is not None:
                del result[place]
        elif place is None:
            result.append(_merge_map({}, item, shape.item()))
        else:
            result[place] = _merge_map(result[place], item, shape.item())
    return result


def _ordered(items: list[Any], order: Any, shape: Shape) -> list[Any]:
    """Items in the order that the patch asks for; others keep their place after those before."""
    if not isinstance(order, list):
        raise PatchError("$setElementOrder takes a list")
    key = shape.merge_key

    def name(item: Any) -> Any:
        return item.get(key) if key is not None and isinstance(item, dict) else item

    wanted = [name(item) for item in order]
    ranked: list[tuple[int, int, Any]] = []
    last = -1
    for place, item in enumerate(items):
        if name(item) in wanted:
            last = wanted.index(name(item))
            ranked.append((last, -1, item))
        else:
            ranked.append((last, place, item))
    return [item for _, _, item in sorted(ranked, key=lambda entry: entry[:2])]


def _prefixed(patch: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {
        name.removeprefix(prefix): value for name, value in patch.items() if name.startswith(prefix)
    }


def _without_directives(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: _without_directives(inner)
            for name, inner in value.items()
            if not name.startswith("$") and inner is not None
        }
    if isinstance(value, list):
        return [_without_directives(item) for item in value]
    return value
