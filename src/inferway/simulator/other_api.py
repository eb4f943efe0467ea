"""The small endpoints: models, tokens, embeddings, health, version, load, metrics."""

from __future__ import annotations

from base64 import b64encode
from itertools import pairwise
from struct import pack
from typing import TYPE_CHECKING
from uuid import uuid4

import msgspec
import xxhash

from inferway.simulator import chat, tokenizer
from inferway.simulator.completions import prompts_of
from inferway.simulator.errors import ApiError
from inferway.simulator.http import Exchange
from inferway.simulator.metrics import process_metrics
from inferway.simulator.options import Options
from inferway.simulator.process import process_values
from inferway.simulator.requests import DetokenizeRequest, EmbeddingRequest, TokenizeRequest
from inferway.simulator.responses import (
    Detokenized,
    EmbeddingItem,
    Embeddings,
    ModelCard,
    ModelList,
    ModelPermission,
    Tokenized,
    Usage,
)
from inferway.simulator.sampling import output_limit

if TYPE_CHECKING:
    from inferway.simulator.app import App

# The vLLM version whose surface is imitated.
VLLM_VERSION = "0.32.0"
EMBEDDING_DIMENSIONS = 64
EMBEDDING_DIMENSIONS_MAX = 4096
_METRICS_TYPE = b"text/plain; version=1.0.0; charset=utf-8"
_OTHER_METRICS_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


def health(app: App, exchange: Exchange) -> None:
    """200 with an empty body while the engine lives."""
    exchange.respond(200, b"", b"")


def version(app: App, exchange: Exchange) -> None:
    exchange.respond(200, msgspec.json.encode({"version": VLLM_VERSION}))


def load(app: App, exchange: Exchange) -> None:
    """Requests that are being served."""
    exchange.respond(200, msgspec.json.encode({"server_load": app.in_flight}))


def models(app: App, exchange: Exchange) -> None:
    """Base names first, adapters with their parent after them."""
    options = app.options
    created = app.wall_second()

    def card(name: str, root: str, parent: str | None, length: int | None) -> ModelCard:
        permission = ModelPermission(f"modelperm-{uuid4().hex}", "model_permission", created)
        return ModelCard(name, "model", created, "vllm", root, parent, length, [permission])

    cards = [
        card(name, options.model, None, options.max_model_len) for name in app.models.base_names
    ]
    cards += [
        card(module.name, module.path, module.base_model_name or app.models.base_names[0], None)
        for module in app.models.adapters.values()
    ]
    exchange.respond(200, msgspec.json.encode(ModelList("list", cards)))


def tokenize(app: App, exchange: Exchange) -> None:
    """Raises ApiError."""
    request = app.decoder.decode(TokenizeRequest, exchange.body, exchange.header(b"content-type"))
    app.models.resolve(request.model)
    if request.messages is not None:
        text = chat.render(
            request.messages,
            app.models.base_names[0],
            generation_prompt=request.add_generation_prompt is not False,
        )
    elif request.prompt is not None:
        text = request.prompt
    else:
        app.decoder.refuse(TokenizeRequest, exchange.body)
    tokens = list(tokenizer.encode(text))
    strings = tokenizer.pieces(text) if request.return_token_strs else None
    body = Tokenized(len(tokens), app.options.max_model_len, tokens, strings)
    exchange.respond(200, msgspec.json.encode(body))


def detokenize(app: App, exchange: Exchange) -> None:
    """Raises ApiError."""
    request = app.decoder.decode(DetokenizeRequest, exchange.body, exchange.header(b"content-type"))
    app.models.resolve(request.model)
    exchange.respond(200, msgspec.json.encode(Detokenized(tokenizer.decode(request.tokens))))


