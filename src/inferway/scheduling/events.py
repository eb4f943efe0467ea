"""What becomes known about requests and servers after a decision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import msgspec


class Finished(msgspec.Struct, frozen=True, gc=False):
    """One access-log entry. Times are seconds since the request's start; None means unknown.

    ``served`` is the endpoint that answered (``ip:port``) or empty, ``failed`` says that no
    server answered although one was tried.
    """

    pick: str
    code: int = 0
    served: str = ""
    attempts: int = 1
    failed: bool = False
    first_byte_seconds: float | None = None
    last_byte_seconds: float | None = None
    duration_seconds: float | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    # None: the server does not tell.
    cached_tokens: int | None = None
    # Bytes of the answer's body; None: the proxy does not tell.
    answer_bytes: int | None = None


class Doubted(msgspec.Struct, frozen=True):
    """The proxy let go of the callout as it was answered."""

    pick: str


class ProxyGone(msgspec.Struct, frozen=True):
    """A proxy has died, and its requests with it."""

    proxy: str


class Tick(msgspec.Struct, frozen=True):
    """Time has passed; leaks are let go."""


Event: TypeAlias = Finished | Doubted | ProxyGone | Tick


class PushedOut(msgspec.Struct, frozen=True):
    """There was no more room for what was open; happens to the oldest."""


class BlocksStored(msgspec.Struct, frozen=True):
    """A server has these blocks in its cache, each behind the one before it.

    ``parent`` is the server's hash of the block before the first, None at the beginning of a
    prompt; ``tokens`` are those of all blocks; ``adapter`` is empty for the base model.
    """

    hashes: Sequence[int]
    parent: int | None
    tokens: Sequence[int]
    block_size: int
    adapter: str = ""


class BlocksRemoved(msgspec.Struct, frozen=True):
    """A server has evicted these."""

    hashes: Sequence[int]


class BlocksCleared(msgspec.Struct, frozen=True):
    """A server has evicted everything."""


BlockEvent: TypeAlias = BlocksStored | BlocksRemoved | BlocksCleared


class Scrape(msgspec.Struct, frozen=True):
    """One server's metrics. ``max_loras`` 0 and ``kv_tokens`` 0 mean that it does not tell.

    ``attributes`` are further metrics, under the names that a configuration gives them.
    """

    waiting: float = 0.0
    running: float = 0.0
    kv_use: float = 0.0
    kv_tokens: int = 0
    max_loras: int = 0
    running_adapters: frozenset[str] = frozenset()
    waiting_adapters: frozenset[str] = frozenset()
    attributes: Mapping[str, float] = {}


class ModelCard(msgspec.Struct, frozen=True):
    """One entry of a server's ``/v1/models``; adapters have a parent."""

    id: str
    parent: str = ""
