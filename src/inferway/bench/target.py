"""What a benchmark measures: an address, and the processes whose cost is counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """One system under load. ``parts`` holds process ids by the name of the part."""

    system: str
    url: str
    parts: Mapping[str, Sequence[int]]
