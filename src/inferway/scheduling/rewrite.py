"""Model rewrites of one pool: which rule holds for a model, and which target a request gets.

Knows the published order of rules and nothing of Kubernetes objects or request bodies. A target
is drawn by a key of the request, so that the same key gets the same target as long as the weights
stand; where weights change, only the keys that the change asks for move.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from enum import StrEnum

import msgspec


class StickyBy(StrEnum):
    """What of a request decides about its target."""

    REQUEST = "request"
    SESSION = "session"
    FAIRNESS_ID = "fairness-id"


class Target(msgspec.Struct, frozen=True):
    """A model and its share. A share is a part of the sum of all shares of its rule."""

    model: str
    weight: int = 1


class Rule(msgspec.Struct, frozen=True):
    """Requests for one of ``models`` get one of ``targets``; no models means every request."""

    models: tuple[str, ...]
    targets: tuple[Target, ...]


class Rewrite(msgspec.Struct, frozen=True):
    """One object's rules. ``created`` sorts by time; ``name`` is unique within the pool.

    ``restore``: answers are to name the model that the client named.
    """

    name: str
    created: str
    rules: tuple[Rule, ...]
    sticky_by: StickyBy = StickyBy.REQUEST
    restore: bool = False


class Chosen(msgspec.Struct, frozen=True, gc=False):
    """A rule that holds: of which rewrite, with which targets, by which key, and if the client's
    name is put back into answers."""

    rewrite: str
    targets: tuple[Target, ...]
    total: int
    sticky_by: StickyBy
    restore: bool = False


class RewriteTable(msgspec.Struct, frozen=True):
    """All rules of a pool, ready to be looked up: by model, and the one for all the others."""

    exact: Mapping[str, Chosen]
    generic: Chosen | None = None

    def rule_for(self, model: str) -> Chosen | None:
        """The rule that holds for a model; an empty model is a request without one."""
        return self.exact.get(model) or self.generic


def compile_table(rewrites: Iterable[Rewrite]) -> RewriteTable | None:
    """Exact before generic, then the older object, then the order of rules; None: no rules.

    Objects of the same second are ordered by name, as Gateway API orders them.
    """
    exact: dict[str, Chosen] = {}
    generic: Chosen | None = None
    for rewrite in sorted(rewrites, key=lambda one: (one.created, one.name)):
        for rule in rewrite.rules:
            total = sum(target.weight for target in rule.targets)
            chosen = Chosen(rewrite.name, rule.targets, total, rewrite.sticky_by, rewrite.restore)
            if not rule.models:
                generic = generic or chosen
            for model in rule.models:
                exact.setdefault(model, chosen)
    return RewriteTable(exact, generic) if exact or generic else None


def shadowed(rewrites: Iterable[Rewrite]) -> dict[str, list[str]]:
    """Models of each rewrite that a rule before it has already, by the rewrite's name."""
    taken: set[str] = set()
    found: dict[str, list[str]] = {}
    for rewrite in sorted(rewrites, key=lambda one: (one.created, one.name)):
        for rule in rewrite.rules:
            for model in rule.models or ("",):
                if model in taken:
                    found.setdefault(rewrite.name, []).append(model)
                taken.add(model)
    return found


def draw(chosen: Chosen, key: bytes) -> str:
    """The target model for a key: the point of the key on the line of all shares.

    Targets keep their order on that line, so a share that grows takes over keys of its neighbour
    and moves no other. Rewrites draw independently of each other.
    """
    if len(chosen.targets) == 1:
        return chosen.targets[0].model
    salt = chosen.rewrite.encode()
    digest = hashlib.blake2b(key, key=salt[-hashlib.blake2b.MAX_KEY_SIZE :], digest_size=8).digest()
    point = int.from_bytes(digest, "big") * chosen.total >> 64
    for target in chosen.targets:
        point -= target.weight
        if point < 0:
            return target.model
    raise AssertionError("shares sum up to their total")
