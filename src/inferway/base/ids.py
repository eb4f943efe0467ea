"""Identity as an argument, for the same reason as time."""

from __future__ import annotations

import secrets
import uuid
from typing import Protocol

# Kubernetes' alphabet for generated names: no vowels, and no digits that read as letters.
_NAME_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


class Ids(Protocol):
    """Makes identifiers that are not used twice."""

    def uid(self) -> str:
        """A random UUID in text form."""
        ...

    def suffix(self, length: int = 5) -> str:
        """What Kubernetes appends to a ``generateName``."""
        ...


class RandomIds:
    """Identifiers from the system's random source."""

    def uid(self) -> str:
        return str(uuid.uuid4())

    def suffix(self, length: int = 5) -> str:
        return "".join(secrets.choice(_NAME_ALPHABET) for _ in range(length))


class CountingIds:
    """Identifiers that count up, for tests and golden files."""

    def __init__(self) -> None:
        self._count = 0

    def uid(self) -> str:
        self._count += 1
        return f"00000000-0000-4000-8000-{self._count:012d}"

    def suffix(self, length: int = 5) -> str:
        self._count += 1
        digits = [_NAME_ALPHABET[(self._count // 27**place) % 27] for place in range(length)]
        return "".join(reversed(digits))
