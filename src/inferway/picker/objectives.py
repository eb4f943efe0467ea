"""The InferenceObjectives of one pool: which priority requests have that name one.

Both groups of the kind count. Of two objectives with one name the one of ``llm-d.ai`` does, where
the kind lives by now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from inferway.api.codec import Object, decode
from inferway.api.conditions import ConditionType
from inferway.api.inference import INFERENCE_GROUP, LLM_D_GROUP, InferenceObjective, PoolRef
from inferway.api.resources import INFERENCE_OBJECTIVES, LEGACY_INFERENCE_OBJECTIVES
from inferway.base.clock import Clock
from inferway.cluster.client import KubeClient
from inferway.cluster.store import Key
from inferway.picker.pool_objects import PoolObjects, Verdicts
from inferway.picker.verdicts import Complaint, StatusWriter

# The kind's own default is a condition that nobody else would ever write.
_CONDITIONS = (ConditionType.ACCEPTED, ConditionType.READY)
_POOL_KINDS = ("InferencePool", "")


def decode_objective(raw: Object) -> InferenceObjective:
    """Raises codec.DecodeError."""
    return decode(InferenceObjective, raw)


def refers_to(ref: PoolRef, pool: str, group: str) -> bool:
    """Whether an object is about the pool of that name; an older reference may name no group."""
    if ref.name != pool or ref.kind not in _POOL_KINDS:
        return False
    return (ref.group or INFERENCE_GROUP) in (group, INFERENCE_GROUP)


def priorities_of(
    objects: Iterable[tuple[str, InferenceObjective]], pool: str, group: str
) -> tuple[dict[str, int], Verdicts]:
    """Priority by name of objective, and what is wrong with each one of the pool."""
    found: dict[str, int] = {}
    verdicts: dict[tuple[str, str], Sequence[Complaint]] = {}
    for owner, one in sorted(objects, key=lambda pair: pair[0] != LLM_D_GROUP):
        name, spec = one.metadata.name, one.spec
        if spec is None or not refers_to(spec.pool_ref, pool, group):
            continue
        if name in found:
            text = f"the objective of this name in {LLM_D_GROUP} counts instead"
            verdicts[owner, name] = (Complaint(text),)
            continue
        found[name] = spec.priority or 0
        verdicts[owner, name] = ()
    return found, verdicts


class ObjectiveWatcher(PoolObjects[InferenceObjective]):
    """Follows one pool's objectives and tells all priorities after each change."""

    def __init__(
        self,
        client: KubeClient,
        pool: Key,
        group: str,
        apply: Callable[[dict[str, int]], None],
        clock: Clock,
    ) -> None:
        def judge(objects: Sequence[tuple[str, InferenceObjective]]) -> Verdicts:
            found, verdicts = priorities_of(objects, pool.name, group)
            apply(found)
            return verdicts

        super().__init__(
            client,
            pool.namespace,
            (INFERENCE_OBJECTIVES, LEGACY_INFERENCE_OBJECTIVES),
            decode_objective,
            judge,
            StatusWriter(client, clock, _CONDITIONS),
        )
