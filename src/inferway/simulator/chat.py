"""POST /v1/chat/completions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from inferway.simulator import sampling, tokenizer
from inferway.simulator.answers import Answer, answer
from inferway.simulator.completions import frame, prompt_of, with_stop
from inferway.simulator.errors import ApiError
from inferway.simulator.generation import DONE, Choice, Generation
from inferway.simulator.http import Exchange
from inferway.simulator.logprobs import chat_logprobs
from inferway.simulator.requests import SEQUENCES_MAX, ChatRequest
from inferway.simulator.responses import (
    FINGERPRINT,
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
    ContinuousUsage,
    UsageChunk,
)
from inferway.simulator.validation import Finding, report

if TYPE_CHECKING:
    from inferway.simulator.app import App

_ROLE = "assistant"
_CHUNK = "chat.completion.chunk"


def handle(app: App, exchange: Exchange) -> None:
    """Answers one request. Raises ApiError."""
    request = app.decoder.decode(ChatRequest, exchange.body, exchange.header(b"content-type"))
    sampling.check_chat(request)
    model, adapter = app.models.resolve(request.model)
    sampling.check_tools(request)
    if not request.messages:
        raise ApiError(
            "Cannot apply chat template to an empty conversation. Provide at least one message."
        )
    plain = not app.continuous_usage(request.stream_options)
    generation = Generation(app, exchange, ChatShape(request, plain=plain), model)
    generation.id = app.request_id(b"chatcmpl-", exchange, request.request_id)
    text = render(request.messages, model, generation_prompt=request.add_generation_prompt)
    length = app.options.max_model_len
    prompt = prompt_of(text, length)
    generation.prompts = [prompt]
    generation.choices_per_prompt = request.n
    answers = _answers(request, len(prompt.tokens), length)
    app.set_stream(generation, request.stream, request.stream_options)
    generation.start(answers, adapter, request.salt)


def _answers(request: ChatRequest, prompt: int, length: int) -> list[Answer]:
    """What is said to a conversation of ``prompt`` tokens. Raises ApiError."""
    wanted = request.max_completion_tokens
    if wanted is None:
        wanted = request.max_tokens
    limit = sampling.output_limit(wanted, prompt, length)
    sampling.check_sampling(request, limit, request.top_logprobs)
    if request.n > SEQUENCES_MAX:
        raise ApiError(f"n must be at most {SEQUENCES_MAX}.", param="n")
    return [conversation_answer(request, index, limit) for index in range(request.n)]


def conversation_answer(request: ChatRequest, index: int, limit: int) -> Answer:
    """Choice ``index`` of what is said to a conversation, at most ``limit`` tokens."""
    stop = sampling.stop_texts(request)
    question = last_question(request.messages)
    bounded = request.max_completion_tokens or request.max_tokens or request.ignore_eos
    plan = _answer(question, index, limit if bounded else None, stop)
    if len(plan.tokens) > limit:
        plan = _answer(question, index, limit, stop)
    return with_stop(plan) if request.include_stop_str_in_output else plan


def _answer(question: str, choice: int, limit: int | None, stop: tuple[str, ...]) -> Answer:
    """An answer without the blank before its first word, which continues a text."""
    plan = answer(question, choice, limit, stop)
    first = plan.pieces[0]
    if not first.startswith(" "):
        return plan
    tokens = (tokenizer.piece_id(tokenizer.decode_one(plan.tokens[0])[1:]), *plan.tokens[1:])
    pieces = (first[1:], *plan.pieces[1:])
    return msgspec.structs.replace(plan, tokens=tokens, pieces=pieces, text=plan.text[1:])


def content_text(content: Any, model: str = "") -> str | None:
    """The text of a message, whose content is a text or a list of parts; None for anything else.

    Raises ApiError for parts that a language model cannot take.
    """
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return None
    texts = []
    for part in content:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, dict) and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif isinstance(part, dict) and isinstance(part.get("type"), str):
            if part["type"].partition("_")[0] in ("image", "video", "audio", "input"):
                raise ApiError(f"{model} is not a multimodal model")
            raise ApiError(f"Unknown part type: {part['type']}")
        else:
            return None
    return "\n".join(texts)


def render(messages: list[dict[str, Any]], model: str, *, generation_prompt: bool) -> str:
    """The messages in the ChatML template that Qwen models use. Raises ApiError."""
    parts = []
    for number, message in enumerate(messages):
        role = message.get("role")
        text = content_text(message.get("content"), model)
        if not isinstance(role, str) or text is None:
            raise _bad_message(number, message, role)
        parts.append(f"<|im_start|>{role}\n{text}<|im_end|>\n")
    if generation_prompt:
        parts.append(f"<|im_start|>{_ROLE}\n")
    return "".join(parts)


def _bad_message(number: int, message: dict[str, Any], role: object) -> ApiError:
    place = ("body", "messages", str(number))
    if not isinstance(role, str):
        finding = Finding("missing", (*place, "role"), "Field required", message)
    else:
        words = "Input should be a valid string"
        finding = Finding("string_type", (*place, "content"), words, message["content"])
    return ApiError(report([finding]), kind="Bad Request", param=".".join(finding.place))


def last_question(messages: list[dict[str, Any]]) -> str:
    """What the answer depends on: the last message of the user."""
    for message in reversed(messages):
        if message.get("role") == "user":
            return content_text(message.get("content")) or ""
    return content_text(messages[-1].get("content")) or ""


def _usage(generation: Generation, choice: Choice, tokens: int) -> ContinuousUsage | None:
    """The usage in an event after ``tokens`` of a choice, where each event has one."""
    if not generation.continuous_usage:
        return None
    prompt = len(choice.prompt.tokens)
    return ContinuousUsage(prompt, prompt + tokens, tokens)


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
            message = ChatMessage(_ROLE, plan.text, None, None, None, None, None)
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
                FINGERPRINT,
                generation.usage(),
                None,
                list(generation.prompts[0].tokens) if ids else None,
                None,
                None,
            )
        )

    def opening(self, generation: Generation) -> bytes:
        events = []
        for choice in generation.choices:
            first = ChatFirstChoice(choice.index, ChatRoleDelta(_ROLE, ""), None, None)
            chunk = ChatFirstChunk(
                generation.id,
                _CHUNK,
                generation.created,
                generation.model,
                [first],
                _usage(generation, choice, 0) or msgspec.UNSET,
                list(choice.prompt.tokens) if self._request.return_token_ids else None,
                None,
            )
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
        last = index + 1 == len(plan.tokens)
        body = ChatChunk(
            generation.id,
            _CHUNK,
            generation.created,
            generation.model,
            [item],
            _usage(generation, choice, index + 1),
            FINGERPRINT if last and not generation.include_usage else None,
        )
        return b"data: %s\n\n" % msgspec.json.encode(body)

    def ending(self, generation: Generation) -> bytes:
        if not generation.include_usage:
            return DONE
        return b"data: %s\n\n%s" % (
            msgspec.json.encode(
                UsageChunk(
                    generation.id,
                    _CHUNK,
                    generation.created,
                    generation.model,
                    [],
                    generation.stream_usage(),
                    FINGERPRINT,
                )
            ),
            DONE,
        )

    def _logprobs(self, choice: Choice, begin: int, end: int) -> ChatLogprobs | None:
        if not self._request.logprobs:
            return None
        return chat_logprobs(choice.answer, begin, end, self._request.top_logprobs or 0)
