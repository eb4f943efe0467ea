"""POST /v1/completions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from inferway.simulator import tokenizer
from inferway.simulator.answers import Answer, answer
from inferway.simulator.errors import ApiError, invalid_body
from inferway.simulator.generation import Choice, Generation, Prompt
from inferway.simulator.http import Exchange
from inferway.simulator.logprobs import completion_logprobs
from inferway.simulator.requests import (
    PROMPTS_MAX,
    SEQUENCES_MAX,
    CompletionRequest,
    check_sampling,
    stop_texts,
)
from inferway.simulator.responses import (
    Completion,
    CompletionChoice,
    CompletionChunk,
    CompletionChunkChoice,
    CompletionLogprobs,
    UsageChunk,
)

if TYPE_CHECKING:
    from inferway.simulator.app import App


def handle(app: App, exchange: Exchange) -> None:
    """Answers one request. Raises ApiError."""
    request = app.decoder.decode(CompletionRequest, exchange.body, exchange.header(b"content-type"))
    check_sampling(request)
    _check(request)
    model, adapter = app.models.resolve(request.model)
    plain = not app.continuous_usage(request.stream_options)
    generation = Generation(app, exchange, CompletionShape(request, plain=plain), model)
    generation.id = app.request_id(b"cmpl-", exchange, request.request_id)
    generation.prompts = prompts_of(request.prompt, app.options.max_model_len)
    if request.truncate_prompt_tokens:
        generation.prompts = [_truncated(p, request) for p in generation.prompts]
    choices = request.n or 1
    if choices * len(generation.prompts) > SEQUENCES_MAX:
        raise ApiError(f"n times the number of prompts must be at most {SEQUENCES_MAX}.", param="n")
    generation.choices_per_prompt = choices
    limit = 16 if request.max_tokens is None else request.max_tokens
    if limit < 1 and not request.echo:
        raise ApiError(f"max_tokens must be at least 1, got {limit}.", param="max_tokens")
    for prompt in generation.prompts:
        app.check_length(len(prompt.tokens), limit, "max_tokens")
    stop = stop_texts(request.stop)
    answers = [
        answer(prompt.text, index, limit, stop)
        for prompt in generation.prompts
        for index in range(choices)
    ]
    if request.include_stop_str_in_output:
        answers = [with_stop(a) for a in answers]
    app.set_stream(generation, request.stream, request.stream_options)
    generation.start(answers, adapter, request.cache_salt or "")


def _check(request: CompletionRequest) -> None:
    if request.prompt is None or request.prompt in ("", []):
        raise ApiError(
            "Either prompt or prompt_embeds must be provided and non-empty.", param="prompt"
        )
    if request.logprobs is not None and request.logprobs < 0 and request.logprobs != -1:
        raise ApiError("`logprobs` must be a positive value or -1.", param="logprobs")
    if request.logprobs is not None and request.logprobs > LOGPROBS_MAX:
        raise ApiError(
            f"Requested sample logprobs of {request.logprobs}, which is greater than max allowed: "
            f"{LOGPROBS_MAX}"
        )


# vLLM's default of --max-logprobs.
LOGPROBS_MAX = 20


def prompt_of(text: str, limit: int) -> Prompt:
    """A text as a prompt. One that cannot fit ``limit`` tokens is refused before it is cut up,
    because cutting up megabytes would hold up everybody else. Raises ApiError.
    """
    least = len(text) // tokenizer.PIECE_CHARACTERS_MAX
    if least > limit:
        raise ApiError(
            f"This model's maximum context length is {limit} tokens. However, your prompt contains "
            f"at least {least} input tokens. Please reduce the length of the input prompt.",
            param="input_tokens",
        )
    return Prompt(text, tokenizer.encode(text))


def prompts_of(raw: str | list[Any] | None, limit: int) -> list[Prompt]:
    """The prompts of a request: a text, texts, token ids, or lists of token ids.

    Raises ApiError.
    """
    if isinstance(raw, str):
        return [prompt_of(raw, limit)]
    assert raw
    if all(type(item) is int for item in raw):
        return [_from_tokens(raw)]
    if len(raw) > PROMPTS_MAX:
        raise ApiError(
            f"prompt list length {len(raw)} exceeds the maximum allowed count of {PROMPTS_MAX}. "
            "To increase this limit, set the VLLM_MAX_COMPLETION_PROMPTS environment variable.",
            param="prompt",
        )
    prompts = []
    for item in raw:
        if isinstance(item, str) and item:
            prompts.append(prompt_of(item, limit))
        elif isinstance(item, list) and item and all(type(t) is int for t in item):
            prompts.append(_from_tokens(item))
        else:
            raise invalid_body(
                "[{'type': 'string_type', 'loc': ('body', 'prompt'), "
                "'msg': 'Input should be a valid string'}]"
            )
    return prompts


def _from_tokens(tokens: list[int]) -> Prompt:
    if min(tokens) < 0 or max(tokens) >= 1 << 63:
        raise ApiError(f"Token id {min(tokens)} is out of vocabulary")
    return Prompt(tokenizer.decode(tokens), tuple(tokens))


def _truncated(prompt: Prompt, request: CompletionRequest) -> Prompt:
    keep = request.truncate_prompt_tokens or 0
    if keep < 0 or keep >= len(prompt.tokens):
        return prompt
    tokens = prompt.tokens[-keep:]
    return Prompt(tokenizer.decode(tokens), tokens)


def with_stop(plan: Answer) -> Answer:
    """The same answer with the stop text left in, where one ended it."""
    if not isinstance(plan.stop_reason, str):
        return plan
    pieces = (*plan.pieces[:-1], plan.pieces[-1] + plan.stop_reason)
    return msgspec.structs.replace(plan, pieces=pieces, text=plan.text + plan.stop_reason)


def frame(event: bytes) -> tuple[bytes, bytes]:
    """What stands before and after the text in an event that was made with an empty text.

    A quote inside of a JSON string is escaped, so the pattern cannot be part of an id or a name.
    """
    before, name, after = event.partition(b'"text":""')
    if not name:
        before, name, after = event.partition(b'"content":""')
    return before + name[:-2], after


class CompletionShape:
    """Completions as vLLM writes them."""

    def __init__(self, request: CompletionRequest, *, plain: bool) -> None:
        self._request = request
        self._plain = plain and request.logprobs is None and not request.return_token_ids

    def whole(self, generation: Generation) -> bytes:
        request = self._request
        choices = []
        for choice in generation.choices:
            plan = choice.answer
            text = choice.prompt.text + plan.text if request.echo else plan.text
            ids = bool(request.return_token_ids)
            choices.append(
                CompletionChoice(
                    choice.index,
                    text,
                    self._logprobs(choice, 0, len(plan.tokens)),
                    plan.finish_reason,
                    plan.stop_reason,
                    list(plan.tokens) if ids else None,
                    None,
                    list(choice.prompt.tokens) if ids else None,
                )
            )
        return msgspec.json.encode(
            Completion(
                generation.id,
                "text_completion",
                generation.created,
                generation.model,
                choices,
                None,
                None,
                generation.usage(),
                request.kv_transfer_params,
            )
        )

    def opening(self, generation: Generation) -> bytes:
        """With nothing to generate the prompt is all there is to send; else tokens bring it."""
        return b"".join(
            self._event(generation, choice, choice.prompt.text, 0, 0)
            for choice in generation.choices
            if not choice.answer.tokens
        )

    def chunk(self, generation: Generation, choice: Choice, begin: int, end: int) -> bytes:
        pieces = choice.answer.pieces
        events = []
        for index in range(begin, end):
            text = pieces[index]
            if self._plain and 0 < index < len(pieces) - 1:
                # In the middle of a stream only the text differs from event to event.
                if choice.frame is None:
                    choice.frame = frame(self._event(generation, choice, "", index, index + 1))
                events.append(choice.frame[0] + msgspec.json.encode(text) + choice.frame[1])
                continue
            if index == 0 and self._request.echo:
                text = choice.prompt.text + text
            events.append(self._event(generation, choice, text, index, index + 1))
        return b"".join(events)

    def usage(self, generation: Generation) -> bytes:
        return b"data: %s\n\n" % msgspec.json.encode(
            UsageChunk(
                generation.id,
                "text_completion",
                generation.created,
                generation.model,
                [],
                generation.stream_usage(),
            )
        )

    def _event(
        self, generation: Generation, choice: Choice, text: str, begin: int, end: int
    ) -> bytes:
        plan = choice.answer
        last = end == len(plan.tokens)
        ids = bool(self._request.return_token_ids)
        body = CompletionChunk(
            generation.id,
            "text_completion",
            generation.created,
            generation.model,
            [
                CompletionChunkChoice(
                    choice.index,
                    text,
                    self._logprobs(choice, begin, end),
                    plan.finish_reason if last else None,
                    plan.stop_reason if last else None,
                    list(choice.prompt.tokens) if ids and begin == 0 else None,
                    list(plan.tokens[begin:end]) if ids else None,
                )
            ],
            generation.usage_so_far(choice, end) if generation.continuous_usage else None,
        )
        return b"data: %s\n\n" % msgspec.json.encode(body)

    def _logprobs(self, choice: Choice, begin: int, end: int) -> CompletionLogprobs | None:
        count = self._request.logprobs
        if count is None:
            return None
        prompt = choice.prompt.tokens if self._request.echo and begin == 0 else ()
        return completion_logprobs(prompt, choice.answer, begin, end, count)
