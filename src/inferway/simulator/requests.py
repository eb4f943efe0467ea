"""Request bodies of the OpenAI surface, decoded leniently as vLLM does, with its error texts.

Unknown fields are ignored. Numbers may come as strings. What vLLM accepts and this model has no use
for (sampling details, structured outputs) is accepted too.
"""

from __future__ import annotations

import json
import re
from typing import Any, TypeVar

import msgspec

from inferway.simulator.errors import ApiError, invalid_body

T = TypeVar("T")

# vLLM's limit for prompts in one completion request.
PROMPTS_MAX = 1024
# A body that is told back in an error is cut, unlike vLLM, which repeats megabytes.
ECHOED_CHARACTERS_MAX = 1000
# The OpenAI API's own limit for choices is 128; vLLM leaves it to memory.
CHOICES_MAX = 128
# Both limits at once would be a hundred thousand sequences, seconds of work for one request.
SEQUENCES_MAX = 4096


class StreamOptions(msgspec.Struct):
    include_usage: bool | None = True
    continuous_usage_stats: bool | None = False


class Sampling(msgspec.Struct, kw_only=True):
    """Fields that both kinds of generation share."""

    model: str | None = None
    n: int | None = 1
    stop: str | list[str] | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    include_stop_str_in_output: bool | None = False
    return_token_ids: bool | None = None
    cache_salt: str | None = None
    kv_transfer_params: dict[str, Any] | None = None
    request_id: str | None = None
    min_tokens: int | None = 0


class CompletionRequest(Sampling, kw_only=True):
    """POST /v1/completions."""

    prompt: str | list[Any] | None = None
    echo: bool | None = False
    logprobs: int | None = None
    max_tokens: int | None = 16
    truncate_prompt_tokens: int | None = None


class ChatRequest(Sampling, kw_only=True):
    """POST /v1/chat/completions."""

    messages: list[dict[str, Any]]
    logprobs: bool | None = False
    top_logprobs: int | None = 0
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    add_generation_prompt: bool | None = True


class EmbeddingRequest(msgspec.Struct, kw_only=True):
    """POST /v1/embeddings."""

    input: str | list[Any]
    model: str | None = None
    encoding_format: str | None = "float"
    dimensions: int | None = None


class TokenizeRequest(msgspec.Struct, kw_only=True):
    """POST /tokenize, for a text or for messages."""

    model: str | None = None
    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None
    add_generation_prompt: bool | None = True
    return_token_strs: bool | None = False


class DetokenizeRequest(msgspec.Struct, kw_only=True):
    """POST /detokenize."""

    tokens: list[int]
    model: str | None = None


class LoadAdapterRequest(msgspec.Struct, kw_only=True):
    """POST /v1/load_lora_adapter."""

    lora_name: str
    lora_path: str
    load_inplace: bool = False
    base_model_name: str | None = None


class UnloadAdapterRequest(msgspec.Struct, kw_only=True):
    """POST /v1/unload_lora_adapter."""

    lora_name: str
    lora_int_id: int | None = None


class Decoder:
    """Decoders of all bodies, made once."""

    def __init__(self) -> None:
        self._decoders: dict[type, msgspec.json.Decoder[Any]] = {}

    def decode(self, kind: type[T], body: bytes, content_type: bytes) -> T:
        """Raises ApiError with vLLM's words."""
        media = content_type.split(b";", 1)[0].strip().lower()
        if media != b"application/json":
            raise invalid_body("[\"Unsupported Media Type: Only 'application/json' is allowed\"]")
        decoder = self._decoders.get(kind)
        if decoder is None:
            decoder = self._decoders[kind] = msgspec.json.Decoder(kind, strict=False)
        try:
            value: T = decoder.decode(body)
        except msgspec.ValidationError as error:
            raise invalid_body(_validation_text(str(error), body)) from None
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise invalid_body(_json_text(body)) from None
        return value


