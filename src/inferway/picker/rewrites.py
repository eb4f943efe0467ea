"""Follows the InferenceModelRewrites of one pool, in both of the kind's groups.

Pure functions make rules of objects; the pump tells the whole table after each change. A kind
that the cluster does not have counts as no objects.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping

from inferway.api.codec import Object, decode
from inferway.api.inference import INFERENCE_GROUP, InferenceModelRewrite, RewriteRule
from inferway.api.resources import INFERENCE_MODEL_REWRITES, LEGACY_INFERENCE_MODEL_REWRITES
from inferway.base.clock import Clock
from inferway.cluster.client import KubeClient
from inferway.cluster.informer import Informer
from inferway.cluster.store import Key
from inferway.picker.rewrite_status import Complaint, StatusWriter
from inferway.scheduling.rewrite import (
    Rewrite,
    RewriteTable,
    Rule,
    StickyBy,
    Target,
    compile_table,
    shadowed,
)

_log = logging.getLogger(__name__)

STICKY_BY = "inferway.dev/sticky-by"
_POOL_KINDS = ("InferencePool", "")


def decode_rewrite(raw: Object) -> InferenceModelRewrite:
    """Raises codec.DecodeError."""
    return decode(InferenceModelRewrite, raw)


def rewrite_of(
    found: InferenceModelRewrite, pool: str, group: str = INFERENCE_GROUP
) -> tuple[Rewrite | None, list[Complaint]]:
    """The rules of an object, and what is wrong with them; None: it is about another pool."""
    spec = found.spec
    if spec is None or spec.pool_ref.name != pool or spec.pool_ref.kind not in _POOL_KINDS:
        return None, []
    if (spec.pool_ref.group or INFERENCE_GROUP) not in (group, INFERENCE_GROUP):
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
    return Rewrite(meta.name, meta.creation_timestamp or "", tuple(rules), by), complaints


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


class RewriteWatcher:
    """One pool's rewrites. ``synced`` is set when both kinds were listed once."""

    def __init__(
        self,
        client: KubeClient,
        pool: Key,
        group: str,
        apply: Callable[[RewriteTable | None], None],
        clock: Clock,
    ) -> None:
        self._pool = pool
        self._group = group
        self._apply = apply
        self._changed = asyncio.Event()
        self._wrong: Mapping[str, list[Complaint]] = {}
        self._told = asyncio.Event()
        self._statuses = StatusWriter(client, clock)
        self.synced = asyncio.Event()
        self._informers: list[Informer[InferenceModelRewrite]] = [
            Informer(client, kind, decode=decode_rewrite, namespace=pool.namespace, optional=True)
            for kind in (INFERENCE_MODEL_REWRITES, LEGACY_INFERENCE_MODEL_REWRITES)
        ]

    async def run(self) -> None:
        """Works until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for informer in self._informers:
                informer.subscribe(self._note)
                tasks.create_task(informer.run(), name=f"watch {informer.resource.plural}")
            for informer in self._informers:
                await informer.synced.wait()
            tasks.create_task(self._write_statuses(), name="rewrite statuses")
            while True:
                self._changed.clear()
                self._tell()
                self.synced.set()
                await self._changed.wait()

    def _tell(self) -> None:
        objects = [one for informer in self._informers for one in informer.store.values()]
        table, wrong = table_of(objects, self._pool.name, self._group)
        said = {name: [one.text for one in found] for name, found in wrong.items() if found}
        if wrong != self._wrong and said:
            _log.warning("model rewrites", extra={"data": said})
        self._wrong = wrong
        self._apply(table)
        self._told.set()

    async def _write_statuses(self) -> None:
        while True:
            await self._told.wait()
            self._told.clear()
            wrong = self._wrong
            for informer in self._informers:
                for found in list(informer.store.values()):
                    complaints = wrong.get(found.metadata.name)
                    if complaints is not None and self._mine(found):
                        await self._statuses.write(informer.resource, found, complaints)

    def _mine(self, found: InferenceModelRewrite) -> bool:
        return rewrite_of(found, self._pool.name, self._group)[0] is not None

    def _note(self, key: Key) -> None:
        self._changed.set()
