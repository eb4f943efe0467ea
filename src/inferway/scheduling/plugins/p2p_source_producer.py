"""``p2p-source-producer``: who could give the computing server its cached blocks.

A sidecar beside the server reads the header, and fetches the blocks instead of computing them.
"""

from __future__ import annotations

from collections.abc import Sequence

from inferway.scheduling.plugins.base import Placed, Plugin, PrefixProducer
from inferway.scheduling.plugins.types import (
    Data,
    Kind,
    Making,
    Need,
    Parameter,
    PluginType,
    Signal,
    Stability,
    at_least,
    named,
)

HEADER = "x-kv-cache-source-host-port"


class P2pSourceProducer(Plugin):
    """One of those that have about the most, the less they have waiting the likelier."""

    def __init__(self, making: Making) -> None:
        source = making.sources[Data.PREFIX]
        assert isinstance(source, PrefixProducer)
        self._source = source
        self._least: int = making.parameters["minCachedTokenDelta"]
        self._prefill: str = making.parameters["prefillProfileName"]

    def request_headers(self, placed: Placed) -> Sequence[tuple[str, str]]:
        context = placed.context
        computing = placed.slot(self._prefill)
        if computing is None:
            computing = placed.slot()
        match = self._source.match(context)
        if computing is None or not match.matched:
            return ()
        tokens = {slot: size * match.tokens_per_byte for slot, size in match.matched.items()}
        most = max(tokens.values())
        near = sorted(slot for slot, has in tokens.items() if has >= most - match.block_tokens)
        columns = context.snapshot.columns
        weights = [1.0 / (1.0 + columns.waiting[slot]) for slot in near]
        mark = context.rng.random() * sum(weights)
        chosen = near[-1]
        for slot, weight in zip(near, weights, strict=True):
            mark -= weight
            if mark < 0:
                chosen = slot
                break
        if chosen == computing or tokens[chosen] - tokens.get(computing, 0.0) < self._least:
            return ()
        return ((HEADER, columns.address[chosen]),)


TYPE = PluginType(
    "p2p-source-producer",
    Kind.PRODUCER,
    P2pSourceProducer,
    {
        "minCachedTokenDelta": Parameter(
            int, 1, at_least(1), "Tokens that the source must have beyond the computing server."
        ),
        "prefillProfileName": Parameter(str, "prefill", help="Profile of the computing server."),
        "prefixMatchInfoProducerName": named(Data.PREFIX),
    },
    does=(
        f"`{HEADER}`: one of those within a block of the most cached tokens, weight "
        "1 / (1 + waiting); none if it has too little beyond the computing server."
    ),
    signals=(Signal.PROMPT, Signal.WAITING),
    stability=Stability.ALPHA,
    needs=(Need(Data.PREFIX, "prefixMatchInfoProducerName"),),
)