_EXPECTED = (
    ("int", "int_type", "Input should be a valid integer"),
    ("float", "float_type", "Input should be a valid number"),
    ("bool", "bool_type", "Input should be a valid boolean"),
    ("str", "string_type", "Input should be a valid string"),
    ("array", "list_type", "Input should be a valid list"),
    ("object", "dict_type", "Input should be a valid dictionary"),
)
_PARSED = {"int": "an integer", "float": "a number", "bool": "a boolean"}
_MISSING = re.compile(r"missing required field `(\w+)`")
_TYPE = re.compile(r"Expected `([^`]+)`")
_PATH = re.compile(r" - at `\$(.*)`$")


def _location(text: str) -> str:
    found = _PATH.search(text)
    parts = [p for p in re.split(r"[.\[\]]+", found.group(1)) if p] if found else []
    return ", ".join(p if p.isdigit() else repr(p) for p in ["body", *parts])


def _validation_text(text: str, body: bytes) -> str:
    missing = _MISSING.search(text)
    if missing:
        given = repr(json.loads(body))[:ECHOED_CHARACTERS_MAX]
        return (
            f"[{{'type': 'missing', 'loc': ('body', '{missing.group(1)}'), "
            f"'msg': 'Field required', 'input': {given}}}]"
        )
    kind, message = "value_error", text.split(" - at ")[0].replace("'", "`")
    expected = _TYPE.search(text)
    if expected:
        wanted = expected.group(1).split(" | ")[0]
        for name, error, words in _EXPECTED:
            if wanted == name:
                kind, message = error, words
                if "got `str`" in text and name in _PARSED:
                    kind = f"{name}_parsing"
                    message = f"{words}, unable to parse string as {_PARSED[name]}"
    location = _location(text)
    if location == "'body'":
        location = "'body',"
    return f"[{{'type': '{kind}', 'loc': ({location}), 'msg': '{message}'}}]"


def _json_text(body: bytes) -> str:
    """The standard library words the error, because FastAPI uses its parser."""
    at, reason = 0, "Invalid JSON"
    try:
        json.loads(body)
    except json.JSONDecodeError as error:
        at, reason = error.pos, error.msg
    except (UnicodeDecodeError, RecursionError):
        pass
    return (
        f"[{{'type': 'json_invalid', 'loc': ('body', {at}), 'msg': 'JSON decode error', "
        f"'input': {{}}, 'ctx': {{'error': '{reason}'}}}}]"
    )


def check_sampling(request: Sampling) -> None:
    """The ranges that vLLM's SamplingParams refuses, in its words."""
    if request.n is not None and request.n < 1:
        raise ApiError(f"n must be at least 1, got {request.n}.")
    if request.n is not None and request.n > CHOICES_MAX:
        raise ApiError(f"n must be at most {CHOICES_MAX}, got {request.n}.")
    if request.temperature is not None and request.temperature < 0.0:
        raise ApiError(f"temperature must be non-negative, got {request.temperature}.")
    if request.top_p is not None and not 0.0 < request.top_p <= 1.0:
        raise ApiError(f"top_p must be in (0, 1], got {request.top_p}.")
    for name in ("presence_penalty", "frequency_penalty"):
        value = getattr(request, name)
        if value is not None and not -2.0 <= value <= 2.0:
            raise ApiError(f"{name} must be in [-2, 2], got {value}.")
    if request.stream_options is not None and not request.stream:
        raise ApiError(
            "Stream options can only be defined when `stream=True`.", param="stream_options"
        )
    if request.cache_salt == "":
        raise ApiError("Parameter 'cache_salt' must be a non-empty string if provided.")


def stop_texts(stop: str | list[str] | None) -> tuple[str, ...]:
    """Stop strings; an empty one is refused as vLLM does."""
    texts = (stop,) if isinstance(stop, str) else tuple(stop or ())
    if "" in texts:
        raise ApiError("stop cannot contain an empty string.")
    return texts
