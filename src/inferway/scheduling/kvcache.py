"""What servers say they have in their KV caches, exactly, for prompts that come as token ids.

A server that publishes KV events tells the tokens of every block it stores. Its own block hashes
are opaque (their seed and function are its affair), so each block gets a key of ours, chained over
the token ids from the adapter's name on, and the server's hash only leads from a later event to
that key. A request whose prompt is a list of token ids is cut in the same way and compared. Text
can not be compared, because no tokenizer is here: for it there is the approximate index.

What is placed counts as stored for a moment, until the server's event confirms it or does not.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Mapping

import msgspec
from xxhash import xxh3_64_intdigest

from inferway.scheduling.events import BlockEvent, BlocksCleared, BlocksRemoved, BlocksStored
from inferway.scheduling.prefix import block_seed
from inferway.scheduling.request import Request

# Memory of one stored block: an entry of a dict by the server's hash, one by key, three integers.
ENTRY_BYTES = 300
# All blocks of one pool together; about 900 000 blocks. Beyond it blocks are not noted.
CACHES_BYTES_MAX = 256 * 1024 * 1024
# An event comes within a step or two of a placement.
PLACED_SECONDS = 2.0
# Blocks of requests that were placed a moment ago; a burst beyond it is not followed.
PLACED_BLOCKS_MAX = 200_000
# A prompt beyond this is compared by its beginning, which bounds the work of a decision.
PROMPT_TOKENS_MAX = 131_072
BLOCK_TOKENS_MAX = 4096

_tokens = msgspec.json.Decoder(list[int])


def tokens_of(prompt: memoryview | bytes) -> array[int] | None:
    """The token ids of a prompt that is a JSON list of them; None for any other prompt."""
    head = bytes(prompt[:64]).lstrip()
    if head[:1] != b"[" or head[1:].lstrip()[:1] in (b"", b'"', b"[", b"{", b"]"):
        return None
    try:
        return array("I", _tokens.decode(prompt)[:PROMPT_TOKENS_MAX])
    except (msgspec.DecodeError, OverflowError):
        return None


def keys_of(tokens: array[int], adapter: str, size: int) -> list[int]:
    """Chained keys of the full blocks of ``size`` tokens."""
    step = size * tokens.itemsize
    view = memoryview(tokens).cast("B")
    key = block_seed(adapter)
    keys = []
    for begin in range(0, len(view) - step + 1, step):
        key = xxh3_64_intdigest(view[begin : begin + step], key)
        keys.append(key)
    return keys


class _Server:
    __slots__ = ("keys", "size", "twice")

    def __init__(self) -> None:
        self.size = 0
        # The server's hash of a block -> our key.
        self.keys: dict[int, int] = {}
        # Keys that several of its hashes lead to (such as under two salts), less one.
        self.twice: dict[int, int] = {}


class KvCaches:
    """Blocks by slot, of the servers that publish events."""

    def __init__(self, *, bytes_max: int = CACHES_BYTES_MAX) -> None:
        self._blocks_max = bytes_max // ENTRY_BYTES
        self._servers: dict[int, _Server] = {}
        self._slots_of: dict[int, int] = {}
        self._blocks = 0
        # (key, slot) -> until when it counts as stored, and the order in which that ends.
        self._placed: dict[tuple[int, int], float] = {}
        self._placed_order: deque[tuple[float, int, int]] = deque()
        self._last: tuple[Request | None, array[int] | None] = (None, None)
        # Blocks of events that could not be used: their parent is unknown, or there is no memory.
        self.skipped = 0

    @property
    def known(self) -> bool:
        """Whether any server publishes events."""
        return bool(self._servers)

    @property
    def blocks(self) -> int:
        """Stored blocks of all servers."""
        return self._blocks

    def tokens(self, slot: int) -> int:
        """Tokens that the slot's server has in its cache."""
        server = self._servers.get(slot)
        return 0 if server is None else len(server.keys) * server.size

    # -- what servers say --------------------------------------------------------------------

    def apply(self, slot: int, event: BlockEvent) -> None:
        """One event of the slot's server."""
        server = self._servers.get(slot)
        if server is None:
            server = self._servers[slot] = _Server()
        if isinstance(event, BlocksStored):
            self._store(slot, server, event)
        elif isinstance(event, BlocksRemoved):
            for name in event.hashes:
                key = server.keys.pop(name, None)
                if key is not None:
                    self._forget(slot, server, key)
        else:
            assert isinstance(event, BlocksCleared)
            self.clear(slot)

    def clear(self, slot: int) -> None:
        """The server has nothing, or nobody knows what it has."""
        server = self._servers.get(slot)
        if server is not None:
            for key in server.keys.values():
                self._forget(slot, server, key)
            server.keys.clear()

    def drop(self, slot: int) -> None:
        """Forgets a server that is gone."""
        self.clear(slot)
        self._servers.pop(slot, None)

    def _store(self, slot: int, server: _Server, event: BlocksStored) -> None:
        size, count = event.block_size, len(event.hashes)
        parent = block_seed(event.adapter) if event.parent is None else None
        if event.parent is not None:
            parent = server.keys.get(event.parent)
        fits = 0 < size <= BLOCK_TOKENS_MAX and len(event.tokens) == size * count
        if parent is None or not fits or self._blocks + count > self._blocks_max:
            self.skipped += count
            return
        try:
            view = memoryview(array("I", event.tokens)).cast("B")
        except (OverflowError, TypeError):
            self.skipped += count
            return
        if size != server.size:
            self.clear(slot)
            server.size = size
        step = len(view) // count if count else 0
        for index, name in enumerate(event.hashes):
            parent = xxh3_64_intdigest(view[index * step : (index + 1) * step], parent)
            if name in server.keys:
                continue
            server.keys[name] = parent
            self._blocks += 1
            bits = self._slots_of.get(parent, 0)
            if bits >> slot & 1:
                server.twice[parent] = server.twice.get(parent, 0) + 1
            self._slots_of[parent] = bits | 1 << slot

    def _forget(self, slot: int, server: _Server, key: int) -> None:
        self._blocks -= 1
        more = server.twice.get(key, 0)
        if more > 1:
            server.twice[key] = more - 1
        elif more:
            del server.twice[key]
        else:
            left = self._slots_of[key] & ~(1 << slot)
            if left:
                self._slots_of[key] = left
            else:
                del self._slots_of[key]

    # -- requests --------------------------------------------------------------------------

    def refine(
        self, request: Request, matched: dict[int, int], parents: Mapping[str, str], now: float
    ) -> None:
        """Replaces what is guessed of servers that publish events, if the prompt is tokens."""
        tokens = self._tokens(request)
        if tokens is None or not len(tokens):
            return
        adapter = request.model if request.model in parents else ""
        bytes_per_token = len(request.prompt) / len(tokens)
        for size, slots in self._sizes().items():
            found = self._match(keys_of(tokens, adapter, size), slots, now)
            for slot in slots:
                blocks = found.get(slot, 0)
                if blocks:
                    matched[slot] = int(blocks * size * bytes_per_token)
                else:
                    matched.pop(slot, None)

    def place(self, request: Request, slot: int, parents: Mapping[str, str], now: float) -> None:
        """The request goes to the slot: its blocks will be stored there."""
        server = self._servers.get(slot)
        order = self._placed_order
        while order and order[0][0] <= now:
            until, key, old = order.popleft()
            if self._placed.get((key, old)) == until:
                del self._placed[key, old]
        tokens = self._tokens(request) if server is not None and server.size else None
        # Nobody keeps a request after its decision.
        self._last = (None, None)
        if server is None or tokens is None:
            return
        adapter = request.model if request.model in parents else ""
        for key in keys_of(tokens, adapter, server.size):
            if len(order) >= PLACED_BLOCKS_MAX:
                return
            self._placed[key, slot] = now + PLACED_SECONDS
            order.append((now + PLACED_SECONDS, key, slot))

    def _sizes(self) -> dict[int, list[int]]:
        sizes: dict[int, list[int]] = {}
        for slot, server in self._servers.items():
            if server.size:
                sizes.setdefault(server.size, []).append(slot)
        return sizes

    def _match(self, keys: list[int], slots: list[int], now: float) -> dict[int, int]:
        alive = list(slots)
        found: dict[int, int] = {}
        placed = self._placed
        for index, key in enumerate(keys):
            bits = self._slots_of.get(key, 0)
            alive = [
                slot for slot in alive if bits >> slot & 1 or placed.get((key, slot), 0.0) > now
            ]
            if not alive:
                break
            for slot in alive:
                found[slot] = index + 1
        return found

    def _tokens(self, request: Request) -> array[int] | None:
        """Decoded once for a decision and the reservation after it."""
        last, tokens = self._last
        if last is not request:
            tokens = tokens_of(request.prompt)
            self._last = (request, tokens)
        return tokens
