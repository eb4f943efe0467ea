"""POST /v1/completions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from inferway.simulator import sampling, tokenizer
from inferway.simulator.answers import Answer, answer
from inferway.simulator.errors import ApiError
from inferway.simulator.generation import DONE, Choice, Generation, Prompt
from inferway.simulator.http import Exchange
from inferway.simulator.logprobs import completion_logprobs, prompt_logprobs
from inferway.simulator.requests import (
    PROMPTS_MAX,
    SEQUENCES_MAX,
    CompletionRequest,
)
from inferway.simulator.responses import (
    FINGERPRINT,
    Completion,
    CompletionChoice,
    CompletionChunk,
    CompletionChunkChoice,
    CompletionLogprobs,
    PromptLogprob,
    UsageChunk,
)

if TYPE_CHECKING:
    from inferway.simulator.app import App


def handle(app: App, exchange: Exchange) -> None:
    """Answers one request. Raises ApiError."""
    request = app.decoder.decode(CompletionRequest, exchange.body, exchange.header(b"content-type"))
    sampling.check_completion(request)
    model, adapter = app.models.resolve(request.model)
    if request.suffix:
        raise ApiError(
            "suffix is only supported for models with FIM completion rendering", param="suffix"
        )
    plain = not app.continuous_usage(request.stream_options)
    generation = Generation(app, exchange, CompletionShape(request, plain=plain), model)
    generation.id = app.request_id(b"cmpl-", exchange, request.request_id)
    length = app.options.max_model_len
    sampling.check_truncation(request.truncate_prompt_tokens, length)
    prompts = prompts_of(request.prompt, length)
    if prompts is None:
        app.decoder.refuse(CompletionRequest, exchange.body)
    if request.truncate_prompt_tokens:
        prompts = [_truncated(p, request.truncate_prompt_tokens) for p in prompts]
    generation.prompts = prompts
    generation.choices_per_prompt = request.n
    answers = _answers(request, prompts, length)
    app.set_stream(generation, request.stream, request.stream_options)
    generation.start(answers, adapter, request.salt)


def _answers(request: CompletionRequest, prompts: list[Prompt], length: int) -> list[Answer]:
    """What is said to each prompt. Raises ApiError."""
    stop = sampling.stop_texts(request)
    wanted = 16 if request.max_tokens is None else request.max_tokens
    # vLLM computes one token even where only the prompt is wanted back, and does not show it.
    only_echo = bool(request.echo) and wanted == 0
    answers = []
    for prompt in prompts:
        room = sampling.output_limit(wanted, len(prompt.tokens), length)
        limit = 1 if only_echo else room
        sampling.check_sampling(request, limit, request.logprobs)
        if request.n * len(prompts) > SEQUENCES_MAX:
            raise ApiError(
                f"n times the number of prompts must be at most {SEQUENCES_MAX}.", param="n"
            )
        for index in range(request.n):
            plan = answer(prompt.text, index, limit, stop)
            if request.include_stop_str_in_output:
                plan = with_stop(plan)
            if only_echo:
                plan = msgspec.structs.replace(plan, pieces=("",), text="")
            answers.append(plan)
    return answers


def prompt_of(text: str, limit: int) -> Prompt:
    """A text as a prompt for a model of ``limit`` tokens. Raises ApiError."""
    sampling.check_characters(text, limit, tokenizer.PIECE_CHARACTERS_MAX)
    return Prompt(text, tokenizer.encode(text))


def prompts_of(raw: str | list[Any] | None, limit: int) -> list[Prompt] | None:
    """The prompts of a request: a text, texts, token ids, or lists of token ids; None where it is
    none of these. Raises ApiError.
    """
    if isinstance(raw, str):
        return [prompt_of(raw, limit)]
    if not raw:
        raise ApiError("You must pass at least one prompt")
    if _are_tokens(raw):
        return [_from_tokens(raw)]
    if len(raw) > PROMPTS_MAX:
        raise ApiError(
            f"prompt list length {len(raw)} exceeds the maximum allowed count of {PROMPTS_MAX}. "
            "To increase this limit, set the VLLM_MAX_COMPLETION_PROMPTS environment variable.",
            param="prompt",
        )
    texts = all(isinstance(item, str) for item in raw)
    if not texts and not all(isinstance(item, list) and _are_tokens(item) for item in raw):
        return None
    if not all(raw):
        raise ApiError("The decoder prompt cannot be empty")
    return [prompt_of(item, limit) if texts else _from_tokens(item) for item in raw]


def _are_tokens(items: list[Any]) -> bool:
    return all(type(item) is int and item >= 0 for item in items)


def _from_tokens(tokens: list[int]) -> Prompt:
    if max(tokens) >= tokenizer.VOCABULARY_SIZE:
        raise ApiError(f"Token id {max(tokens)} is out of vocabulary")
    return Prompt(tokenizer.decode(tokens), tuple(tokens))


def _truncated(prompt: Prompt, keep: int) -> Prompt:
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
                    self._prompt_logprobs(choice),
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
                FINGERPRINT,
                generation.usage(),
                None,
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

    def ending(self, generation: Generation) -> bytes:
        if not generation.include_usage:
            return DONE
        return b"data: %s\n\n%s" % (
            msgspec.json.encode(
                UsageChunk(
                    generation.id,
                    "text_completion",
                    generation.created,
                    generation.model,
                    [],
                    generation.stream_usage(),
                    FINGERPRINT,
                )
            ),
            DONE,
        )

    def _event(
        self, generation: Generation, choice: Choice, text: str, begin: int, end: int
    ) -> bytes:
        plan = choice.answer
        last = end == len(plan.tokens)
        ids = bool(self._request.return_token_ids)
        # An echoed prompt is streamed with its ids, asked for or not.
        shown = ids or bool(self._request.echo)
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
                    list(choice.prompt.tokens) if shown and begin == 0 else None,
                    list(plan.tokens[begin:end]) if ids else None,
                )
            ],
            generation.usage_so_far(choice, end) if generation.continuous_usage else None,
            FINGERPRINT if last and not generation.include_usage else None,
        )
        return b"data: %s\n\n" % msgspec.json.encode(body)

    def _prompt_logprobs(self, choice: Choice) -> list[dict[str, PromptLogprob] | None] | None:
        request = self._request
        count = request.prompt_logprobs
        if count is None and request.echo:
            count = request.logprobs
        return None if count is None else prompt_logprobs(choice.prompt.tokens, count)

    def _logprobs(self, choice: Choice, begin: int, end: int) -> CompletionLogprobs | None:
        count = self._request.logprobs
        if count is None:
            return None
        prompt = choice.prompt.tokens if self._request.echo and begin == 0 else ()
        return completion_logprobs(prompt, choice.answer, begin, end, count)
