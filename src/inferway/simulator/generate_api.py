"""POST /inference/v1/generate: tokens in, tokens out, whole or as events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from inferway.simulator import sampling
from inferway.simulator.answers import answer
from inferway.simulator.completions import prompts_of
from inferway.simulator.errors import ApiError
from inferway.simulator.generation import DONE, Choice, Generation
from inferway.simulator.http import Exchange
from inferway.simulator.requests import SEQUENCES_MAX, CompletionRequest, GenerateRequest

if TYPE_CHECKING:
    from inferway.simulator.app import App


def handle(app: App, exchange: Exchange) -> None:
    """Answers one request. Raises ApiError."""
    kind = exchange.header(b"content-type")
    request = app.decoder.decode(GenerateRequest, exchange.body, kind)
    model, adapter = app.models.resolve(request.model)
    length = app.options.max_model_len
    prompts = prompts_of(request.token_ids, length)
    if prompts is None or len(prompts) != 1:
        app.decoder.refuse(GenerateRequest, exchange.body)
    wanted = request.sampling_params
    limit = sampling.output_limit(wanted.max_tokens, len(prompts[0].tokens), length)
    asked = CompletionRequest(
        max_tokens=wanted.max_tokens, temperature=wanted.temperature, stop=wanted.stop, n=wanted.n
    )
    sampling.check_sampling(asked, limit, None)
    if not 1 <= wanted.n <= SEQUENCES_MAX:
        raise ApiError(f"n must be in [1, {SEQUENCES_MAX}].", param="n")
    generation = Generation(app, exchange, GenerateShape(request), model)
    generation.id = app.request_id(b"generate-tokens-", exchange, request.request_id)
    generation.prompts = prompts
    generation.choices_per_prompt = wanted.n
    app.set_stream(generation, request.stream, request.stream_options)
    stop = sampling.stop_texts(asked)
    answers = [answer(prompts[0].text, index, limit, stop) for index in range(wanted.n)]
    generation.start(answers, adapter, request.cache_salt or "")


class GenerateShape:
    """Token ids as vLLM writes them; the text besides them if that is asked for."""

    def __init__(self, request: GenerateRequest) -> None:
        self._text = request.output_mode == "text"
        self._ids = bool(request.return_token_ids)

    def whole(self, generation: Generation) -> bytes:
        prompt = generation.prompts[0].tokens
        choices = []
        for choice in generation.choices:
            made = self._choice(choice, 0, len(choice.answer.tokens))
            choices.append(made | {"finish_reason": choice.answer.finish_reason})
        body = {
            "request_id": generation.id,
            "model": generation.model,
            "created": generation.created,
            "usage": generation.usage(),
            "prompt_logprobs": None,
            "prompt_token_id_logprobs": None,
            "prompt_token_ids": list(prompt) if self._ids else None,
            "mm_placeholders": None,
            "metrics": None,
            "kv_transfer_params": None,
            "ec_transfer_params": None,
            "output_mode": self._mode(),
            "choices": choices,
        }
        return msgspec.json.encode(body)

    def opening(self, generation: Generation) -> bytes:
        return b""

    def chunk(self, generation: Generation, choice: Choice, begin: int, end: int) -> bytes:
        usage = generation.usage_so_far(choice, end) if generation.continuous_usage else None
        made = self._choice(choice, begin, end)
        return self._event(generation, [made], usage)

    def ending(self, generation: Generation) -> bytes:
        if not generation.include_usage:
            return DONE
        return self._event(generation, [], generation.stream_usage()) + DONE

    def _event(self, generation: Generation, choices: list[Any], usage: object) -> bytes:
        body = {
            "request_id": generation.id,
            "usage": usage,
            "output_mode": self._mode(),
            "choices": choices,
        }
        return b"data: %s\n\n" % msgspec.json.encode(body)

    def _choice(self, choice: Choice, begin: int, end: int) -> dict[str, Any]:
        plan = choice.answer
        last = end == len(plan.tokens)
        made: dict[str, Any] = {
            "index": choice.index,
            "finish_reason": plan.finish_reason if last else None,
            "stop_reason": plan.stop_reason if last else None,
            "token_ids": list(plan.tokens[begin:end]),
            "routed_experts": None,
            "sampling_mask": None,
            "weight_versions": None,
            "logprobs": None,
        }
        return made | {"text": "".join(plan.pieces[begin:end])} if self._text else made

    def _mode(self) -> str:
        return "text" if self._text else "tokens"
