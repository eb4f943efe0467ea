"""POST /v1/chat/completions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from inferway.simulator import tokenizer
from inferway.simulator.answers import Answer, answer
from inferway.simulator.completions import LOGPROBS_MAX, frame, prompt_of, with_stop
from inferway.simulator.errors import ApiError, invalid_body
from inferway.simulator.generation import Choice, Generation
from inferway.simulator.http import Exchange
from inferway.simulator.logprobs import chat_logprobs
from inferway.simulator.requests import ChatRequest, check_sampling, stop_texts
from inferway.simulator.responses import (
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatCompletion,
    ChatDelta,
    ChatFirstChoice,
    ChatFirstChunk,
    ChatLastChoice,
    ChatLogprobs,
    ChatMessage,
    ChatRoleDelta,
    UsageChunk,
)

if TYPE_CHECKING:
    from inferway.simulator.app import App

_ROLE = "assistant"
_CHUNK = "chat.completion.chunk"


def handle(app: App, exchange: Exchange) -> None:
    """Answers one request. Raises ApiError."""
    request = app.decoder.decode(ChatRequest, exchange.body, exchange.header(b"content-type"))
    check_sampling(request)
    _check(request)
    model, adapter = app.models.resolve(request.model)
    plain = not app.continuous_usage(request.stream_options)
    generation = Generation(app, exchange, ChatShape(request, plain=plain), model)
    generation.id = app.request_id(b"chatcmpl-", exchange, request.request_id)
    text = render(request.messages, generation_prompt=request.add_generation_prompt is not False)
    prompt = prompt_of(text, app.options.max_model_len)
    generation.prompts = [prompt]
    generation.choices_per_prompt = request.n or 1
    limit = request.max_completion_tokens
    if limit is None:
        limit = request.max_tokens
    if limit is not None and limit < 1:
        raise ApiError(f"max_tokens must be at least 1, got {limit}.", param="max_tokens")
    app.check_length(len(prompt.tokens), limit or 0, "max_tokens")
    stop = stop_texts(request.stop)
    question = last_question(request.messages)
    room = app.options.max_model_len - len(prompt.tokens)
    answers = []
    for index in range(generation.choices_per_prompt):
        plan = _answer(question, index, limit, stop)
        if len(plan.tokens) > room:
            plan = _answer(question, index, room, stop)
        answers.append(with_stop(plan) if request.include_stop_str_in_output else plan)
    app.set_stream(generation, request.stream, request.stream_options)
    generation.start(answers, adapter, request.cache_salt or "")


def _answer(question: str, choice: int, limit: int | None, stop: tuple[str, ...]) -> Answer:
    """An answer without the blank before its first word, which continues a text."""
    plan = answer(question, choice, limit, stop)
    first = plan.pieces[0]
    if not first.startswith(" "):
        return plan
    tokens = (tokenizer.piece_id(tokenizer.decode_one(plan.tokens[0])[1:]), *plan.tokens[1:])
    pieces = (first[1:], *plan.pieces[1:])
    return msgspec.structs.replace(plan, tokens=tokens, pieces=pieces, text=plan.text[1:])


def _check(request: ChatRequest) -> None:
    if not request.messages:
        raise ApiError("messages must not be empty.", param="messages")
    if request.top_logprobs:
        if request.top_logprobs < 0:
            raise ApiError("`top_logprobs` must be a positive value.", param="top_logprobs")
        if not request.logprobs:
            raise ApiError(
                "when using `top_logprobs`, `logprobs` must be set to true.", param="top_logprobs"
            )
        if request.top_logprobs > LOGPROBS_MAX:
            raise ApiError(
                f"Requested sample logprobs of {request.top_logprobs}, which is greater than max "
                f"allowed: {LOGPROBS_MAX}"
            )


def content_text(content: Any) -> str:
    """The text of a message, whose content is a text or a list of parts."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        texts = []
        for part in content:
            if isinstance(part, str):
                texts.append(part)
            elif isinstance(part, dict) and isinstance(part.get("text"), str):
                texts.append(part["text"])
            elif not isinstance(part, dict):
                raise _bad_content()
        return "\n".join(texts)
    raise _bad_content()


def _bad_content() -> ApiError:
    return invalid_body(
        "[{'type': 'string_type', 'loc': ('body', 'messages', 'content'), "
        "'msg': 'Input should be a valid string'}]"
    )


