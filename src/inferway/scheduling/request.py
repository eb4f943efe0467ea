"""What scheduling wants to know of one request. Nobody keeps a request after its decision."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

import msgspec


class Rng(Protocol):
    """A source of uniform numbers, so that a decision can be repeated."""

    def random(self) -> float:
        """A number in [0, 1)."""
        ...


class ApiKind(StrEnum):
    """Which OpenAI call it is; ``OTHER`` is anything whose cost is not understood."""

    COMPLETIONS = "completions"
    CHAT = "chat"
    EMBEDDINGS = "embeddings"
    OTHER = "other"


class Request(msgspec.Struct, frozen=True, gc=False):
    """One request.

    ``prompt`` is the raw JSON of the prompt or of the messages and is never decoded. ``salt`` holds
    what separates prefix caches besides the model: cache salt and tool definitions. An empty
    ``model`` means that any endpoint will do. ``max_tokens`` 0 means that the client did not say.
    """

    model: str
    kind: ApiKind = ApiKind.OTHER
    prompt: memoryview | bytes = b""
    salt: bytes = b""
    stream: bool = False
    max_tokens: int = 0
    body_bytes: int = 0
    objective: str = ""
    fairness_id: str = ""
    priority: int = 0
    # "ip" or "ip:port" that conformance tests restrict the choice to, if the filter for it is on.
    only: tuple[str, ...] = ()
