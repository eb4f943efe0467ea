"""One generating request in flight: its sequences in the engine and the response they build.

``Generation`` counts and measures; how a response looks is its ``Shape``'s business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from inferway.simulator.answers import Answer
from inferway.simulator.engine.values import Request, Timing
from inferway.simulator.http import Exchange
from inferway.simulator.responses import PromptTokensDetails, StreamUsage, Usage

if TYPE_CHECKING:
    from inferway.simulator.app import App

DONE = b"data: [DONE]\n\n"


class Prompt:
    """A prompt as text and tokens."""

    __slots__ = ("text", "tokens")

    def __init__(self, text: str, tokens: tuple[int, ...]) -> None:
        self.text = text
        self.tokens = tokens


class Shape(Protocol):
    """How completions or chats are written down."""

    def whole(self, generation: Generation) -> bytes:
        """The body of a response that is sent at once."""
        ...

    def opening(self, generation: Generation) -> bytes:
        """What a stream begins with."""
        ...

    def chunk(self, generation: Generation, choice: Choice, begin: int, end: int) -> bytes:
        """The tokens ``begin`` to ``end`` of a choice as events."""
        ...

    def ending(self, generation: Generation) -> bytes:
        """What a stream ends with."""
        ...


class Choice:
    """One sequence of a generation; the engine's sink."""

    __slots__ = (
        "answer", "emitted", "engine_id", "first_at", "frame", "generation", "index", "last_at",
    )  # fmt: skip

    def __init__(self, generation: Generation, index: int, answer: Answer, engine_id: int) -> None:
        self.generation = generation
        self.index = index
        self.answer = answer
        self.engine_id = engine_id
        self.emitted = 0
        self.first_at = 0.0
        # What stands around the text in the events of a stream, once it is known.
        self.frame: tuple[bytes, bytes] | None = None
        self.last_at = 0.0

    @property
    def prompt(self) -> Prompt:
        generation = self.generation
        return generation.prompts[self.index // generation.choices_per_prompt]

    def gained(self, tokens: int, at: float, ended: float, timing: Timing | None) -> None:
        generation = self.generation
        metrics = generation.app.metrics
        if not self.emitted:
            self.first_at = ended
            metrics.times.first_token.observe(at - generation.arrived)
            metrics.prompt_tokens += len(self.prompt.tokens)
            cached = timing.cached_tokens if timing else self._cached()
            metrics.cached_prompt_tokens += cached
            fresh = tokens - 1
        else:
            fresh = tokens
        if fresh:
            metrics.times.inter_token.observe_many((at - (self.last_at or at)) / fresh, fresh)
        metrics.generation_tokens += tokens
        self.last_at = at
        begin = self.emitted
        self.emitted += tokens
        if timing is not None:
            self._finished(timing, at, ended)
        generation.progressed(self, begin, timing)

    def _cached(self) -> int:
        return self.generation.app.engine.cached_tokens(self.engine_id)

    def _finished(self, timing: Timing, at: float, ended: float) -> None:
        metrics = self.generation.app.metrics
        metrics.finished[self.answer.finish_reason] += 1
        metrics.times.end_to_end.observe(at - self.generation.arrived)
        metrics.times.queue.observe(timing.scheduled - timing.arrived)
        metrics.times.prefill.observe(self.first_at - timing.scheduled)
        metrics.times.decode.observe(ended - self.first_at)
        metrics.times.inference.observe(ended - timing.scheduled)
        metrics.work.preemptions.observe(timing.preemptions)
        metrics.work.computed.observe(len(self.prompt.tokens) - timing.cached_tokens)
        metrics.tokens.request_prompt.observe(len(self.prompt.tokens))
        metrics.tokens.request_generation.observe(self.emitted)
        metrics.tokens.request_max_generation.observe(self.emitted)
        if self.emitted > 1:
            metrics.times.request_per_token.observe((ended - self.first_at) / (self.emitted - 1))


class Generation:
    """A request for ``choices_per_prompt`` answers to each of ``prompts``."""

    __slots__ = (
        "app", "arrived", "cached", "choices", "choices_per_prompt", "continuous_usage", "created",
        "exchange", "id", "include_usage", "left", "model", "prompts", "shape", "stream",
    )  # fmt: skip

    def __init__(self, app: App, exchange: Exchange, shape: Shape, model: str) -> None:
        self.app = app
        self.exchange = exchange
        self.shape = shape
        self.model = model
        self.arrived = app.pump.now()
        self.created = app.wall_second()
        self.id = ""
        self.prompts: list[Prompt] = []
        self.choices: list[Choice] = []
        self.choices_per_prompt = 1
        self.stream = False
        self.include_usage = False
        self.continuous_usage = False
        self.left = 0
        self.cached = 0

    def start(self, answers: list[Answer], adapter: str, salt: str) -> None:
        """Queues one sequence per answer; prompts and settings are in place."""
        app = self.app
        app.metrics.tokens.params_n.observe(self.choices_per_prompt)
        self.choices = [
            Choice(self, index, answer, app.pump.next_id()) for index, answer in enumerate(answers)
        ]
        self.left = sum(1 for answer in answers if answer.tokens)
        self.exchange.on_close = self._client_left
        if self.stream:
            self.exchange.stream(self.shape.opening(self))
        app.in_flight += 1
        for choice in self.choices:
            if not choice.answer.tokens:
                continue
            app.metrics.tokens.params_max_tokens.observe(len(choice.answer.tokens))
            app.pump.submit(
                Request(
                    id=choice.engine_id,
                    prompt=choice.prompt.tokens,
                    output=choice.answer.tokens,
                    arrived=self.arrived,
                    adapter=adapter,
                    salt=salt,
                ),
                choice,
            )
        if not self.left:
            self._complete()

    def progressed(self, choice: Choice, begin: int, timing: Timing | None) -> None:
        """A choice has new tokens from ``begin``; ``timing`` when they are its last."""
        if timing is not None:
            self.left -= 1
            self.cached = max(self.cached, timing.cached_tokens)
        if self.stream:
            self.exchange.stream(self.shape.chunk(self, choice, begin, choice.emitted))
        if not self.left:
            self._complete()

    def usage(self) -> Usage:
        """Tokens of the whole request."""
        prompt, completion = self._tokens()
        return Usage(prompt, prompt + completion, completion, self._details())

    def stream_usage(self) -> StreamUsage:
        """Tokens of the whole request, for the last event."""
        prompt, completion = self._tokens()
        return StreamUsage(prompt, prompt + completion, completion, self._details())

    def usage_so_far(self, choice: Choice, tokens: int) -> StreamUsage:
        """Tokens of one choice when ``tokens`` of its answer have been told."""
        prompt = len(choice.prompt.tokens)
        return StreamUsage(prompt, prompt + tokens, tokens)

    def _tokens(self) -> tuple[int, int]:
        return (
            sum(len(prompt.tokens) for prompt in self.prompts),
            sum(choice.emitted for choice in self.choices),
        )

    def _details(self) -> PromptTokensDetails | None:
        if self.app.options.prompt_tokens_details and self.cached:
            return PromptTokensDetails(self.cached)
        return None

    def _complete(self) -> None:
        self.app.in_flight -= 1
        if self.stream:
            self.exchange.end_stream(self.shape.ending(self))
        else:
            self.exchange.respond(200, self.shape.whole(self))

    def _client_left(self) -> None:
        self.app.in_flight -= 1
        for choice in self.choices:
            if choice.emitted < len(choice.answer.tokens):
                self.app.pump.abort(choice.engine_id)
                self.app.metrics.finished["abort"] += 1