def render(messages: list[dict[str, Any]], *, generation_prompt: bool) -> str:
    """The messages in the ChatML template that Qwen models use."""
    parts = []
    for number, message in enumerate(messages):
        role = message.get("role")
        if not isinstance(role, str):
            raise invalid_body(
                f"[{{'type': 'missing', 'loc': ('body', 'messages', {number}, 'role'), "
                "'msg': 'Field required'}]"
            )
        parts.append(f"<|im_start|>{role}\n{content_text(message.get('content'))}<|im_end|>\n")
    if generation_prompt:
        parts.append(f"<|im_start|>{_ROLE}\n")
    return "".join(parts)


def last_question(messages: list[dict[str, Any]]) -> str:
    """What the answer depends on: the last message of the user."""
    for message in reversed(messages):
        if message.get("role") == "user":
            return content_text(message.get("content"))
    return content_text(messages[-1].get("content"))


class ChatShape:
    """Chats as vLLM writes them."""

    def __init__(self, request: ChatRequest, *, plain: bool) -> None:
        self._request = request
        self._plain = plain and not request.logprobs and not request.return_token_ids

    def whole(self, generation: Generation) -> bytes:
        ids = bool(self._request.return_token_ids)
        choices = []
        for choice in generation.choices:
            plan = choice.answer
            message = ChatMessage(_ROLE, plan.text, None, None, None, None, [], None)
            choices.append(
                ChatChoice(
                    choice.index,
                    message,
                    self._logprobs(choice, 0, len(plan.tokens)),
                    plan.finish_reason,
                    plan.stop_reason,
                    list(plan.tokens) if ids else None,
                )
            )
        return msgspec.json.encode(
            ChatCompletion(
                generation.id,
                "chat.completion",
                generation.created,
                generation.model,
                choices,
                None,
                None,
                generation.usage(),
                None,
                list(generation.prompts[0].tokens) if ids else None,
                self._request.kv_transfer_params,
            )
        )

    def opening(self, generation: Generation) -> bytes:
        events = []
        for choice in generation.choices:
            first = ChatFirstChoice(choice.index, ChatRoleDelta(_ROLE, ""), None, None)
            chunk = ChatFirstChunk(
                generation.id, _CHUNK, generation.created, generation.model, [first]
            )
            if generation.continuous_usage:
                chunk.usage = generation.usage_so_far(choice, 0)
            events.append(b"data: %s\n\n" % msgspec.json.encode(chunk))
        return b"".join(events)

    def chunk(self, generation: Generation, choice: Choice, begin: int, end: int) -> bytes:
        pieces = choice.answer.pieces
        events = []
        for index in range(begin, end):
            text = pieces[index]
            if self._plain and 0 < index < len(pieces) - 1:
                # In the middle of a stream only the text differs from event to event.
                if choice.frame is None:
                    choice.frame = frame(self._event(generation, choice, "", index))
                events.append(choice.frame[0] + msgspec.json.encode(text) + choice.frame[1])
                continue
            events.append(self._event(generation, choice, text, index))
        return b"".join(events)

    def _event(self, generation: Generation, choice: Choice, text: str, index: int) -> bytes:
        plan = choice.answer
        ids = bool(self._request.return_token_ids)
        delta = ChatDelta(text)
        logprobs = self._logprobs(choice, index, index + 1)
        tokens = [plan.tokens[index]] if ids else None
        item: ChatChunkChoice | ChatLastChoice
        if index + 1 == len(plan.tokens):
            item = ChatLastChoice(
                choice.index, delta, logprobs, plan.finish_reason, plan.stop_reason, tokens
            )
        else:
            item = ChatChunkChoice(choice.index, delta, logprobs, None, tokens)
        body = ChatChunk(generation.id, _CHUNK, generation.created, generation.model, [item])
        if generation.continuous_usage:
            body.usage = generation.usage_so_far(choice, index + 1)
        return b"data: %s\n\n" % msgspec.json.encode(body)

    def usage(self, generation: Generation) -> bytes:
        return b"data: %s\n\n" % msgspec.json.encode(
            UsageChunk(
                generation.id,
                _CHUNK,
                generation.created,
                generation.model,
                [],
                generation.stream_usage(),
            )
        )

    def _logprobs(self, choice: Choice, begin: int, end: int) -> ChatLogprobs | None:
        if not self._request.logprobs:
            return None
        return chat_logprobs(choice.answer, begin, end, self._request.top_logprobs or 0)
