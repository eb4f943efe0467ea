"""Anthropic's messages as vLLM serves them: texts in, one message out, whole or as named events.

Tools and thinking are not imitated. Errors behind the decoding of the body have Anthropic's shape.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from inferway.simulator import chat, sampling
from inferway.simulator.completions import prompt_of
from inferway.simulator.errors import ApiError
from inferway.simulator.generation import Choice, Generation, Prompt
from inferway.simulator.http import Exchange
from inferway.simulator.requests import ChatRequest, CountTokensRequest, MessagesRequest

if TYPE_CHECKING:
    from inferway.simulator.app import App

_TEXT = "text"


def messages(app: App, exchange: Exchange) -> None:
    """POST /v1/messages. Raises ApiError."""
    _in_its_words(exchange, lambda: _messages(app, exchange))


def count_tokens(app: App, exchange: Exchange) -> None:
    """POST /v1/messages/count_tokens. Raises ApiError."""
    kind = exchange.header(b"content-type")
    request = app.decoder.decode(CountTokensRequest, exchange.body, kind)

    def answer() -> None:
        count = len(_prompt(app, request, app.models.resolve(request.model)[0]).tokens)
        body = {"input_tokens": count, "context_management": {"original_input_tokens": count}}
        exchange.respond(200, msgspec.json.encode(body))

    _in_its_words(exchange, answer)


def _in_its_words(exchange: Exchange, work: Callable[[], None]) -> None:
    """Errors of a body's fields come before the call is known, and are vLLM's own."""
    try:
        work()
    except ApiError as error:
        if error.kind == "Bad Request":
            raise
        told = {"type": "error", "error": {"type": error.kind, "message": error.message}}
        exchange.respond(error.status, msgspec.json.encode(told))


def _messages(app: App, exchange: Exchange) -> None:
    kind = exchange.header(b"content-type")
    request = app.decoder.decode(MessagesRequest, exchange.body, kind)
    if request.max_tokens <= 0:
        raise ApiError("max_tokens must be positive", kind="Bad Request", param="body.max_tokens")
    model, adapter = app.models.resolve(request.model)
    prompt = _prompt(app, request, model)
    asked = ChatRequest(
        messages=request.messages,
        max_tokens=request.max_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        stop=request.stop_sequences,
    )
    length = app.options.max_model_len
    limit = sampling.output_limit(request.max_tokens, len(prompt.tokens), length)
    sampling.check_sampling(asked, limit, None)
    generation = Generation(app, exchange, MessageShape(), model)
    generation.id = app.request_id(b"chatcmpl-", exchange, None)
    generation.prompts = [prompt]
    generation.stream = bool(request.stream)
    generation.start([chat.conversation_answer(asked, 0, limit)], adapter, request.cache_salt or "")


def _prompt(app: App, request: MessagesRequest | CountTokensRequest, model: str) -> Prompt:
    said = list(request.messages)
    if request.system:
        said.insert(0, {"role": "system", "content": request.system})
    if not request.messages:
        raise ApiError(
            "Cannot apply chat template to an empty conversation. Provide at least one message."
        )
    return prompt_of(chat.render(said, model, generation_prompt=True), app.options.max_model_len)


class MessageShape:
    """Messages as vLLM writes them."""

    def whole(self, generation: Generation) -> bytes:
        (choice,) = generation.choices
        reason, stopped = _stop(choice)
        body = {
            "id": generation.id,
            "type": "message",
            "role": "assistant",
            "content": [{"type": _TEXT, "text": choice.answer.text}],
            "model": generation.model,
            "stop_reason": reason,
        }
        if stopped is not None:
            body["stop_sequence"] = stopped
        return msgspec.json.encode(body | {"usage": self._usage(generation, None)})

    def opening(self, generation: Generation) -> bytes:
        message: dict[str, Any] = {
            "id": generation.id,
            "type": "message",
            "role": "assistant",
            "content": [],
            "model": generation.model,
            "stop_reason": None,
            "stop_sequence": None,
            "usage": self._usage(generation, 0),
        }
        block = {"type": _TEXT, "text": ""}
        return _event("message_start", message=message) + _event(
            "content_block_start", content_block=block, index=0
        )

    def chunk(self, generation: Generation, choice: Choice, begin: int, end: int) -> bytes:
        return b"".join(
            _event("content_block_delta", delta={"type": "text_delta", "text": piece}, index=0)
            for piece in choice.answer.pieces[begin:end]
        )

    def ending(self, generation: Generation) -> bytes:
        reason, stopped = _stop(generation.choices[0])
        delta = {"stop_reason": reason, "stop_sequence": stopped}
        usage = self._usage(generation, None)
        return b"".join(
            (
                _event("content_block_stop", index=0),
                _event("message_delta", delta=delta, usage=usage),
                _event("message_stop"),
            )
        )

    def _usage(self, generation: Generation, said: int | None) -> dict[str, int]:
        """Anthropic counts what came from the cache apart from the rest of the input."""
        usage = generation.usage()
        cached = usage.prompt_tokens_details
        hit = cached.cached_tokens or 0 if cached is not None else 0
        told = {
            "input_tokens": usage.prompt_tokens - hit,
            "output_tokens": usage.completion_tokens if said is None else said,
        }
        if cached is not None:
            told |= {"cache_creation_input_tokens": 0, "cache_read_input_tokens": hit}
        return told


def _stop(choice: Choice) -> tuple[str, str | None]:
    """Why a message ends, and at which text."""
    plan = choice.answer
    if plan.finish_reason == "length":
        return "max_tokens", None
    if isinstance(plan.stop_reason, str):
        return "stop_sequence", plan.stop_reason
    return "end_turn", None


def _event(name: str, **fields: Any) -> bytes:
    body = msgspec.json.encode({"type": name, **fields})
    return b"event: %s\ndata: %s\n\n" % (name.encode(), body)
