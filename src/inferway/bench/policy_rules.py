"""The rules that ``make bench-policy`` compares: configurations of plugins, and what is no plugin.

Everything runs on the same books (reservations, backlog, prefix index), so that what differs is the
rule alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from inferway.scheduling import config
from inferway.scheduling.decision import Decision, Policy
from inferway.scheduling.plugins.registry import plugin_types
from inferway.scheduling.policy import CostPolicy, blocks_of
from inferway.scheduling.request import Request, Rng
from inferway.scheduling.snapshot import Snapshot, backlog_tokens

OWN = "inferway"


def _document(*plugins: tuple[str, float | None, Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "apiVersion": config.API_VERSIONS[-1],
        "kind": config.KIND,
        "plugins": [{"type": name, "parameters": dict(more)} for name, _, more in plugins],
        "schedulingProfiles": [
            {
                "name": "default",
                "plugins": [
                    {"pluginRef": name} if weight is None else {"pluginRef": name, "weight": weight}
                    for name, weight, _ in plugins
                ],
            }
        ],
    }


# llm-d's weights until August 2026, and what it does since: stay where the prefix is, then fewest
# tokens in flight.
CONFIGURATIONS: Mapping[str, dict[str, Any]] = {
    OWN: _document(("inferway-cost-scorer", 1, {})),
    "random": _document(("random-picker", None, {})),
    "least-requests": _document(("active-request-scorer", 1, {})),
    "queue": _document(("queue-scorer", 1, {})),
    "llm-d-weights": _document(
        ("queue-scorer", 2, {}), ("kv-cache-utilization-scorer", 2, {}),
        ("prefix-cache-scorer", 3, {}), ("no-hit-lru-scorer", 2, {}),
    ),
    "llm-d-sticky": _document(
        ("prefix-cache-affinity-filter", None, {"peakPrefillThroughput": 6250}),
        ("token-load-scorer", 1, {"queueThresholdTokens": 400_000}),
    ),
    "gie-v1": _document(
        ("queue-scorer", 1, {}), ("kv-cache-utilization-scorer", 1, {}),
        ("prefix-cache-scorer", 1, {}), ("lora-affinity-scorer", 1, {}),
    ),
}  # fmt: skip


class LMetric(CostPolicy):
    """Uncached tokens, queued ones included, x (batch + 1); arXiv 2603.15202."""

    def rank(
        self, request: Request, snapshot: Snapshot, slots: list[int], now: float, rng: Rng
    ) -> Decision:
        blocks = blocks_of(request)
        matched = snapshot.matched(request, blocks, now)
        c = snapshot.columns
        size = len(request.prompt)
        per_token = snapshot.ratios.bytes_per_token(request.model)
        values = [
            (backlog_tokens(c, slot, now) + (size - matched.get(slot, 0)) / per_token + 1.0)
            * (c.in_flight[slot] + 1.0)
            for slot in slots
        ]
        keyed = sorted(
            (value, rng.random(), slot) for value, slot in zip(values, slots, strict=True)
        )
        chosen = keyed[0][2]
        return Decision([chosen], matched.get(chosen, 0), size / per_token, blocks, keyed[0][0])


class RoundRobin(CostPolicy):
    """One after the other."""

    def __init__(self) -> None:
        super().__init__()
        self._turn = -1

    def rank(
        self, request: Request, snapshot: Snapshot, slots: list[int], now: float, rng: Rng
    ) -> Decision:
        self._turn += 1
        chosen = slots[self._turn % len(slots)]
        blocks = blocks_of(request)
        matched = snapshot.matched(request, blocks, now)
        tokens = len(request.prompt) / snapshot.ratios.bytes_per_token(request.model)
        return Decision([chosen], matched.get(chosen, 0), tokens, blocks, 0.0)


def rules() -> dict[str, Callable[[], Policy]]:
    """A maker of each, because a policy keeps state."""

    def made(document: dict[str, Any]) -> Callable[[], Policy]:
        return lambda: config.load(document, plugin_types()).policy

    found: dict[str, Callable[[], Policy]] = {k: made(v) for k, v in CONFIGURATIONS.items()}
    return {**found, "round-robin": RoundRobin, "lmetric": LMetric}
