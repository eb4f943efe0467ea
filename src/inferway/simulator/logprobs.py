"""Log probabilities that look right: negative, and the same for the same token.

They carry no meaning; what counts is the shape that clients parse.
"""

from __future__ import annotations

from collections.abc import Sequence

from inferway.simulator import tokenizer
from inferway.simulator.answers import Answer
from inferway.simulator.responses import (
    ChatLogprob,
    ChatLogprobs,
    ChatTopLogprob,
    CompletionLogprobs,
    PromptLogprob,
)

_KNUTH = 2654435761
# What else the model might have said, for the alternatives of every token.
_ALTERNATIVES = (
    " the", " a", " of", " and", " to", " in", " is", ".", ",", " it", " that", " on", " for",
    " with", " as", " at", " by", " an", " or", " be",
)  # fmt: skip


def _logprob(token: int) -> float:
    return -((token * _KNUTH) % 1000 + 1) / 1000.0


def _alternatives(token: int, text: str, count: int) -> list[tuple[str, float]]:
    """The token itself and ``count - 1`` others, the most likely first."""
    found = [(text, _logprob(token))]
    for other in _ALTERNATIVES:
        if len(found) >= count:
            break
        if other != text:
            found.append((other, _logprob(token) - 0.5 * len(found)))
    return found


def completion_logprobs(
    prompt: Sequence[int], plan: Answer, begin: int, end: int, count: int
) -> CompletionLogprobs:
    """The ``logprobs`` object of completions for some tokens, after those of an echoed prompt."""
    result = CompletionLogprobs([], [], [], [])
    offset = 0
    if begin:
        offset = sum(map(len, plan.pieces[:begin]))
    for position, token in enumerate((*prompt, *plan.tokens[begin:end])):
        text = tokenizer.decode_one(token)
        first = bool(prompt) and position == 0
        result.text_offset.append(offset)
        result.tokens.append(text)
        # Nothing comes before the first prompt token, so it has no probability.
        result.token_logprobs.append(None if first else _logprob(token))
        result.top_logprobs.append(
            None if first else dict(_alternatives(token, text, max(count, 1)))
        )
        offset += len(text)
    return result


def prompt_logprobs(prompt: Sequence[int], count: int) -> list[dict[str, PromptLogprob] | None]:
    """What the model thought of each token of the prompt; nothing of the first."""
    told: list[dict[str, PromptLogprob] | None] = [None]
    for token in prompt[1:]:
        text = tokenizer.decode_one(token)
        entry = {}
        for rank, (word, value) in enumerate(_alternatives(token, text, max(count, 1)), 1):
            name = str(token) if word == text else str(tokenizer.piece_id(word))
            entry[name] = PromptLogprob(value, rank, word)
        told.append(entry)
    return told


def chat_logprobs(plan: Answer, begin: int, end: int, count: int) -> ChatLogprobs:
    """The ``logprobs`` object of chats."""
    content = []
    for token in plan.tokens[begin:end]:
        text = tokenizer.decode_one(token)
        top = [
            ChatTopLogprob(word, value, list(word.encode()))
            for word, value in (_alternatives(token, text, count) if count else ())
        ]
        content.append(ChatLogprob(text, _logprob(token), list(text.encode()), top))
    return ChatLogprobs(content)
