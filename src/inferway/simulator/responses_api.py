"""POST /v1/responses: plain texts and messages in, one message out, whole or as named events.

Tools, stored responses and reasoning are not imitated; vLLM has none of them for a plain model
either unless it is told to.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import msgspec

from inferway.simulator import sampling
from inferway.simulator.answers import Answer
from inferway.simulator.chat import conversation_answer, render
from inferway.simulator.completions import prompt_of
from inferway.simulator.errors import ApiError
from inferway.simulator.generation import Choice, Generation
from inferway.simulator.http import Exchange
from inferway.simulator.requests import ChatRequest, ResponsesRequest

if TYPE_CHECKING:
    from inferway.simulator.app import App

_TEXT_PARTS = frozenset({"input_text", "output_text", "text"})


def handle(app: App, exchange: Exchange) -> None:
    """Answers one request. Raises ApiError."""
    request = app.decoder.decode(ResponsesRequest, exchange.body, exchange.header(b"content-type"))
    model, adapter = app.models.resolve(request.model)
    messages = _messages(request)
    length = app.options.max_model_len
    prompt = prompt_of(render(messages, model, generation_prompt=True), length)
    chat = ChatRequest(
        messages=messages,
        max_tokens=request.max_output_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
    )
    limit = sampling.output_limit(request.max_output_tokens, len(prompt.tokens), length)
    sampling.check_sampling(chat, limit, None)
    generation = Generation(app, exchange, ResponseShape(request, limit), model)
    generation.id = app.request_id(b"resp_", exchange, None)
    generation.prompts = [prompt]
    generation.stream = bool(request.stream)
    answer: Answer = conversation_answer(chat, 0, limit)
    generation.start([answer], adapter, request.cache_salt or "")


def unknown(app: App, exchange: Exchange) -> None:
    """Responses are not kept, so none is found. Raises ApiError."""
    identity = exchange.path.removeprefix("/v1/responses/")
    raise ApiError(
        f"Response with id '{identity}' not found.",
        status=404,
        kind="invalid_request_error",
        param="response_id",
    )


def _messages(request: ResponsesRequest) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    if request.instructions:
        messages.append({"role": "system", "content": request.instructions})
    if isinstance(request.input, str):
        return [*messages, {"role": "user", "content": request.input}]
    for item in request.input:
        if not isinstance(item, dict):
            raise ApiError("input items must be objects", kind="Bad Request", param="body.input")
        content = item.get("content", "")
        if isinstance(content, list):
            content = "\n".join(
                str(part.get("text", ""))
                for part in content
                if isinstance(part, dict) and part.get("type") in _TEXT_PARTS
            )
        messages.append({"role": item.get("role", "user"), "content": content})
    if not messages:
        raise ApiError(
            "Cannot apply chat template to an empty conversation. Provide at least one message."
        )
    return messages


class ResponseShape:
    """Responses as vLLM writes them."""

    def __init__(self, request: ResponsesRequest, limit: int) -> None:
        self._request = request
        self._limit = limit
        self._sequence = -1
        self._message = f"msg_{os.urandom(8).hex()}"

    def whole(self, generation: Generation) -> bytes:
        return msgspec.json.encode(self._finished(generation))

    def opening(self, generation: Generation) -> bytes:
        begun = self._body(generation, "in_progress", [], None)
        item = self._item([], "in_progress")
        return b"".join(
            (
                self._event("response.created", {"response": begun}),
                self._event("response.in_progress", {"response": begun}),
                self._event("response.output_item.added", {"item": item, "output_index": 0}),
                self._part("added", {"text": "", "logprobs": []}),
            )
        )

    def chunk(self, generation: Generation, choice: Choice, begin: int, end: int) -> bytes:
        return b"".join(
            self._event(
                "response.output_text.delta",
                {
                    "content_index": 0,
                    "delta": piece,
                    "item_id": self._message,
                    "logprobs": [],
                    "output_index": 0,
                },
            )
            for piece in choice.answer.pieces[begin:end]
        )

    def ending(self, generation: Generation) -> bytes:
        text = generation.choices[0].answer.text
        done = {
            "content_index": 0,
            "item_id": self._message,
            "logprobs": [],
            "output_index": 0,
        }
        body = self._finished(generation)
        return b"".join(
            (
                self._event("response.output_text.done", done, {"text": text}),
                self._part("done", {"text": text, "logprobs": None}),
                self._event(
                    "response.output_item.done", {"item": body["output"][0], "output_index": 0}
                ),
                self._event("response.completed", {"response": body}),
            )
        )

    def _part(self, what: str, part: dict[str, Any]) -> bytes:
        text = {"annotations": [], "text": part["text"], "type": "output_text"}
        return self._event(
            f"response.content_part.{what}",
            {
                "content_index": 0,
                "item_id": self._message,
                "output_index": 0,
                "part": {**text, "logprobs": part["logprobs"]},
            },
        )

    def _event(
        self, name: str, fields: dict[str, Any], late: dict[str, Any] | None = None
    ) -> bytes:
        """An event; ``late`` are fields whose names come after the sequence number's."""
        self._sequence += 1
        body = {**fields, "sequence_number": self._sequence, **(late or {}), "type": name}
        return b"event: %s\ndata: %s\n\n" % (name.encode(), msgspec.json.encode(body))

    def _item(self, content: list[Any], status: str) -> dict[str, Any]:
        return {
            "id": self._message,
            "content": content,
            "role": "assistant",
            "status": status,
            "type": "message",
            "phase": None,
        }

    def _finished(self, generation: Generation) -> dict[str, Any]:
        (choice,) = generation.choices
        part: dict[str, Any] = {
            "annotations": [],
            "text": choice.answer.text,
            "type": "output_text",
            "logprobs": None,
        }
        usage = generation.usage()
        told = {
            "input_tokens": usage.prompt_tokens,
            "input_tokens_details": {
                "cached_tokens": generation.cached,
                "cache_write_tokens": 0,
                "input_tokens_per_turn": [],
                "cached_tokens_per_turn": [],
            },
            "output_tokens": usage.completion_tokens,
            "output_tokens_details": {
                "reasoning_tokens": 0,
                "tool_output_tokens": 0,
                "output_tokens_per_turn": [],
                "tool_output_tokens_per_turn": [],
            },
            "total_tokens": usage.total_tokens,
        }
        cut = choice.answer.finish_reason == "length"
        status = "incomplete" if cut else "completed"
        return self._body(generation, status, [self._item([part], "completed")], told)

    def _body(
        self,
        generation: Generation,
        status: str,
        output: list[Any],
        usage: dict[str, Any] | None,
    ) -> dict[str, Any]:
        request = self._request
        cut = {"reason": "max_output_tokens"} if status == "incomplete" else None
        heat = 1.0 if request.temperature is None else request.temperature
        return {
            "id": generation.id,
            "created_at": generation.created,
            "incomplete_details": cut,
            "instructions": request.instructions,
            "metadata": request.metadata,
            "model": generation.model,
            "object": "response",
            "output": output,
            "parallel_tool_calls": True,
            "temperature": heat,
            "tool_choice": "none",
            "tools": [],
            "top_p": 1.0 if request.top_p is None else request.top_p,
            "background": False,
            "max_output_tokens": self._limit,
            "max_tool_calls": None,
            "previous_response_id": None,
            "prompt": None,
            "reasoning": None,
            "service_tier": "auto",
            "status": status,
            "text": None,
            "top_logprobs": None,
            "truncation": "disabled",
            "usage": usage,
            "user": request.user,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "kv_transfer_params": None,
            "ec_transfer_params": None,
            "input_messages": None,
            "output_messages": None,
        }
