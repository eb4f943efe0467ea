"""Who owns which fields: server-side apply and the tracking of all other writes.

An entry of ``metadata.managedFields`` is a manager, an operation, an apiVersion, a subresource and
the set of paths that it owns. Applying takes paths only where the values agree or by force;
updating takes what it changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from inferway.local.apiserver.registry.patching import fieldsets, merging, paths
from inferway.local.apiserver.registry.patching.paths import EMPTY, Path, Paths
from inferway.local.apiserver.registry.patching.shape import Shape

Object = dict[str, Any]

APPLY = "Apply"
UPDATE = "Update"
# Kubernetes keeps as many entries of Update managers before it folds the oldest together, so
# that an object written by ever new managers does not grow.
UPDATE_MANAGERS_MAX = 10
_FOLDED = "ancient-changes"
_BEFORE_FIRST_APPLY = "before-first-apply"
_NEVER_OWNED = frozenset({"apiVersion", "kind"})
_NEVER_OWNED_METADATA = frozenset(
    {
        "clusterName", "creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp",
        "generation", "managedFields", "name", "namespace", "resourceVersion", "selfLink", "uid",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Writer:
    """Who writes: name and apiVersion of the request, its time, and the subresource if any."""

    name: str
    api_version: str
    time: str
    subresource: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of managedFields."""

    manager: str
    operation: str
    api_version: str
    subresource: str
    time: str | None
    owned: Paths

    @property
    def identity(self) -> tuple[str, str, str, str]:
        return (self.manager, self.operation, self.api_version, self.subresource)


@dataclass(frozen=True, slots=True)
class Conflict:
    """A path that another manager owns with another value."""

    owner: str
    path: str


class ApplyConflictError(Exception):
    """The configuration changes what others own; nothing was changed."""

    def __init__(self, conflicts: Sequence[Conflict]) -> None:
        self.conflicts = tuple(conflicts)
        super().__init__(_conflict_text(self.conflicts))


def _conflict_text(conflicts: Sequence[Conflict]) -> str:
    count = len(conflicts)
    if count == 1:
        only = conflicts[0]
        return f"Apply failed with 1 conflict: conflict with {only.owner}: {only.path}"
    lines = [f"Apply failed with {count} conflicts:"]
    owners = sorted({conflict.owner for conflict in conflicts})
    for number, owner in enumerate(owners):
        heading = f"conflicts with {owner}:"
        if number == 0:
            lines[0] += f" {heading}"
        else:
            lines.append(heading)
        lines += sorted(f"- {conflict.path}" for conflict in conflicts if conflict.owner == owner)
    return "\n".join(lines)


def entries_of(obj: Object) -> list[Entry]:
    """The object's managedFields; entries in another format are left out."""
    return [
        Entry(
            manager=raw.get("manager", ""),
            operation=raw.get("operation", UPDATE),
            api_version=raw.get("apiVersion", ""),
            subresource=raw.get("subresource", ""),
            time=raw.get("time"),
            owned=paths.from_fields_v1(raw.get("fieldsV1") or {}),
        )
        for raw in obj.get("metadata", {}).get("managedFields") or []
        if raw.get("fieldsType") == "FieldsV1"
    ]


def with_entries(obj: Object, entries: Sequence[Entry]) -> Object:
    """A copy of the object with those managedFields; empty entries are dropped."""
    kept = [entry for entry in entries if entry.owned]
    kept.sort(key=lambda e: (e.operation != APPLY, e.time or "", e.manager, e.subresource))
    metadata = {k: v for k, v in obj.get("metadata", {}).items() if k != "managedFields"}
    if kept:
        metadata["managedFields"] = [_raw(entry) for entry in kept]
    return {**obj, "metadata": metadata}


def _raw(entry: Entry) -> dict[str, Any]:
    raw: dict[str, Any] = {
        "manager": entry.manager,
        "operation": entry.operation,
        "apiVersion": entry.api_version,
        "fieldsType": "FieldsV1",
        "fieldsV1": paths.to_fields_v1(entry.owned),
    }
    if entry.time:
        raw["time"] = entry.time
    if entry.subresource:
        raw["subresource"] = entry.subresource
    return raw


def ownable(obj: Object | None) -> Object:
    """The part of an object that managers can own: no identity, no system fields."""
    if obj is None:
        return {}
    result = {name: value for name, value in obj.items() if name not in _NEVER_OWNED}
    metadata = {
        name: value
        for name, value in (obj.get("metadata") or {}).items()
        if name not in _NEVER_OWNED_METADATA
    }
    result.pop("metadata", None)
    return {**result, "metadata": metadata} if metadata else result


def track(old: Object | None, new: Object, shape: Shape, writer: Writer) -> Object:
    """``new`` with the managedFields that an update by ``writer`` gives it."""
    given = new.get("metadata", {}).get("managedFields")
    if given is not None and not any(entry.get("manager") for entry in given):
        # An empty list, or one empty entry, is how a client resets ownership.
        return with_entries(new, [])
    base = entries_of(new) or (entries_of(old) if old else [])
    change = fieldsets.compare(ownable(old), ownable(new), shape)
    taken = change.added | change.modified
    if not taken and not change.removed:
        return with_entries(new, base)
    identity = (writer.name, UPDATE, writer.api_version, writer.subresource)
    entries = []
    own = EMPTY
    for entry in base:
        if entry.identity == identity:
            own = entry.owned
        else:
            entries.append(replace(entry, owned=entry.owned - change.modified - change.removed))
    owned = (own | taken) - change.removed
    entries.append(Entry(*identity, writer.time, owned))
    return with_entries(new, _folded(entries))


