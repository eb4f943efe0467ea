"""A local copy of a collection, with indexes.

Pure: no I/O and no clock. Knows keys, uids and resourceVersions; what else the values hold is the
business of whoever decodes them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Key(NamedTuple):
    """The name of an object; ``namespace`` is empty for cluster-scoped kinds."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


def key_of(raw: Mapping[str, Any]) -> Key:
    """The key of an object as it is on the wire."""
    meta = raw.get("metadata") or {}
    return Key(str(meta.get("namespace") or ""), str(meta.get("name") or ""))


def version_number(resource_version: str) -> int:
    """Kubernetes promises that resourceVersions of one kind compare as integers; -1 if unknown."""
    return int(resource_version) if resource_version.isdigit() else -1


@dataclass(frozen=True, slots=True)
class Entry(Generic[T]):
    """One stored value with the identity that the store itself needs."""

    value: T
    uid: str
    version: int


@dataclass(frozen=True, slots=True)
class Change(Generic[T]):
    """What happened to a key: ``old`` is None for a new object, ``new`` for one that is gone."""

    key: Key
    old: T | None
    new: T | None


IndexFunction = Callable[[T], Iterable[Hashable]]


class Store(Mapping[Key, T]):
    """Values by key; each index maps what its function returns to the keys of those values."""

    def __init__(self, indexers: Mapping[str, IndexFunction[T]] | None = None) -> None:
        self._entries: dict[Key, Entry[T]] = {}
        self._indexers = dict(indexers or {})
        self._indexes: dict[str, dict[Hashable, dict[Key, None]]] = {
            name: {} for name in self._indexers
        }

    def __getitem__(self, key: Key) -> T:
        return self._entries[key].value

    def __iter__(self) -> Iterator[Key]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def entry(self, key: Key) -> Entry[T] | None:
        return self._entries.get(key)

    def by(self, index: str, value: Hashable) -> list[T]:
        """The values that an index files under ``value``, in the order of their arrival."""
        return [self._entries[key].value for key in self._indexes[index].get(value, ())]

    def add_indexer(self, name: str, function: IndexFunction[T]) -> None:
        """Another index over what is here and what will come."""
        assert name not in self._indexers, f"index {name} exists"
        self._indexers[name] = function
        self._indexes[name] = {}
        for key, entry in self._entries.items():
            for value in function(entry.value):
                self._indexes[name].setdefault(value, {})[key] = None

    def put(self, key: Key, entry: Entry[T]) -> Change[T] | None:
        """Stores an entry; None if the value is equal to the one that is here."""
        before = self._entries.get(key)
        if before is not None and before.value == entry.value and before.uid == entry.uid:
            self._entries[key] = Entry(before.value, entry.uid, entry.version)
            return None
        if before is not None:
            self._unfile(key, before.value)
        self._entries[key] = entry
        for name, function in self._indexers.items():
            for value in function(entry.value):
                self._indexes[name].setdefault(value, {})[key] = None
        return Change(key, before.value if before is not None else None, entry.value)

    def remove(self, key: Key) -> Change[T] | None:
        """Drops a key; None if it is not here."""
        before = self._entries.pop(key, None)
        if before is None:
            return None
        self._unfile(key, before.value)
        return Change(key, before.value, None)

    def _unfile(self, key: Key, old: T) -> None:
        for name, function in self._indexers.items():
            index = self._indexes[name]
            for value in function(old):
                keys = index.get(value)
                if keys is not None:
                    keys.pop(key, None)
                    if not keys:
                        del index[value]


def by_namespace(raw: Mapping[str, Any]) -> Iterable[Hashable]:
    """Indexes raw objects by their namespace."""
    return (key_of(raw).namespace,)


def by_owner(raw: Mapping[str, Any]) -> Iterable[Hashable]:
    """Indexes raw objects by the uid of each owner."""
    owners = (raw.get("metadata") or {}).get("ownerReferences") or ()
    return [str(owner.get("uid")) for owner in owners]


def by_controller(raw: Mapping[str, Any]) -> Iterable[Hashable]:
    """Indexes raw objects by the uid of the controlling owner."""
    owners = (raw.get("metadata") or {}).get("ownerReferences") or ()
    return [str(owner.get("uid")) for owner in owners if owner.get("controller")]


def by_label(name: str) -> IndexFunction[Mapping[str, Any]]:
    """Indexes raw objects by (namespace, value) of one label."""

    def index(raw: Mapping[str, Any]) -> Iterable[Hashable]:
        value = ((raw.get("metadata") or {}).get("labels") or {}).get(name)
        return () if value is None else ((key_of(raw).namespace, str(value)),)

    return index
