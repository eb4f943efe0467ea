"""The decision: candidates by model, then the policy's order. Reads, never writes."""

from __future__ import annotations

from collections.abc import Sequence

from inferway.scheduling.decision import Decision, Policy, Refusal, RefusalReason
from inferway.scheduling.request import Request, Rng
from inferway.scheduling.snapshot import Snapshot

# Enough names to see a typing error, few enough for an error message.
MODELS_NAMED_MAX = 50


def decide(
    request: Request, snapshot: Snapshot, policy: Policy, now: float, rng: Rng
) -> Decision | Refusal:
    """Endpoints for the request, or why there are none."""
    slots = candidates(request, snapshot, now)
    if isinstance(slots, Refusal):
        return slots
    decision = policy.rank(request, snapshot, slots, now, rng)
    if not decision.slots:
        if isinstance(decision, Refusal):
            return decision
        return Refusal(
            RefusalReason.NO_ENDPOINT, "No endpoint of the pool passes the configured filters."
        )
    return decision


def candidates(request: Request, snapshot: Snapshot, now: float) -> list[int] | Refusal:
    """Slots that can serve the request's model, those that failed just now left out."""
    columns = snapshot.columns
    slots = columns.live
    if not slots:
        return Refusal(RefusalReason.NO_ENDPOINT, "The pool has no ready endpoint.")
    models = snapshot.models
    if request.model:
        serving = models.serving.get(request.model, 0)
        if not serving and models.unknown:
            # A server that has not told yet may be the one.
            serving = models.unknown
        if not serving:
            return _unknown_model(request, snapshot)
        if serving != columns.live_bits:
            slots = [slot for slot in slots if serving >> slot & 1]
            if not slots:
                return Refusal(
                    RefusalReason.NO_ENDPOINT,
                    f"No ready endpoint of the pool serves the model {request.model!r}.",
                )
    if request.subset is not None:
        slots = _within(request.subset, slots, columns.address)
        if not slots:
            return Refusal(
                RefusalReason.NO_ENDPOINT,
                "No ready endpoint that serves the request is among those that the gateway leaves "
                "to choose from.",
            )
    if columns.suspects_until > now:
        return [slot for slot in slots if columns.suspect_until[slot] <= now] or slots
    return slots


def _within(subset: frozenset[str], slots: list[int], address: Sequence[str]) -> list[int]:
    """The slots whose ``ip:port`` or ``ip`` is in the subset."""
    return [
        slot
        for slot in slots
        if address[slot] in subset or address[slot].rpartition(":")[0] in subset
    ]


def _unknown_model(request: Request, snapshot: Snapshot) -> Refusal:
    known = tuple(sorted(snapshot.models.serving))
    named = ", ".join(known[:MODELS_NAMED_MAX]) or "none"
    more = f" and {len(known) - MODELS_NAMED_MAX} more" if len(known) > MODELS_NAMED_MAX else ""
    return Refusal(
        RefusalReason.UNKNOWN_MODEL,
        f"The model `{request.model}` does not exist. Models of this pool: {named}{more}.",
        known_models=known,
    )
