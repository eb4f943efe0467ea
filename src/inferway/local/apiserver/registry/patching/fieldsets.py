"""Which paths a configuration holds, and which paths differ between two objects.

Follows the published merge rules of server-side apply: an item of a list with keys is a path of
its own besides its fields; an atomic value is one path; a map is a path only when it is empty or
when it appears or goes as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from inferway.local.apiserver.registry.patching.paths import (
    EMPTY,
    Path,
    Paths,
    field_step,
    key_step,
    value_step,
)
from inferway.local.apiserver.registry.patching.shape import ListType, Shape


@dataclass(frozen=True, slots=True)
class Difference:
    """Paths of the new object that were not there, that have another value, and that went."""

    added: Paths = EMPTY
    modified: Paths = EMPTY
    removed: Paths = EMPTY


def steps_of_items(items: list[Any], shape: Shape) -> list[str]:
    """The step that names each item of a list of type map or set."""
    if shape.list_type is ListType.SET:
        return [value_step(item) for item in items]
    return [item_step(item, shape) for item in items]


def item_step(item: Any, shape: Shape) -> str:
    """The step of an item of a list of type map; key fields left out take their defaults."""
    if not isinstance(item, dict):
        return value_step(item)
    keys = {
        name: item[name] if name in item else shape.list_key_defaults[name]
        for name in shape.list_keys
        if name in item or name in shape.list_key_defaults
    }
    return key_step(keys)


def paths_of(value: Any, shape: Shape) -> Paths:
    """The paths that a configuration holds."""
    found: set[Path] = set()
    _collect(value, shape, (), found)
    found.discard(())
    return frozenset(found)


def _collect(value: Any, shape: Shape, path: Path, found: set[Path]) -> None:
    if isinstance(value, dict) and value and not shape.map_is_atomic:
        for name, inner in value.items():
            _collect(inner, shape.member(name), (*path, field_step(name)), found)
    elif isinstance(value, list) and value and shape.list_type is not ListType.ATOMIC:
        for step, item in zip(steps_of_items(value, shape), value, strict=True):
            found.add((*path, step))
            if shape.list_type is ListType.MAP:
                _collect(item, shape.item(), (*path, step), found)
    else:
        found.add(path)


def compare(old: Any, new: Any, shape: Shape) -> Difference:
    """What changed from ``old`` to ``new``."""
    added: set[Path] = set()
    modified: set[Path] = set()
    removed: set[Path] = set()

    def walk(before: Any, after: Any, here: Shape, path: Path) -> None:
        if before == after:
            return
        if isinstance(before, dict) and isinstance(after, dict) and not here.map_is_atomic:
            for name in before.keys() | after.keys():
                below = (*path, field_step(name))
                if name not in after:
                    _collect(before[name], here.member(name), below, removed)
                elif name not in before:
                    _collect(after[name], here.member(name), below, added)
                else:
                    walk(before[name], after[name], here.member(name), below)
        elif (
            isinstance(before, list)
            and isinstance(after, list)
            and here.list_type is not ListType.ATOMIC
        ):
            lists(before, after, here, path)
        else:
            modified.add(path)

    def lists(before: list[Any], after: list[Any], here: Shape, path: Path) -> None:
        olds = dict(zip(steps_of_items(before, here), before, strict=True))
        news = dict(zip(steps_of_items(after, here), after, strict=True))
        keyed = here.list_type is ListType.MAP
        for step, item in olds.items():
            if step not in news:
                removed.add((*path, step))
                if keyed:
                    _collect(item, here.item(), (*path, step), removed)
        for step, item in news.items():
            if step not in olds:
                added.add((*path, step))
                if keyed:
                    _collect(item, here.item(), (*path, step), added)
            elif keyed:
                walk(olds[step], item, here.item(), (*path, step))

    walk(old, new, shape, ())
    for paths in (added, modified, removed):
        paths.discard(())
    return Difference(frozenset(added), frozenset(modified), frozenset(removed))
