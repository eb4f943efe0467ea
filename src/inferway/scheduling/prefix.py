"""A guess of which prompt prefixes each server has in its KV cache.

Method: a prompt's raw bytes are cut into blocks at fixed positions; each block's hash is seeded
with the hash before it, so that one number stands for a whole prefix. The index maps that number
to a bit set of slots. What was routed to a server is taken to be in its cache, newest first, up to
the server's capacity. Nothing here reads what a prompt says, and only hashes are kept.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence

from xxhash import xxh3_64_intdigest

# Block sizes by position: fine where chats differ, coarse where only long documents reach.
# 128 bytes are about two of vLLM's 16-token blocks; a 4 KB prompt has 20 blocks, 64 KB have 92.
# A prompt longer than the last position is matched by its beginning only, which bounds the work.
PROMPT_BYTES_MAX = 4 * 1024 * 1024
SCHEDULE = ((1024, 128), (8 * 1024, 256), (64 * 1024, 1024), (PROMPT_BYTES_MAX, 4096))
# KV capacity in bytes of prompt for a server that does not tell: 100 000 tokens of 4 bytes.
CAPACITY_BYTES_DEFAULT = 400_000
# Memory of one entry: a node of an ordered map, a slot of a dict and two integers.
ENTRY_BYTES = 260
# All entries of one pool together; about a million blocks.
INDEX_BYTES_MAX = 256 * 1024 * 1024


class Blocks:
    """The blocks of one prompt: hashes, and a table of where each one ends (at least as long)."""

    __slots__ = ("ends", "hashes")

    def __init__(self, hashes: Sequence[int], ends: Sequence[int]) -> None:
        self.hashes = hashes
        self.ends = ends


NO_BLOCKS = Blocks((), ())


def boundaries(schedule: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    """Ends of all blocks under a schedule of (up to this position, block size)."""
    ends: list[int] = []
    start = 0
    for limit, size in schedule:
        ends += range(start + size, limit + 1, size)
        start = ends[-1]
    return tuple(ends)


ENDS = boundaries(SCHEDULE)


def block_seed(model: str, salt: bytes = b"") -> int:
    """Where a chain begins: caches of different models, adapters and salts never meet."""
    return xxh3_64_intdigest(salt, xxh3_64_intdigest(model.encode("utf-8", "surrogatepass")))


def cut(prompt: memoryview | bytes, seed: int, ends: Sequence[int] = ENDS) -> Blocks:
    """Chained block hashes; a last block that is not full is left out."""
    length = len(prompt)
    view = memoryview(prompt)
    hashes: list[int] = []
    previous = seed
    start = 0
    for end in ends:
        if end > length:
            break
        previous = xxh3_64_intdigest(view[start:end], previous)
        hashes.append(previous)
        start = end
    return Blocks(hashes, ends)


class PrefixIndex:
    """Hash of a prefix -> slots that are taken to hold it."""

    def __init__(self, *, bytes_max: int = INDEX_BYTES_MAX) -> None:
        self._entries_max = bytes_max // ENTRY_BYTES
        self._slots_of: dict[int, int] = {}
        # Per slot: hash -> bytes of its block, least recently routed first.
        self._held: dict[int, OrderedDict[int, int]] = {}
        self._held_bytes: dict[int, int] = {}
        self._capacity: dict[int, int] = {}
        self._entries = 0
        # Prefix -> open requests that found this much of their prompts somewhere, and no more; and
        # the prefix of each of them. As many as there are reservations.
        self._askers: dict[int, int] = {}
        self._asked: dict[str, int] = {}

    @property
    def entries(self) -> int:
        """Pairs of prefix and slot."""
        return self._entries

    def set_capacity(self, slot: int, capacity_bytes: int) -> None:
        """How much prompt the slot's server can keep."""
        self._capacity[slot] = capacity_bytes
        if slot in self._held:
            self._shrink(slot)

    def shrink(self, slot: int, held_bytes: int) -> None:
        """The slot's server has no more than this: what was routed there longest ago is gone."""
        while self._held_bytes.get(slot, 0) > held_bytes:
            self._evict(slot)

    def match(self, blocks: Blocks) -> dict[int, int]:
        """Bytes of the longest known prefix by slot; a slot that is not in it has none."""
        matched: dict[int, int] = {}
        get = self._slots_of.get
        # Every slot, in two's complement.
        alive = -1
        end = 0
        for index, key in enumerate(blocks.hashes):
            here = get(key, 0) & alive
            if here != alive:
                if end:
                    _note(matched, alive & ~here, end)
                if not here:
                    return matched
                alive = here
            end = blocks.ends[index]
        if end:
            _note(matched, alive, end)
        return matched

    def longest(self, blocks: Blocks, matched: dict[int, int]) -> int:
        """The hash of the longest prefix that some slot has; 0 where none has any.

        ``matched`` is what ``match`` has found: the longest one is its last.
        """
        if not matched:
            return 0
        index = bisect_right(blocks.ends, next(reversed(matched.values()))) - 1
        return blocks.hashes[index] if 0 <= index < len(blocks.hashes) else 0

    def askers(self, prefix: int) -> int:
        """Open requests whose longest prefix it was."""
        return self._askers.get(prefix, 0)

    def ask(self, pick: str, prefix: int) -> None:
        """A request with this longest prefix was placed."""
        self._asked[pick] = prefix
        self._askers[prefix] = self._askers.get(prefix, 0) + 1

    def ended(self, pick: str) -> None:
        """A request has ended; most have asked for nothing that others had."""
        prefix = self._asked.pop(pick, 0)
        if not prefix:
            return
        left = self._askers[prefix] - 1
        if left:
            self._askers[prefix] = left
        else:
            del self._askers[prefix]

    def insert(self, blocks: Blocks, slot: int) -> None:
        """Takes the prompt to be cached by the slot's server from here on."""
        if not blocks.hashes:
            return
        held = self._held.get(slot)
        if held is None:
            held = self._held[slot] = OrderedDict()
            self._held_bytes[slot] = 0
        bit = 1 << slot
        slots_of = self._slots_of
        added = 0
        ends = blocks.ends
        # Backwards, so that the beginning of a prompt is newer than its end and leaves last.
        for index in range(len(blocks.hashes) - 1, -1, -1):
            key = blocks.hashes[index]
            if key in held:
                held.move_to_end(key)
                continue
            size = ends[index] - (ends[index - 1] if index else 0)
            held[key] = size
            slots_of[key] = slots_of.get(key, 0) | bit
            added += size
            self._entries += 1
        if added:
            self._held_bytes[slot] += added
            self._shrink(slot)
            while self._entries > self._entries_max:
                self._evict(max(self._held, key=lambda s: len(self._held[s])))

    def drop(self, slot: int) -> None:
        """Forgets a server that is gone."""
        bit = 1 << slot
        for key in self._held.pop(slot, ()):
            self._clear(key, bit)
        self._held_bytes.pop(slot, None)
        self._capacity.pop(slot, None)

    def held_bytes(self, slot: int) -> int:
        """Bytes of prompt that the slot is taken to hold."""
        return self._held_bytes.get(slot, 0)

    def _shrink(self, slot: int) -> None:
        capacity = self._capacity.get(slot, CAPACITY_BYTES_DEFAULT)
        while self._held_bytes[slot] > capacity:
            self._evict(slot)

    def _evict(self, slot: int) -> None:
        key, size = self._held[slot].popitem(last=False)
        self._held_bytes[slot] -= size
        self._clear(key, 1 << slot)

    def _clear(self, key: int, bit: int) -> None:
        self._entries -= 1
        left = self._slots_of[key] & ~bit
        if left:
            self._slots_of[key] = left
        else:
            del self._slots_of[key]


def _note(matched: dict[int, int], slots: int, end: int) -> None:
    while slots:
        low = slots & -slots
        matched[low.bit_length() - 1] = end
        slots ^= low
