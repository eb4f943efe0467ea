"""Request bodies of the OpenAI surface, as values.

Unknown fields are ignored. What vLLM accepts and this model has no use for is checked as vLLM does
and has no influence. Decoding is in ``decoding``, checks of several fields together are in
``sampling``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

# vLLM's limit for prompts in one completion request.
PROMPTS_MAX = 1024
# Both limits at once would be millions of sequences, minutes of work for one request.
SEQUENCES_MAX = 4096

Whole = Annotated[int, msgspec.Meta(ge=0)]


class StreamOptions(msgspec.Struct):
    include_usage: bool | None = False
    continuous_usage_stats: bool | None = False


class ResponseFormat(msgspec.Struct):
    """What the text of an answer must look like."""

    type: Literal["text", "json_object", "json_schema", "structural_tag"]
    json_schema: Any = None
    format: Any = None


class Sampling(msgspec.Struct, kw_only=True):
    """Fields that both kinds of generation share."""

    model: str | None = None
    n: int = 1
    stop: str | list[str] | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    suffix: str | None = None
    user: str | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: dict[str, Any] | None = None
    allowed_token_ids: list[int] | None = None
    stop_token_ids: list[int] | None = None
    prompt_logprobs: int | None = None
    truncate_prompt_tokens: Annotated[int, msgspec.Meta(ge=-1)] | None = None
    response_format: ResponseFormat | None = None
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    return_token_ids: bool | None = None
    # Looked at before its type is, so any value may come.
    cache_salt: Any = None
    kv_transfer_params: dict[str, Any] | None = None
    request_id: str | None = None
    min_tokens: int = 0

    @property
    def salt(self) -> str:
        """The cache salt once it has been checked."""
        return self.cache_salt or ""


class CompletionRequest(Sampling, kw_only=True):
    """POST /v1/completions."""

    prompt: str | list[Any] | None = None
    echo: bool | None = False
    logprobs: int | None = None
    max_tokens: int | None = 16


class ChatRequest(Sampling, kw_only=True):
    """POST /v1/chat/completions."""

    messages: list[dict[str, Any]]
    logprobs: bool | None = False
    top_logprobs: int | None = 0
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    echo: bool = False
    tools: list[Any] | None = None
    tool_choice: Any = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = (
        None
    )


class ResponsesRequest(msgspec.Struct, kw_only=True):
    """POST /v1/responses, for plain texts."""

    input: str | list[Any]
    model: str | None = None
    instructions: str | None = None
    max_output_tokens: int | None = None
    stream: bool | None = False
    temperature: float | None = None
    top_p: float | None = None
    user: str | None = None
    metadata: dict[str, Any] | None = None
    cache_salt: str | None = None


class EmbeddingRequest(msgspec.Struct, kw_only=True):
    """POST /v1/embeddings."""

    input: str | list[Any]
    model: str | None = None
    encoding_format: str | None = "float"
    dimensions: int | None = None


class PoolingRequest(msgspec.Struct, kw_only=True):
    """POST /pooling and /classify, for texts or for messages."""

    input: str | list[Any] | None = None
    messages: list[dict[str, Any]] | None = None
    model: str | None = None


class ScoreRequest(msgspec.Struct, kw_only=True):
    """POST /score, under all names that vLLM knows."""

    model: str | None = None
    queries: Any = None
    text_1: Any = None
    data_1: Any = None
    documents: Any = None
    items: Any = None
    text_2: Any = None
    data_2: Any = None

    @property
    def first(self) -> Any:
        """What is compared, or None."""
        return next((x for x in (self.queries, self.text_1, self.data_1) if x is not None), None)

    @property
    def second(self) -> Any:
        """With what it is compared, or None."""
        names = (self.documents, self.items, self.text_2, self.data_2)
        return next((x for x in names if x is not None), None)


class RerankRequest(msgspec.Struct, kw_only=True):
    """POST /rerank."""

    query: str | dict[str, Any]
    documents: str | dict[str, Any] | list[Any]
    model: str | None = None
    top_n: Whole = 0


class MessagesRequest(msgspec.Struct, kw_only=True):
    """POST /v1/messages, for texts."""

    model: str
    messages: list[dict[str, Any]]
    max_tokens: int
    system: str | list[Any] | None = None
    stop_sequences: list[str] | None = None
    stream: bool | None = False
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    cache_salt: str | None = None


class CountTokensRequest(msgspec.Struct, kw_only=True):
    """POST /v1/messages/count_tokens."""

    model: str
    messages: list[dict[str, Any]]
    system: str | list[Any] | None = None


class SamplingParams(msgspec.Struct, kw_only=True):
    """How tokens are drawn, under the names of vLLM's engine."""

    n: int = 1
    max_tokens: int | None = 16
    temperature: float | None = None
    stop: str | list[str] | None = None


class GenerateRequest(msgspec.Struct, kw_only=True):
    """POST /inference/v1/generate."""

    token_ids: list[Whole]
    sampling_params: SamplingParams
    model: str | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    cache_salt: str | None = None
    request_id: str | None = None
    return_token_ids: bool | None = None
    output_mode: Literal["tokens", "text"] = "tokens"


class TokenizeRequest(msgspec.Struct, kw_only=True):
    """POST /tokenize, for a text or for messages."""

    model: str | None = None
    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None
    add_generation_prompt: bool | None = True
    return_token_strs: bool | None = False


class DetokenizeRequest(msgspec.Struct, kw_only=True):
    """POST /detokenize."""

    tokens: list[Whole]
    model: str | None = None


class LoadAdapterRequest(msgspec.Struct, kw_only=True):
    """POST /v1/load_lora_adapter."""

    lora_name: str
    lora_path: str
    load_inplace: bool = False
    is_3d_lora_weight: bool = False
    base_model_name: str | None = None


class UnloadAdapterRequest(msgspec.Struct, kw_only=True):
    """POST /v1/unload_lora_adapter."""

    lora_name: str
    lora_int_id: int | None = None
