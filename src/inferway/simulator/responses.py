"""Response bodies, field by field in vLLM's order, so that they encode to what its clients know."""

from __future__ import annotations

from typing import Any

import msgspec


class PromptTokensDetails(msgspec.Struct):
    cached_tokens: int | None = None


# The build that is imitated, as vLLM tells it in every answer: version and a hash of its settings.
FINGERPRINT = "vllm-0.32.0-00000000"


class Usage(msgspec.Struct):
    prompt_tokens: int
    total_tokens: int
    completion_tokens: int
    prompt_tokens_details: PromptTokensDetails | None = None
    completion_tokens_details: None = None


class StreamUsage(msgspec.Struct, omit_defaults=True):
    """Usage in a stream, where vLLM leaves out what is not set."""

    prompt_tokens: int
    total_tokens: int
    completion_tokens: int
    prompt_tokens_details: PromptTokensDetails | None = None


class PromptLogprob(msgspec.Struct):
    """What the model thought of a token of the prompt."""

    logprob: float
    rank: int
    decoded_token: str


class CompletionLogprobs(msgspec.Struct):
    text_offset: list[int]
    token_logprobs: list[float | None]
    tokens: list[str]
    top_logprobs: list[dict[str, float] | None]


class ContinuousUsage(msgspec.Struct):
    """Usage in each event of a chat."""

    prompt_tokens: int
    total_tokens: int
    completion_tokens: int
    completion_tokens_details: None = None


class CompletionChoice(msgspec.Struct):
    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: str | None
    stop_reason: int | str | None
    token_ids: list[int] | None
    prompt_logprobs: list[dict[str, PromptLogprob] | None] | None
    prompt_token_ids: list[int] | None
    routed_experts: None = None


class Completion(msgspec.Struct):
    id: str
    object: str
    created: int
    model: str
    choices: list[CompletionChoice]
    service_tier: None
    system_fingerprint: str
    usage: Usage
    kv_transfer_params: dict[str, Any] | None
    ec_transfer_params: None = None
    metrics: None = None


class CompletionChunkChoice(msgspec.Struct):
    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: str | None
    stop_reason: int | str | None
    prompt_token_ids: list[int] | None
    token_ids: list[int] | None


class CompletionChunk(msgspec.Struct, omit_defaults=True):
    id: str
    object: str
    created: int
    model: str
    choices: list[CompletionChunkChoice]
    usage: StreamUsage | None = None
    system_fingerprint: str | None = None


class ChatTopLogprob(msgspec.Struct):
    token: str
    logprob: float
    bytes: list[int]


class ChatLogprob(msgspec.Struct):
    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[ChatTopLogprob]


class ChatLogprobs(msgspec.Struct):
    content: list[ChatLogprob]


class ChatMessage(msgspec.Struct):
    role: str
    content: str
    refusal: None
    annotations: None
    audio: None
    function_call: None
    reasoning: None


class ChatChoice(msgspec.Struct):
    index: int
    message: ChatMessage
    logprobs: ChatLogprobs | None
    finish_reason: str
    stop_reason: int | str | None
    token_ids: list[int] | None
    routed_experts: None = None


class ChatCompletion(msgspec.Struct):
    id: str
    object: str
    created: int
    model: str
    choices: list[ChatChoice]
    service_tier: None
    system_fingerprint: str
    usage: Usage
    prompt_logprobs: None
    prompt_token_ids: list[int] | None
    prompt_text: None
    kv_transfer_params: dict[str, Any] | None
    ec_transfer_params: None = None
    metrics: None = None


class ChatRoleDelta(msgspec.Struct):
    role: str
    content: str


class ChatDelta(msgspec.Struct):
    content: str


class ChatFirstChoice(msgspec.Struct):
    index: int
    delta: ChatRoleDelta
    logprobs: None
    finish_reason: None


class ChatChunkChoice(msgspec.Struct):
    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None
    finish_reason: str | None
    token_ids: list[int] | None


class ChatLastChoice(msgspec.Struct):
    """The chunk that ends a choice also says what stopped it."""

    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None
    finish_reason: str
    stop_reason: int | str | None
    token_ids: list[int] | None


class ChatFirstChunk(msgspec.Struct):
    id: str
    object: str
    created: int
    model: str
    choices: list[ChatFirstChoice]
    usage: ContinuousUsage | msgspec.UnsetType
    prompt_token_ids: list[int] | None
    prompt_text: None


class ChatChunk(msgspec.Struct, omit_defaults=True):
    id: str
    object: str
    created: int
    model: str
    choices: list[Any]
    usage: ContinuousUsage | None = None
    system_fingerprint: str | None = None


class UsageChunk(msgspec.Struct):
    """The last chunk of a stream when usage was asked for."""

    id: str
    object: str
    created: int
    model: str
    choices: list[None]
    usage: StreamUsage
    system_fingerprint: str


class ModelPermission(msgspec.Struct):
    id: str
    object: str
    created: int
    allow_create_engine: bool = False
    allow_sampling: bool = True
    allow_logprobs: bool = True
    allow_search_indices: bool = False
    allow_view: bool = True
    allow_fine_tuning: bool = False
    organization: str = "*"
    group: None = None
    is_blocking: bool = False


class ModelCard(msgspec.Struct):
    id: str
    object: str
    created: int
    owned_by: str
    root: str
    parent: str | None
    max_model_len: int | None
    permission: list[ModelPermission]


class ModelList(msgspec.Struct):
    object: str
    data: list[ModelCard]


class EmbeddingItem(msgspec.Struct):
    index: int
    object: str
    embedding: list[float] | str


class Embeddings(msgspec.Struct):
    id: str
    object: str
    created: int
    model: str
    data: list[EmbeddingItem]
    usage: Usage


class Tokenized(msgspec.Struct):
    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None


class Detokenized(msgspec.Struct):
    prompt: str
