"""What the picker says about objects that refer to a pool: conditions such as ``Accepted``.

``conditions`` is pure. All replicas of a picker say the same, so that whoever comes second finds
nothing to write.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from inferway.api.codec import encode
from inferway.api.conditions import FALSE, TRUE, ConditionType, find_condition
from inferway.api.inference import InferenceModelRewrite, InferenceObjective
from inferway.api.meta import Condition
from inferway.api.resources import ResourceType
from inferway.base.clock import Clock, rfc3339
from inferway.base.errors import InferwayError
from inferway.cluster.client import KubeClient, PatchType
from inferway.cluster.errors import ForbiddenError

_log = logging.getLogger(__name__)

ACCEPTED = "Accepted"
INVALID = "Invalid"

Judged: TypeAlias = InferenceModelRewrite | InferenceObjective


class Complaint(NamedTuple):
    """Something about an object that is not as it should be.

    A harmless one changes how the object is read; the others leave a part of it out.
    """

    text: str
    harmless: bool = False


def condition(
    found: Judged,
    complaints: Sequence[Complaint],
    now: str,
    kind: ConditionType = ConditionType.ACCEPTED,
) -> Condition | None:
    """The condition that the object should have; None if it has it."""
    good = all(complaint.harmless for complaint in complaints)
    status, reason = (TRUE, ACCEPTED) if good else (FALSE, INVALID)
    message = "; ".join(complaint.text for complaint in complaints)
    generation = found.metadata.generation
    before = find_condition(found.status.conditions, kind)
    since = now
    if before is not None and before.status == status:
        since = before.last_transition_time
        if (before.reason, before.message, before.observed_generation) == (
            reason,
            message,
            generation,
        ):
            return None
    return Condition(
        type=kind,
        status=status,
        observed_generation=generation,
        last_transition_time=since,
        reason=reason,
        message=message,
    )


class StatusWriter:
    """Writes conditions of the types ``kinds`` until the cluster says that it may not."""

    def __init__(
        self,
        client: KubeClient,
        clock: Clock,
        kinds: Sequence[ConditionType] = (ConditionType.ACCEPTED,),
    ) -> None:
        self._client = client
        self._clock = clock
        self._kinds = kinds
        self._forbidden = False

    async def write(
        self, kind: ResourceType, found: Judged, complaints: Sequence[Complaint]
    ) -> None:
        """One object's conditions. A failure is logged, and the next change tries again."""
        now = rfc3339(self._clock.wall())
        wanted = [one for k in self._kinds if (one := condition(found, complaints, now, k))]
        if not wanted or self._forbidden:
            return
        changed = {one.type for one in wanted}
        others = [one for one in found.status.conditions if one.type not in changed]
        meta = found.metadata
        patch = {
            # A namesake that was made meanwhile is another object.
            "metadata": {"uid": meta.uid},
            "status": {"conditions": [encode(one) for one in (*others, *wanted)]},
        }
        try:
            await self._client.patch(
                kind,
                meta.name,
                patch,
                meta.namespace,
                patch_type=PatchType.MERGE,
                subresource="status",
            )
        except ForbiddenError as error:
            self._forbidden = True
            _log.info("no right to write statuses", extra={"data": {"error": str(error)}})
        except InferwayError as error:
            data = {"object": meta.name, "error": str(error)}
            _log.info("status not written", extra={"data": data})
