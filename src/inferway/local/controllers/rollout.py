"""How many replicas each ReplicaSet of a Deployment may have, step by step.

Pure, and about numbers only: a rolling update never has fewer available Pods than the minimum and
never more Pods than the maximum. The rules are those of Kubernetes' Deployment controller.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class SetSize:
    """One ReplicaSet: what it is asked for, what it has, and how much of that is available."""

    name: str
    wanted: int
    available: int
    running: int = 0
    created_at: float = 0.0
    # The largest total at the time of its last scaling; 0 if it was never noted.
    noted_max: int = 0


def resolve(value: object, total: int, *, up: bool) -> int:
    """A count or a percentage (``25%``) of ``total``. Nonsense counts as 0."""
    if isinstance(value, int) and not isinstance(value, bool):
        return max(value, 0)
    text = str(value or "0")
    try:
        if text.endswith("%"):
            share = int(text[:-1]) * total / 100
            return max(math.ceil(share) if up else math.floor(share), 0)
        return max(int(text), 0)
    except ValueError:
        return 0


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of a rolling update in Pods."""

    surge: int
    unavailable: int

    @classmethod
    def of(cls, surge: object, unavailable: object, replicas: int) -> Limits:
        up = resolve(surge, replicas, up=True)
        down = resolve(unavailable, replicas, up=False)
        # Both zero would be a standstill, so one Pod may be missing.
        return cls(up, 1 if up == 0 and down == 0 else min(down, replicas))


def new_set_size(new: SetSize, others: Sequence[SetSize], replicas: int, limits: Limits) -> int:
    """The next size of the new ReplicaSet in a rolling update."""
    if new.wanted >= replicas:
        return replicas
    total = new.wanted + sum(other.wanted for other in others)
    room = replicas + limits.surge - total
    return new.wanted if room <= 0 else new.wanted + min(room, replicas - new.wanted)


def old_set_sizes(
    new: SetSize, olds: Sequence[SetSize], replicas: int, limits: Limits
) -> dict[str, int]:
    """The next sizes of the old ReplicaSets in a rolling update; those that stay are left out."""
    everything = [new, *olds]
    minimum = replicas - limits.unavailable
    new_unavailable = new.wanted - new.available
    room = sum(s.wanted for s in everything) - minimum - new_unavailable
    if room <= 0:
        return {}
    by_age = sorted(olds, key=lambda s: s.created_at)
    sizes = {s.name: s.wanted for s in olds}
    # First what serves nobody: Pods of old sets that are not available.
    for old in by_age:
        broken = min(room, old.wanted - old.available)
        if old.wanted > 0 and broken > 0:
            sizes[old.name] -= broken
            room -= broken
    # Then available ones, as long as enough of them stay.
    spare = sum(s.available for s in everything) - minimum
    for old in by_age:
        if spare <= 0:
            break
        step = min(sizes[old.name], spare)
        sizes[old.name] -= step
        spare -= step
    return {s.name: sizes[s.name] for s in olds if sizes[s.name] != s.wanted}


def proportional_sizes(sets: Sequence[SetSize], replicas: int, limits: Limits) -> dict[str, int]:
    """Sizes after the Deployment was scaled in the middle of a rollout, or while paused.

    Each set gets its share of the change, larger sets first; the rest goes to the largest.
    """
    active = [s for s in sets if s.wanted > 0]
    total = sum(s.wanted for s in active)
    allowed = replicas + limits.surge if replicas > 0 else 0
    change = allowed - total
    if not active or change == 0:
        return {}
    # The larger first; of equal ones the younger first when growing, the older when shrinking.
    sign = -1 if change > 0 else 1
    ordered = sorted(active, key=lambda s: (-s.wanted, sign * s.created_at))
    sizes = {s.name: s.wanted for s in ordered}
    used = 0
    for current in ordered:
        noted = current.noted_max or total
        share = round(current.wanted * allowed / noted) - current.wanted
        left = change - used
        share = min(max(share, 0), left) if change > 0 else max(min(share, 0), left)
        sizes[current.name] += share
        used += share
    sizes[ordered[0].name] = max(sizes[ordered[0].name] + change - used, 0)
    return {s.name: sizes[s.name] for s in active if sizes[s.name] != s.wanted}


def resized(sets: Sequence[SetSize], sizes: dict[str, int]) -> list[SetSize]:
    """The sets with some sizes replaced."""
    return [replace(s, wanted=sizes.get(s.name, s.wanted)) for s in sets]
