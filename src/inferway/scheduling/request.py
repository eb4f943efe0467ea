"""What scheduling wants to know of one request. Nobody keeps a request after its decision."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Protocol

import msgspec


class Rng(Protocol):
    """A source of uniform numbers, so that a decision can be repeated."""

    def random(self) -> float:
        """A number in [0, 1)."""
        ...


class ApiKind(StrEnum):
    """Which call it is; ``OTHER`` is anything whose cost is not understood."""

    COMPLETIONS = "completions"
    CHAT = "chat"
    RESPONSES = "responses"
    MESSAGES = "messages"
    GENERATE = "generate"
    EMBEDDINGS = "embeddings"
    RERANK = "rerank"
    SCORE = "score"
    POOLING = "pooling"
    # A prompt is made and no model runs.
    RENDER = "render"
    IMAGES = "images"
    AUDIO = "audio"
    OTHER = "other"


NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class Request(msgspec.Struct, frozen=True, gc=False):
    """One request.

    ``prompt`` is the raw JSON of the prompt or of the messages and is never decoded. ``salt`` holds
    what separates prefix caches besides the model: cache salt and tool definitions. An empty
    ``model`` means that any endpoint will do. Numbers that are 0 mean that the client did not say.
    ``headers`` has, under lower-case names, those of the request that the policy reads.
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
    headers: Mapping[str, str] = NO_HEADERS
    # How long the request may wait in the picker, and what the client would like to see.
    ttl_seconds: float = 0.0
    slo_ttft_ms: float = 0.0
    slo_tpot_ms: float = 0.0
    # "ip:port" or "ip" of the endpoints that the gateway leaves to choose from; None: all.
    subset: frozenset[str] | None = None
    # Of the prompt so many bytes are no text: pictures in base64, token ids. ``counted_tokens`` are
    # the prompt's tokens besides those of its text.
    counted_bytes: int = 0
    counted_tokens: float = 0.0
