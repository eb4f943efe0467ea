"""Calls that compute on texts: score, rerank, pooling, classify.

Texts that share pieces are near each other. Every model may do it here, while vLLM wants one of
the right kind.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec

from inferway.simulator import chat
from inferway.simulator.completions import prompt_of, prompts_of
from inferway.simulator.errors import ApiError
from inferway.simulator.generation import Prompt
from inferway.simulator.http import Exchange
from inferway.simulator.other_api import EMBEDDING_DIMENSIONS, embed
from inferway.simulator.requests import PoolingRequest, RerankRequest, ScoreRequest
from inferway.simulator.responses import Usage
from inferway.simulator.sampling import output_limit

if TYPE_CHECKING:
    from inferway.simulator.app import App

LABELS = ("LABEL_0", "LABEL_1")


def score(app: App, exchange: Exchange) -> None:
    """One text with many, many with one, or in pairs. Raises ApiError."""
    request = app.decoder.decode(ScoreRequest, exchange.body, exchange.header(b"content-type"))
    model, _ = app.models.resolve(request.model)
    if request.first is None or request.second is None:
        app.decoder.refuse(ScoreRequest, exchange.body)
    first, second = _texts(request.first), _texts(request.second)
    if len(first) > 1 and len(first) != len(second):
        raise ApiError("Input lengths must be either 1:1, 1:N or N:N")
    if not first:
        raise ApiError("At least one text element must be given")
    if not second:
        raise ApiError("At least one text_pair element must be given")
    if len(first) == 1:
        first *= len(second)
    pairs = [_pair(app, a, b) for a, b in zip(first, second, strict=True)]
    data = [
        {"index": index, "object": "score", "score": _similarity(*pair)}
        for index, pair in enumerate(pairs)
    ]
    _respond(app, exchange, b"score-", model, data, [p for pair in pairs for p in pair])


def rerank(app: App, exchange: Exchange) -> None:
    """Documents by how near they are to a query. Raises ApiError."""
    request = app.decoder.decode(RerankRequest, exchange.body, exchange.header(b"content-type"))
    model, _ = app.models.resolve(request.model)
    documents = _texts(request.documents)
    (query,) = _texts(request.query)
    pairs = [_pair(app, query, document) for document in documents]
    results = [
        {
            "index": index,
            "document": {"text": document, "multi_modal": None},
            "relevance_score": _similarity(*pair),
        }
        for index, (document, pair) in enumerate(zip(documents, pairs, strict=True))
    ]
    results.sort(key=_relevance, reverse=True)
    count = sum(len(prompt.tokens) for pair in pairs for prompt in pair)
    app.metrics.prompt_tokens += count
    body = {
        "id": app.request_id(b"score-", exchange, None),
        "model": model,
        "usage": {"prompt_tokens": count, "total_tokens": count},
        "results": results[: request.top_n or None],
    }
    exchange.respond(200, msgspec.json.encode(body))


def pooling(app: App, exchange: Exchange) -> None:
    """A vector for each text. Raises ApiError."""
    model, prompts = _pooled(app, exchange)
    data = [
        {
            "index": index,
            "object": "pooling",
            "data": embed(prompt.tokens, EMBEDDING_DIMENSIONS),
        }
        for index, prompt in enumerate(prompts)
    ]
    _respond(app, exchange, b"pooling-", model, data, prompts)


def classify(app: App, exchange: Exchange) -> None:
    """One of two classes for each text. Raises ApiError."""
    model, prompts = _pooled(app, exchange)
    data = []
    for index, prompt in enumerate(prompts):
        share = 1 / (1 + math.exp(-4 * embed(prompt.tokens, EMBEDDING_DIMENSIONS)[0]))
        label = LABELS[share > 0.5]
        probs = [1 - share, share]
        data.append({"index": index, "label": label, "probs": probs, "num_classes": len(LABELS)})
    _respond(app, exchange, b"classify-", model, data, prompts)


def _pooled(app: App, exchange: Exchange) -> tuple[str, list[Prompt]]:
    request = app.decoder.decode(PoolingRequest, exchange.body, exchange.header(b"content-type"))
    model, _ = app.models.resolve(request.model)
    length = app.options.max_model_len
    if request.messages is not None:
        text = chat.render(request.messages, model, generation_prompt=False)
        return model, [_fitting(prompt_of(text, length), length)]
    prompts = prompts_of(request.input, length) if request.input is not None else None
    if prompts is None:
        app.decoder.refuse(PoolingRequest, exchange.body)
    return model, [_fitting(prompt, length) for prompt in prompts]


def _fitting(prompt: Prompt, length: int) -> Prompt:
    output_limit(0, len(prompt.tokens), length)
    return prompt


def _pair(app: App, first: str, second: str) -> tuple[Prompt, Prompt]:
    length = app.options.max_model_len
    pair = prompt_of(first, length), prompt_of(second, length)
    output_limit(0, sum(len(prompt.tokens) for prompt in pair), length)
    return pair


def _similarity(first: Prompt, second: Prompt) -> float:
    a, b = (embed(prompt.tokens, EMBEDDING_DIMENSIONS) for prompt in (first, second))
    return sum(x * y for x, y in zip(a, b, strict=True))


def _relevance(result: dict[str, Any]) -> float:
    value: float = result["relevance_score"]
    return value


def _texts(value: Any) -> list[str]:
    """A text, texts, or contents of parts as texts. Raises ApiError."""
    found = []
    for one in value if isinstance(value, list) else [value]:
        content = one.get("content") if isinstance(one, dict) else one
        text = chat.content_text(content)
        if text is None:
            raise ApiError("Input should be a valid string", kind="Bad Request", param="body")
        found.append(text)
    return found


def _respond(
    app: App,
    exchange: Exchange,
    prefix: bytes,
    model: str,
    data: list[dict[str, Any]],
    prompts: list[Prompt],
) -> None:
    count = sum(len(prompt.tokens) for prompt in prompts)
    app.metrics.prompt_tokens += count
    body = {
        "id": app.request_id(prefix, exchange, None),
        "object": "list",
        "created": app.wall_second(),
        "model": model,
        "data": data,
        "usage": Usage(count, count, 0, None),
    }
    exchange.respond(200, msgspec.json.encode(body))