def _folded(entries: list[Entry]) -> list[Entry]:
    updates = sorted((e for e in entries if e.operation == UPDATE), key=lambda e: e.time or "")
    surplus = len(updates) - UPDATE_MANAGERS_MAX
    if surplus <= 0:
        return entries
    oldest = updates[: surplus + 1]
    folded = Entry(
        manager=_FOLDED,
        operation=UPDATE,
        api_version=oldest[0].api_version,
        subresource="",
        time=oldest[-1].time,
        owned=EMPTY.union(*(entry.owned for entry in oldest)),
    )
    return [entry for entry in entries if entry not in oldest] + [folded]


def apply(
    live: Object | None, applied: Object, shape: Shape, writer: Writer, *, force: bool
) -> Object:
    """The object after server-side apply. Raises ApplyConflictError unless ``force``."""
    config = ownable(applied)
    config_paths = fieldsets.paths_of(config, shape)
    identity = (writer.name, APPLY, writer.api_version, writer.subresource)
    others, own = _split(live, identity, shape, writer)
    before = ownable(live)
    merged = merging.merge_applied(before, config, shape)
    change = fieldsets.compare(before, merged, shape)
    taken = change.added | change.modified
    conflicts = _conflicts(others, taken)
    if conflicts and not force:
        raise ApplyConflictError(conflicts)
    others = [replace(entry, owned=entry.owned - taken) for entry in others]
    kept = config_paths.union(*(entry.owned for entry in others))
    dropped = (own.owned if own else EMPTY) - config_paths
    pruned = merging.remove_paths(merged, _prunable(dropped, kept), shape) or {}
    # A map that the configuration wants empty goes with its last member and comes back here.
    pruned = merging.merge_applied(pruned, config, shape)
    others = [_surviving(entry, pruned, shape) for entry in others]
    result = _with_system_fields(live, applied, pruned)
    unchanged = own is not None and own.owned == config_paths and pruned == before
    time = own.time if own and unchanged else writer.time
    return with_entries(result, [*others, Entry(*identity, time, config_paths)])


def _split(
    live: Object | None, identity: tuple[str, str, str, str], shape: Shape, writer: Writer
) -> tuple[list[Entry], Entry | None]:
    """Entries of all other managers, and the writer's own."""
    if live is None:
        return [], None
    entries = entries_of(live)
    if not entries:
        # Written before anybody tracked ownership: somebody owns it, nobody knows who.
        entries = [
            Entry(
                _BEFORE_FIRST_APPLY, UPDATE, writer.api_version, "", writer.time,
                fieldsets.paths_of(ownable(live), shape),
            )
        ]  # fmt: skip
    own = next((entry for entry in entries if entry.identity == identity), None)
    return [entry for entry in entries if entry.identity != identity], own


def _conflicts(others: Sequence[Entry], taken: Paths) -> list[Conflict]:
    return [
        Conflict(_owner_text(entry), paths.text(path))
        for entry in others
        for path in sorted(entry.owned & taken)
    ]


def _owner_text(entry: Entry) -> str:
    text = f'"{entry.manager}"'
    if entry.subresource:
        text += f' with subresource "{entry.subresource}"'
    if entry.operation == UPDATE:
        text += f" using {entry.api_version}"
        if entry.time:
            text += f" at {entry.time}"
    return text


def _prunable(dropped: Paths, kept: Paths) -> Paths:
    """Dropped paths under which nobody holds anything."""
    holding: set[Path] = set()
    for path in kept:
        for length in range(1, len(path) + 1):
            holding.add(path[:length])
    return frozenset(path for path in dropped if path not in holding)


def _surviving(entry: Entry, obj: Any, shape: Shape) -> Entry:
    """The entry without paths that the object no longer has."""
    present: set[Path] = set()
    for path in fieldsets.paths_of(obj or {}, shape):
        for length in range(1, len(path) + 1):
            present.add(path[:length])
    owned = frozenset(path for path in entry.owned if path in present)
    return entry if owned == entry.owned else replace(entry, owned=owned)


def _with_system_fields(live: Object | None, applied: Object, merged: Object) -> Object:
    """The merged part together with identity and system fields, which nobody owns."""
    source = live if live is not None else applied
    metadata = {
        name: value
        for name, value in (source.get("metadata") or {}).items()
        if name in _NEVER_OWNED_METADATA
    }
    given = applied.get("metadata") or {}
    for name in ("name", "namespace", "uid", "resourceVersion"):
        if name in given:
            metadata[name] = given[name]
    return {
        "apiVersion": applied["apiVersion"],
        "kind": applied["kind"],
        **merged,
        "metadata": {**metadata, **merged.get("metadata", {})},
    }
