"""What a right completion is, whole or as a stream of events.

Knows OpenAI's shapes; reads bytes that it is given and opens no connection.
"""

from __future__ import annotations

from collections.abc import AsyncIterable
from dataclasses import dataclass

import msgspec


class BadAnswerError(Exception):
    """An answer with status 200 that is not a completion. ``kind`` is counted by."""

    def __init__(self, kind: str, what: str) -> None:
        self.kind = kind
        super().__init__(what)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a right answer says of itself, in tokens."""

    prompt_tokens: int
    completion_tokens: int


class _Usage(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int


class _Choice(msgspec.Struct):
    text: str = ""
    finish_reason: str | None = None


class _Completion(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: object = None


def _completion(raw: bytes) -> _Completion:
    try:
        return msgspec.json.decode(raw, type=_Completion)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise BadAnswerError("not a completion", f"{error}: {raw[:200]!r}") from None


def read_whole(body: bytes) -> Answer:
    """The answer in a body. Raises BadAnswerError."""
    found = _completion(body)
    if not found.choices or found.choices[0].finish_reason is None:
        raise BadAnswerError("not a completion", repr(body[:200]))
    if found.usage is None:
        raise BadAnswerError("no usage", repr(body[:200]))
    return Answer(found.usage.prompt_tokens, found.usage.completion_tokens)


async def read_stream(lines: AsyncIterable[bytes]) -> Answer:
    """The answer in a stream of events, line by line. Raises BadAnswerError.

    A right stream has a chunk with a finish reason, one with usage, and ``[DONE]`` at its end.
    """
    finished = ended = False
    usage: _Usage | None = None
    async for line in lines:
        text = line.strip()
        if not text.startswith(b"data:"):
            continue
        data = text[5:].strip()
        if data == b"[DONE]":
            ended = True
            continue
        if ended:
            raise BadAnswerError("chunk after the end", repr(data[:200]))
        chunk = _completion(data)
        if chunk.error is not None:
            raise BadAnswerError("error in the stream", repr(data[:200]))
        usage = chunk.usage or usage
        finished = finished or any(choice.finish_reason for choice in chunk.choices)
    if not ended or not finished:
        raise BadAnswerError("stream cut", f"finished: {finished}, [DONE]: {ended}")
    if usage is None:
        raise BadAnswerError("no usage", "the stream had no chunk with usage")
    return Answer(usage.prompt_tokens, usage.completion_tokens)
