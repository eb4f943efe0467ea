"""``burst-prefix-cache-producer``: keeps requests together that come with one prompt at one time.

The published one holds every request back for the length of the window and places all of them at
once. Here a prompt's first request is placed as any other, and those that follow it within the
window go to the same server: nobody waits.
"""

from __future__ import annotations

from collections import OrderedDict

from inferway.scheduling.plugins.approx_prefix_cache_producer import (
    BYTES_PER_TOKEN,
    ApproxPrefixCacheProducer,
)
from inferway.scheduling.plugins.base import Context, Placed, PrefixMatch, PrefixProducer
from inferway.scheduling.plugins.types import (
    Data,
    Kind,
    Making,
    Parameter,
    PluginType,
    Signal,
    Stability,
    at_least,
    between,
    one_of,
)
from inferway.scheduling.prefix import Blocks

WINDOW_MILLISECONDS = 100
BLOCK_TOKENS = 64
GROUPS = 1000
# Where a configuration wants no limit.
GROUPS_MAX = 100_000


class _Group:
    __slots__ = ("at", "placed", "slot")

    def __init__(self, at: float) -> None:
        self.at = at
        # The server in use, and how many of the group it has got.
        self.slot = -1
        self.placed = 0


class BurstPrefixCacheProducer(PrefixProducer):
    """A full match on the server that the group is filling, none elsewhere."""

    def __init__(self, making: Making) -> None:
        values = making.parameters
        self._window: float = values["windowDurationMs"] / 1000
        self._most: int = values["maxPerReplica"]
        self._groups_max: int = values["maxBatchSize"] if values["maxBatchSize"] > 0 else GROUPS_MAX
        self._shared: int = values["minColocateBlocks"]
        size: int = values["blockSizeTokens"]
        self._block_tokens = size
        blocks = values["maxPrefixTokensToMatch"] // size
        self._cutter = ApproxPrefixCacheProducer(
            block_bytes=size * BYTES_PER_TOKEN, blocks_max=blocks, lru_blocks=1
        )
        # The last hash of a prompt, or the one that a shared beginning ends in -> its group.
        self._groups: OrderedDict[int, _Group] = OrderedDict()

    def match(self, context: Context) -> PrefixMatch:
        known: tuple[PrefixMatch, Blocks] | None = context.memo.get(self)
        if known is None:
            blocks = self._cutter.cut(context.request)
            total = blocks.ends[len(blocks.hashes) - 1] if blocks.hashes else 0
            slot = self._slot(blocks, context.now)
            matched = {} if slot is None else {slot: total}
            match = PrefixMatch(matched, total, 1 / BYTES_PER_TOKEN, self._block_tokens)
            known = context.memo[self] = (match, blocks)
        return known[0]

    def _slot(self, blocks: Blocks, now: float) -> int | None:
        for key in self._keys(blocks):
            group = self._groups.get(key)
            if group is None or now - group.at > self._window or group.slot < 0:
                continue
            if self._most < 0 or group.placed < self._most:
                return group.slot
        return None

    def _keys(self, blocks: Blocks) -> list[int]:
        keys = [blocks.hashes[-1]] if blocks.hashes else []
        if 0 < self._shared <= len(blocks.hashes):
            keys.append(blocks.hashes[self._shared - 1])
        return keys

    def placed(self, placed: Placed) -> None:
        slot = placed.slot()
        if slot is None:
            return
        now = placed.context.now
        self.match(placed.context)
        for key in self._keys(placed.context.memo[self][1]):
            group = self._groups.get(key)
            if group is None or now - group.at > self._window:
                self._groups.pop(key, None)
                group = self._groups[key] = _Group(now)
            if group.slot != slot:
                group.slot, group.placed = slot, 0
            group.placed += 1
        while self._groups:
            oldest = next(iter(self._groups.values()))
            if len(self._groups) <= self._groups_max and now - oldest.at <= self._window:
                break
            self._groups.popitem(last=False)

    def drop(self, slot: int) -> None:
        for group in self._groups.values():
            if group.slot == slot:
                group.slot = -1


TYPE = PluginType(
    "burst-prefix-cache-producer",
    Kind.PRODUCER,
    BurstPrefixCacheProducer,
    {
        "windowDurationMs": Parameter(
            int, WINDOW_MILLISECONDS, between(1, 10_000), "How long a group takes followers."
        ),
        "maxPerReplica": Parameter(
            int, -1, at_least(-1), "Requests of a group on one server; -1: all."
        ),
        "blockSizeTokens": Parameter(int, BLOCK_TOKENS, at_least(1), "Tokens of a block."),
        "maxPrefixTokensToMatch": Parameter(
            int, 0, at_least(0), "Tokens to compare; 0: the whole prompt."
        ),
        "minColocateBlocks": Parameter(
            int, 0, at_least(0), "Prompts that share so many blocks stay together too; 0: none."
        ),
        "maxBatchSize": Parameter(int, GROUPS, at_least(-1), "Groups at one time; -1: 100 000."),
        "balanceBy": Parameter(str, "requests", one_of("requests", "tokens"), unused=True),
    },
    does="The server that got the same prompt within the window has all of it, others nothing.",
    signals=(Signal.PROMPT,),
    stability=Stability.ALPHA,
    gives=Data.PREFIX,
)
