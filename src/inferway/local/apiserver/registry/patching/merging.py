"""Merges an applied configuration into an object, and takes paths out of one."""

from __future__ import annotations

import copy
from typing import Any

from inferway.local.apiserver.registry.patching.fieldsets import steps_of_items
from inferway.local.apiserver.registry.patching.paths import Path, Paths, field_step
from inferway.local.apiserver.registry.patching.shape import ListType, Shape


def merge_applied(live: Any, applied: Any, shape: Shape) -> Any:
    """``live`` with everything that ``applied`` says; null says that the field is empty."""
    if isinstance(applied, dict) and isinstance(live, dict) and not shape.map_is_atomic:
        result = dict(live)
        for name, value in applied.items():
            result[name] = merge_applied(live.get(name), value, shape.member(name))
        return result
    if (
        isinstance(applied, list)
        and isinstance(live, list)
        and shape.list_type is not ListType.ATOMIC
    ):
        return _merge_lists(live, applied, shape)
    return copy.deepcopy(applied)


def _merge_lists(live: list[Any], applied: list[Any], shape: Shape) -> list[Any]:
    """Items of ``applied`` in its order; items that only ``live`` has keep their neighbours."""
    old_steps = steps_of_items(live, shape)
    new_steps = steps_of_items(applied, shape)
    olds = dict(zip(old_steps, live, strict=True))
    merged = {
        step: merge_applied(olds[step], item, shape.item())
        if step in olds and shape.list_type is ListType.MAP
        else copy.deepcopy(item)
        for step, item in zip(new_steps, applied, strict=True)
    }
    result: list[Any] = []
    waiting = list(new_steps)
    for step in old_steps:
        if step not in merged:
            result.append(olds[step])
        elif step in waiting:
            # What the configuration lists before this item comes before it.
            place = waiting.index(step) + 1
            result += [merged[name] for name in waiting[:place]]
            del waiting[:place]
    return result + [merged[name] for name in dict.fromkeys(waiting)]


def remove_paths(value: Any, gone: Paths, shape: Shape) -> Any:
    """``value`` without those paths; maps and lists that this empties go as well."""
    return _remove(value, gone, shape, ())[0]


def _remove(value: Any, gone: Paths, shape: Shape, path: Path) -> tuple[Any, bool]:
    """The rest of a value, and whether it goes as a whole."""
    if path and path in gone and not _has_members(value, shape):
        return None, True
    if isinstance(value, dict) and value and not shape.map_is_atomic:
        return _remove_members(value, gone, shape, path)
    if isinstance(value, list) and value and shape.list_type is not ListType.ATOMIC:
        return _remove_items(value, gone, shape, path)
    return value, False


def _has_members(value: Any, shape: Shape) -> bool:
    if isinstance(value, dict):
        return bool(value) and not shape.map_is_atomic
    return isinstance(value, list) and bool(value) and shape.list_type is not ListType.ATOMIC


def _remove_members(
    value: dict[str, Any], gone: Paths, shape: Shape, path: Path
) -> tuple[Any, bool]:
    result = {}
    for name, inner in value.items():
        rest, all_gone = _remove(inner, gone, shape.member(name), (*path, field_step(name)))
        if not all_gone:
            result[name] = rest
    return result, not result and bool(path)


def _remove_items(value: list[Any], gone: Paths, shape: Shape, path: Path) -> tuple[Any, bool]:
    result = []
    for step, item in zip(steps_of_items(value, shape), value, strict=True):
        below = (*path, step)
        if shape.list_type is ListType.SET:
            if below not in gone:
                result.append(item)
            continue
        if below in gone:
            continue
        rest, _ = _remove(item, gone, shape.item(), below)
        # An item that stays keeps the fields that name it.
        keys = {name: item[name] for name in shape.list_keys if name in item}
        result.append({**(rest or {}), **keys} if keys else rest)
    return result, not result
