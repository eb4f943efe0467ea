"""What the store holds: keys, objects as bytes, changes.

Knows nothing of Kubernetes kinds; labels and fields are what the registry calls them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class ChangeType(StrEnum):
    """What happened to an object, in the words of a watch."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """Where an object is: ``resource`` is ``plural.group`` (``pods.`` for the core group)."""

    resource: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Index:
    """What selectors ask of an object, so that a list need not decode bodies."""

    labels: Mapping[str, str]
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Stored:
    """One object at one revision; ``body`` is its JSON, resourceVersion included."""

    key: Key
    revision: int
    body: bytes
    index: Index


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the revision log. A deleted object is given in its last state.

    The body of ``previous`` is empty for changes that were read from disk at start.
    """

    type: ChangeType
    stored: Stored
    previous: Stored | None


# Computes the index of an object; the registry knows which fields selectors may name.
IndexOf = Callable[[str, dict[str, Any]], Index]
# Gives the bytes of an object once its revision is known.
Render = Callable[[int], bytes]


class StorageError(Exception):
    """The store refuses; the registry words it as Kubernetes does."""


class ExistsError(StorageError):
    """There is an object under that key."""


class MissingError(StorageError):
    """There is no object under that key."""


class StaleError(StorageError):
    """The object is at another revision than the writer expects."""


class CompactedError(StorageError):
    """The asked revision has left the log; ``oldest`` is the first one that is served."""

    def __init__(self, asked: int, oldest: int) -> None:
        self.asked = asked
        self.oldest = oldest
        super().__init__(f"too old resource version: {asked} ({oldest})")


class WriteFailedError(StorageError):
    """The disk does not take the change; nothing has changed."""


class TooLargeError(StorageError):
    """The object is above the limit for one object."""
