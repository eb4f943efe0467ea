"""What goes into the engine model and what comes out of it.

Units are in the names. Token ids are plain integers; the engine compares and hashes them and never
reads text. Times are seconds on one clock that the caller chooses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import msgspec


class EngineConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes of one engine, named after the vLLM flags that set them."""

    block_size_tokens: int = 16
    blocks: int = 9362
    batched_tokens_max: int = 2048
    sequences_max: int = 256
    prefix_caching: bool = True
    chunked_prefill: bool = True
    adapters_device_max: int = 1
    adapters_host_max: int = 1

    @property
    def capacity_tokens(self) -> int:
        """The longest sequence that fits when it has the cache for itself."""
        return self.blocks * self.block_size_tokens


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One sequence to generate. ``output`` is what the model will say, known beforehand.

    ``output`` must not be empty, and prompt and output together must fit the cache.
    ``salt`` separates prefix caches of tenants.
    """

    id: int
    prompt: Sequence[int]
    output: Sequence[int]
    arrived: float
    adapter: str = ""
    salt: str = ""


class StoredBlocks(msgspec.Struct, frozen=True):
    """Full blocks that can be found from here on, each behind the one before; a KV event."""

    hashes: Sequence[int]
    parent: int | None
    tokens: Sequence[int]
    adapter: str
    salt: str


class RemovedBlocks(msgspec.Struct, frozen=True):
    """Blocks that were taken for something else."""

    hashes: Sequence[int]


BlockLog: TypeAlias = StoredBlocks | RemovedBlocks


class Output(msgspec.Struct, frozen=True, gc=False):
    """Tokens that one sequence gained in a step; ``finished`` with the last of them."""

    id: int
    tokens: int
    finished: bool


class Timing(msgspec.Struct, frozen=True, gc=False):
    """When things happened to a finished sequence. Times are starts of steps."""

    arrived: float
    scheduled: float
    cached_tokens: int
    preemptions: int


class Step(msgspec.Struct, frozen=True):
    """One pass of the model: how long it takes and what it yields at its end.

    The token budget holds for ``prefill_tokens + decode_sequences``. ``decode_tokens`` are the
    tokens that came out, also those at the end of a prefill.
    """

    seconds: float
    outputs: list[Output]
    timings: dict[int, Timing]
    prefill_tokens: int
    decode_sequences: int
    decode_tokens: int
    preempted: int
    cache_queried_tokens: int
    cache_hit_tokens: int


class Stats(msgspec.Struct, frozen=True):
    """The engine between two steps. Adapter names are in the order of first use.

    ``deferred`` of the waiting ones wait for a slot for their adapter.
    """

    running: int
    waiting: int
    deferred: int
    cache_usage: float
    running_adapters: tuple[str, ...]
    waiting_adapters: tuple[str, ...]