def embeddings(app: App, exchange: Exchange) -> None:
    """Unit vectors made of the text's pieces: equal texts are equal, related ones are near.

    Raises ApiError.
    """
    request = app.decoder.decode(EmbeddingRequest, exchange.body, exchange.header(b"content-type"))
    if not request.input:
        raise ApiError("input must not be empty.", param="input")
    if request.encoding_format not in (None, "float", "base64"):
        raise ApiError("encoding_format must be 'float' or 'base64'.", param="encoding_format")
    size = request.dimensions or EMBEDDING_DIMENSIONS
    if not 1 <= size <= EMBEDDING_DIMENSIONS_MAX:
        raise ApiError(f"dimensions must be in [1, {EMBEDDING_DIMENSIONS_MAX}], got {size}.")
    model, _ = app.models.resolve(request.model)
    prompts = prompts_of(request.input, app.options.max_model_len)
    data = []
    if prompts is None:
        app.decoder.refuse(EmbeddingRequest, exchange.body)
    for index, prompt in enumerate(prompts):
        output_limit(0, len(prompt.tokens), app.options.max_model_len)
        vector = embed(prompt.tokens, size)
        encoded: list[float] | str = vector
        if request.encoding_format == "base64":
            encoded = b64encode(pack(f"<{size}f", *vector)).decode()
        data.append(EmbeddingItem(index, "embedding", encoded))
    count = sum(len(prompt.tokens) for prompt in prompts)
    app.metrics.prompt_tokens += count
    identity = app.request_id(b"embd-", exchange, None)
    body = Embeddings(
        identity, "list", app.wall_second(), model, data, Usage(count, count, 0, None)
    )
    exchange.respond(200, msgspec.json.encode(body))


def embed(tokens: tuple[int, ...], size: int) -> list[float]:
    """Hashing trick over tokens and pairs of tokens, normalised."""
    vector = [0.0] * size
    for feature in (*((token,) for token in tokens), *pairwise(tokens)):
        digest = xxhash.xxh3_64_intdigest(pack(f"<{len(feature)}Q", *feature))
        vector[digest % size] += 1.0 if digest >> 63 else -1.0
    norm = sum(value * value for value in vector) ** 0.5
    if norm == 0.0:
        vector[0] = norm = 1.0
    return [value / norm for value in vector]


def cache_info(options: Options) -> dict[str, str]:
    """The labels of vllm:cache_config_info; most say what this engine never has."""
    config = options.engine
    tokens = config.blocks * config.block_size_tokens
    unset = "None"
    return {
        "_block_size_resolved": "True",
        "block_size": str(config.block_size_tokens),
        "cache_dtype": options.kv_cache_dtype,
        "cache_hit_alignment_tokens": unset,
        "effective_attention_block_size": str(config.block_size_tokens),
        "enable_mamba_shared_prefix_checkpoint": "False",
        "enable_prefix_caching": str(config.prefix_caching),
        "engine": "0",
        "gpu_memory_utilization": str(options.gpu_memory_utilization),
        "hash_block_size": unset,
        "is_attention_free": "False",
        "kv_cache_dtype_skip_layers": "[]",
        "kv_cache_layout": unset,
        "kv_cache_max_concurrency": str(tokens / options.max_model_len),
        "kv_cache_memory_bytes": str(tokens * options.profile.kv_token_bytes),
        "kv_cache_size_tokens": str(tokens),
        "kv_offloading_backend": "native",
        "kv_offloading_size": unset,
        "kv_sharing_fast_prefill": "False",
        "mamba_block_size": unset,
        "mamba_cache_dtype": "auto",
        "mamba_cache_mode": "none",
        "mamba_page_size_padded": unset,
        "mamba_ssm_cache_dtype": "auto",
        "num_cpu_blocks": unset,
        "num_gpu_blocks": str(config.blocks),
        "num_gpu_blocks_override": unset,
        "prefix_cache_retention_interval": "0",
        "prefix_caching_hash_algo": "sha256",
        "prefix_match_unit": unset,
        "replayssm_buffer_len": "16",
        "skip_page_size_padded": unset,
        "sliding_window": unset,
        "swa_bounded_replay": "True",
        "use_kda_recoverssm": "False",
        "use_replayssm": "False",
        "user_specified_block_size": str(options.block_size_given),
    }


def metrics(app: App, exchange: Exchange) -> None:
    """The exposition of vLLM's families and of the process."""
    options = app.options
    config = options.engine
    info = cache_info(options)
    lora_max = config.adapters_device_max if options.lora_enabled else 0
    text = process_metrics(*process_values(app.started_wall))
    text += app.metrics.render(app.engine.stats(), lora_max, info)
    # A scrape is a GET; vLLM answers other methods by another program with an older type.
    kind = _METRICS_TYPE if exchange.method == "GET" else _OTHER_METRICS_TYPE
    exchange.respond(200, text.encode(), kind)
