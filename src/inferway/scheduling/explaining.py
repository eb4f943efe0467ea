"""A decision in words for people: who was asked, what was known of each, and who was chosen."""

from __future__ import annotations

import math

from inferway.scheduling.cost import parts
from inferway.scheduling.counterfactual import others
from inferway.scheduling.decide import candidates
from inferway.scheduling.decision import Decision, Explanation, Policy, Refusal
from inferway.scheduling.policy import blocks_of
from inferway.scheduling.request import Request
from inferway.scheduling.snapshot import Snapshot


def explanation(
    request: Request, decision: Decision, snapshot: Snapshot, policy: Policy, now: float
) -> Explanation:
    """Why a decision is as it is; the snapshot must be the one that it was made of."""
    slots = candidates(request, snapshot, now)
    slots = [] if isinstance(slots, Refusal) else slots
    c = snapshot.columns
    seen = policy.explain(request, snapshot, slots, now)
    blocks = blocks_of(request)
    matched = snapshot.prefixes.match(blocks) if blocks.hashes else {}
    believed = parts(request, snapshot, slots, matched, now)
    return Explanation(
        at=now,
        model=request.model,
        kind=request.kind.value,
        prompt_bytes=len(request.prompt),
        prompt_tokens=decision.prompt_tokens,
        policy=policy.name,
        chosen=[c.address[slot] for slot in decision.slots],
        candidates=[
            {
                "endpoint": c.address[slot],
                "name": c.name[slot],
                "in_flight": c.in_flight[slot],
                "waiting": c.waiting[slot],
                "kv_use": c.kv_use[slot],
                "scrape_age_seconds": _finite(now - c.scraped_at[slot]),
                "model_age_seconds": _finite(now - c.backlog_at[slot]),
                "predicted_ttft_seconds": one.wait_seconds
                + one.prefill_seconds
                + one.adapter_seconds
                + c.step_seconds[slot],
                **facts,
            }
            for slot, facts, one in zip(slots, seen, believed, strict=True)
        ],
        others=others(request, snapshot, slots, matched, now),
    )


def _finite(seconds: float) -> float | None:
    """JSON has no infinity."""
    return seconds if math.isfinite(seconds) else None
