"""The KV cache as blocks: reference counts, content by hash, eviction of the least recently used.

A block is free when nobody refers to it. A free block keeps its content until it is taken for
something else, which is what makes it a prefix cache. Blocks that never held anything are
taken first; then the ones that have been free longest.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from struct import pack

import xxhash

# "No content": a hash of zero is mapped to one, so that this stays unambiguous.
_EMPTY = 0


def root_hash(adapter: str, salt: str) -> int:
    """Where a hash chain begins: the same tokens under another adapter are other content."""
    if not adapter and not salt:
        return 1
    return xxhash.xxh3_64_intdigest(f"{adapter}\0{salt}".encode()) or 1


def chain_hashes(root: int, tokens: Sequence[int], size: int, done: int = 0) -> list[int]:
    """Hashes of the full blocks of ``tokens`` after the first ``done``; each includes its parents.

    ``root`` is the hash of block ``done - 1``, or the root of the chain.
    """
    hashes = []
    parent = root
    layout = f"<Q{size}Q"
    for begin in range(done * size, len(tokens) - size + 1, size):
        block = tokens[begin : begin + size]
        parent = xxhash.xxh3_64_intdigest(pack(layout, parent, *block)) or 1
        hashes.append(parent)
    return hashes


class BlockPool:
    """All blocks of one engine. Blocks are numbers below ``blocks``."""

    def __init__(self, blocks: int) -> None:
        assert blocks > 0
        self.blocks = blocks
        self._references: list[int] = []
        self._contents: list[int] = []
        self._free: OrderedDict[int, None] = OrderedDict()
        self._by_content: dict[int, int] = {}
        # What was forgotten, where somebody wants to know.
        self.forgotten: list[int] | None = None

    @property
    def available(self) -> int:
        """Blocks that can be taken."""
        return self.blocks - len(self._references) + len(self._free)

    @property
    def used(self) -> int:
        return self.blocks - self.available

    def take(self, count: int) -> list[int]:
        """``count`` blocks with one reference each; their old content is forgotten."""
        assert count <= self.available
        taken = []
        for _ in range(count):
            block = len(self._references)
            if block < self.blocks:
                self._references.append(1)
                self._contents.append(_EMPTY)
            else:
                block, _ = self._free.popitem(last=False)
                self._forget(block)
                self._references[block] = 1
            taken.append(block)
        return taken

    def match(self, hashes: Sequence[int]) -> list[int]:
        """The longest run of cached blocks from the front; takes nothing."""
        found = []
        for content in hashes:
            block = self._by_content.get(content)
            if block is None:
                break
            found.append(block)
        return found

    def count_free(self, blocks: Sequence[int]) -> int:
        """How many of ``blocks`` nobody refers to."""
        return sum(1 for block in blocks if self._references[block] == 0)

    def share(self, blocks: Sequence[int]) -> None:
        """One more reference to each of ``blocks``."""
        for block in blocks:
            if self._references[block] == 0:
                del self._free[block]
            self._references[block] += 1

    def publish(self, block: int, content: int) -> bool:
        """Makes a full block findable; False where another block has the content, and stays."""
        if content in self._by_content:
            return False
        self._by_content[content] = block
        self._contents[block] = content
        return True

    def release(self, blocks: Sequence[int]) -> None:
        """Drops one reference of each block, the last first, so that prefixes live longest."""
        for block in reversed(blocks):
            self._references[block] -= 1
            assert self._references[block] >= 0
            if self._references[block] == 0:
                self._free[block] = None

    def _forget(self, block: int) -> None:
        content = self._contents[block]
        if content != _EMPTY:
            del self._by_content[content]
            self._contents[block] = _EMPTY
            if self.forgotten is not None:
                self.forgotten.append(content)
