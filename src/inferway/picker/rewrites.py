"""Follows the InferenceModelRewrites of one pool, in both of the kind's groups.

Pure functions make rules of objects. Both groups count, where both are installed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from inferway.api.codec import Object, decode
from inferway.api.inference import INFERENCE_GROUP, InferenceModelRewrite, RewriteRule
from inferway.api.resources import INFERENCE_MODEL_REWRITES, LEGACY_INFERENCE_MODEL_REWRITES
from inferway.base.clock import Clock
from inferway.cluster.client import KubeClient
from inferway.cluster.store import Key
from inferway.picker.objectives import refers_to
from inferway.picker.pool_objects import PoolObjects, Verdicts
from inferway.picker.verdicts import Complaint, StatusWriter
from inferway.scheduling.rewrite import (
    Rewrite,
    RewriteTable,
    Rule,
    StickyBy,
    Target,
    compile_table,
    shadowed,
)

STICKY_BY = "inferway.dev/sticky-by"
RESTORE = "inferway.dev/restore-model-name"


def decode_rewrite(raw: Object) -> InferenceModelRewrite:
    """Raises codec.DecodeError."""
    return decode(InferenceModelRewrite, raw)


def rewrite_of(
    found: InferenceModelRewrite, pool: str, group: str = INFERENCE_GROUP
) -> tuple[Rewrite | None, list[Complaint]]:
    """The rules of an object, and what is wrong with them; None: it is about another pool."""
    spec = found.spec
    if spec is None or not refers_to(spec.pool_ref, pool, group):
        return None, []
    complaints: list[Complaint] = []
    rules = []
    for number, rule in enumerate(spec.rules):
        made = _rule(rule, f"rules[{number}]", complaints)
        if made is not None:
            rules.append(made)
    meta = found.metadata
    by = StickyBy.REQUEST
    text = meta.annotations.get(STICKY_BY, "")
    if text:
        try:
            by = StickyBy(text)
        except ValueError:
            known = ", ".join(one.value for one in StickyBy)
            complaints.append(Complaint(f"annotation {STICKY_BY}: {text!r} is none of {known}"))
    restore = meta.annotations.get(RESTORE, "")
    if restore not in ("", "true", "false"):
        complaints.append(Complaint(f"annotation {RESTORE}: {restore!r} is neither true nor false"))
    created = meta.creation_timestamp or ""
    return Rewrite(meta.name, created, tuple(rules), by, restore == "true"), complaints


def _rule(rule: RewriteRule, where: str, complaints: list[Complaint]) -> Rule | None:
    if not rule.targets or any(not target.model_rewrite for target in rule.targets):
        text = f"{where}: each target needs a modelRewrite; the rule is left out"
        complaints.append(Complaint(text))
        return None
    weighted = [target.weight is not None for target in rule.targets]
    if any(weighted) and not all(weighted):
        text = f"{where}: only some targets have a weight; the others count as 1"
        complaints.append(Complaint(text, harmless=True))
    targets = tuple(Target(one.model_rewrite, max(1, one.weight or 1)) for one in rule.targets)
    return Rule(tuple(match.model.value for match in rule.matches), targets)


def table_of(
    objects: Iterable[InferenceModelRewrite], pool: str, group: str
) -> tuple[RewriteTable | None, dict[str, list[Complaint]]]:
    """The pool's rules, and what is wrong with each of its objects, by name."""
    made = []
    wrong: dict[str, list[Complaint]] = {}
    for found in objects:
        rewrite, complaints = rewrite_of(found, pool, group)
        if rewrite is not None:
            wrong.setdefault(found.metadata.name, []).extend(complaints)
            made.append(rewrite)
    for name, models in shadowed(made).items():
        named = ", ".join(model or "all models" for model in models)
        wrong[name].append(Complaint(f"an older rule has {named} already", harmless=True))
    return compile_table(made), wrong


class RewriteWatcher(PoolObjects[InferenceModelRewrite]):
    """Follows one pool's rewrites and tells the whole table after each change."""

    def __init__(
        self,
        client: KubeClient,
        pool: Key,
        group: str,
        apply: Callable[[RewriteTable | None], None],
        clock: Clock,
    ) -> None:
        def judge(objects: Sequence[tuple[str, InferenceModelRewrite]]) -> Verdicts:
            table, wrong = table_of([one for _, one in objects], pool.name, group)
            apply(table)
            return {
                (owner, one.metadata.name): wrong[one.metadata.name]
                for owner, one in objects
                if rewrite_of(one, pool.name, group)[0] is not None
            }

        super().__init__(
            client,
            pool.namespace,
            (INFERENCE_MODEL_REWRITES, LEGACY_INFERENCE_MODEL_REWRITES),
            decode_rewrite,
            judge,
            StatusWriter(client, clock),
        )
