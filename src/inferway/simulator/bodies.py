"""The fields of each request body, with what vLLM takes for them, in the order of its models."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from inferway.simulator.requests import (
    ChatRequest,
    CompletionRequest,
    CountTokensRequest,
    DetokenizeRequest,
    EmbeddingRequest,
    GenerateRequest,
    LoadAdapterRequest,
    MessagesRequest,
    PoolingRequest,
    RerankRequest,
    ResponsesRequest,
    ScoreRequest,
    TokenizeRequest,
    UnloadAdapterRequest,
)
from inferway.simulator.validation import (
    Check,
    any_of,
    anything,
    at_least,
    boolean,
    fields,
    integer,
    list_of,
    mapping,
    number,
    one_of,
    optional,
    string,
)

_TOKENS = list_of(at_least(integer, 0))
_STREAM_OPTIONS = fields(
    {
        "include_usage": optional(boolean),
        "continuous_usage_stats": optional(boolean),
    }
)
_RESPONSE_FORMAT = any_of(
    fields({"type": one_of("text", "json_object", "json_schema")}, ("type",)),
    fields({"type": one_of("structural_tag"), "format": anything}, ("type", "format")),
    fields(
        {"type": one_of("structural_tag"), "structures": anything, "triggers": anything},
        ("type", "structures", "triggers"),
    ),
)
_SAMPLING: Mapping[str, Check] = {
    "n": integer,
    "presence_penalty": optional(number),
    "seed": optional(integer),
    "stop": optional(any_of(string, list_of(string))),
    "stream": optional(boolean),
    "stream_options": optional(_STREAM_OPTIONS),
    "suffix": optional(string),
    "temperature": optional(number),
    "top_p": optional(number),
    "user": optional(string),
    "top_k": optional(integer),
    "min_p": optional(number),
    "repetition_penalty": optional(number),
    "stop_token_ids": optional(list_of(integer)),
    "include_stop_str_in_output": boolean,
    "ignore_eos": boolean,
    "min_tokens": integer,
    "truncate_prompt_tokens": optional(at_least(integer, -1)),
    "allowed_token_ids": optional(list_of(integer)),
    "prompt_logprobs": optional(integer),
    "response_format": optional(_RESPONSE_FORMAT),
    "request_id": string,
    "return_token_ids": optional(boolean),
    "kv_transfer_params": optional(mapping),
}
_COMPLETION = fields(
    {
        "model": optional(string),
        "prompt": optional(any_of(_TOKENS, list_of(_TOKENS), string, list_of(string))),
        "echo": optional(boolean),
        "frequency_penalty": optional(number),
        "logit_bias": optional(mapping),
        "logprobs": optional(integer),
        "max_tokens": optional(integer),
        **_SAMPLING,
    }
)
_CHAT = fields(
    {
        "messages": list_of(mapping),
        "model": optional(string),
        "frequency_penalty": optional(number),
        "logit_bias": optional(mapping),
        "logprobs": optional(boolean),
        "top_logprobs": optional(integer),
        "max_tokens": optional(integer),
        "max_completion_tokens": optional(integer),
        **_SAMPLING,
        "tools": optional(list_of(anything)),
        "reasoning_effort": optional(
            one_of("none", "minimal", "low", "medium", "high", "xhigh", "max")
        ),
        "echo": boolean,
        "add_generation_prompt": boolean,
        "continue_final_message": boolean,
    },
    ("messages",),
)
_TOKENIZE = any_of(
    fields(
        {
            "model": optional(string),
            "prompt": string,
            "return_token_strs": optional(boolean),
        },
        ("prompt",),
    ),
    fields({"messages": list_of(mapping), "add_generation_prompt": boolean}, ("messages",)),
)

CHECKS: Mapping[type, Check] = MappingProxyType(
    {
        CompletionRequest: _COMPLETION,
        ChatRequest: _CHAT,
        ResponsesRequest: fields(
            {
                "input": any_of(string, list_of(anything)),
                "instructions": optional(string),
                "max_output_tokens": optional(integer),
                "model": optional(string),
                "stream": optional(boolean),
                "temperature": optional(number),
                "top_p": optional(number),
            },
            ("input",),
        ),
        TokenizeRequest: _TOKENIZE,
        DetokenizeRequest: fields({"model": optional(string), "tokens": _TOKENS}, ("tokens",)),
        EmbeddingRequest: fields(
            {
                "model": optional(string),
                "input": any_of(_TOKENS, list_of(_TOKENS), string, list_of(string)),
                "dimensions": optional(integer),
            },
            ("input",),
        ),
        PoolingRequest: any_of(
            fields(
                {
                    "model": optional(string),
                    "input": any_of(_TOKENS, list_of(_TOKENS), string, list_of(string)),
                },
                ("input",),
            ),
            fields({"model": optional(string), "messages": list_of(mapping)}, ("messages",)),
        ),
        ScoreRequest: any_of(
            *(
                fields({"model": optional(string), a: anything, b: anything}, (a, b))
                for a, b in (
                    ("queries", "documents"),
                    ("queries", "items"),
                    ("data_1", "data_2"),
                    ("text_1", "text_2"),
                )
            )
        ),
        RerankRequest: fields(
            {
                "model": optional(string),
                "query": any_of(string, mapping),
                "documents": any_of(string, mapping, list_of(any_of(string, mapping))),
                "top_n": at_least(integer, 0),
            },
            ("query", "documents"),
        ),
        MessagesRequest: fields(
            {
                "model": string,
                "messages": list_of(mapping),
                "max_tokens": integer,
                "stop_sequences": optional(list_of(string)),
                "stream": optional(boolean),
                "system": optional(any_of(string, list_of(mapping))),
                "temperature": optional(number),
                "top_k": optional(integer),
                "top_p": optional(number),
            },
            ("model", "messages", "max_tokens"),
        ),
        CountTokensRequest: fields(
            {
                "model": string,
                "messages": list_of(mapping),
                "system": optional(any_of(string, list_of(mapping))),
            },
            ("model", "messages"),
        ),
        GenerateRequest: fields(
            {
                "request_id": string,
                "token_ids": _TOKENS,
                "sampling_params": fields(
                    {"n": integer, "max_tokens": optional(integer), "temperature": number}
                ),
                "model": optional(string),
                "output_mode": one_of("tokens", "text"),
                "stream": optional(boolean),
                "stream_options": optional(_STREAM_OPTIONS),
                "cache_salt": optional(string),
            },
            ("token_ids", "sampling_params"),
        ),
        LoadAdapterRequest: fields(
            {
                "lora_name": string,
                "lora_path": string,
                "load_inplace": boolean,
                "is_3d_lora_weight": boolean,
            },
            ("lora_name", "lora_path"),
        ),
        UnloadAdapterRequest: fields(
            {"lora_name": string, "lora_int_id": optional(integer)}, ("lora_name",)
        ),
    }
)
