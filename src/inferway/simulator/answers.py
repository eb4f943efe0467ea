"""What the simulated model says: sentences that depend only on the prompt.

The same prompt always gets the same answer, on every server, so that tests and people can compare.
An answer can be as long as it is asked to be. It is written here, not learned.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import msgspec
import xxhash

from inferway.simulator import tokenizer

_KNOWN = (
    (
        re.compile(r"\b(?:warmest|hottest)\b.{0,40}\bcity\b", re.IGNORECASE | re.DOTALL),
        (
            " The warmest big city in the United States is Phoenix, Arizona, in the Sonoran Desert."
            " From June to September its afternoons are often above 100 degrees Fahrenheit"
            " (38 degrees Celsius), and even in January a day usually reaches the high sixties."
            " Miami has warmer winters, so the answer depends on what you mean by warm."
        ),
    ),
    (
        re.compile(r"\b(?:hello|hi|hey)\b", re.IGNORECASE),
        " Hello! I am a simulated model, and I am glad to help you with a test.",
    ),
    (
        re.compile(r"\b(?:food|restaurant|meal|dish)\b", re.IGNORECASE),
        (
            " The soup was rich and the bread came warm from the oven."
            " The service was kind, and we would go there again on a quiet evening."
        ),
    ),
)
_SENTENCES = (
    " A good answer begins with the part that matters most to the person who asked.",
    " There are several ways to look at this, and each of them has its own cost.",
    " The simple reading is usually right, but it helps to check it with an example.",
    " In practice people measure first, change one thing, and then measure again.",
    " The numbers depend on the season, the place and the way in which they were taken.",
    " It is worth writing the assumptions down before the first decision is made.",
    " A small experiment tells more than a long discussion about what might happen.",
    " Where two rules disagree, the more specific one is normally the one to follow.",
    " Most of the time is spent waiting, so the order of the work matters a great deal.",
    " If memory is short, keep what will be needed soon and let the rest go.",
    " Requests that share their beginning can share the work of reading it.",
    " A queue is not a fault; a queue that only ever grows is one.",
    " The next step is to compare the result with what was expected at the start.",
    " That leaves one open question, which can be answered when more is known.",
)
# Lengths of an answer when nobody limits it, in tokens: from a short reply to a few paragraphs.
_NATURAL_TOKENS_MIN = 24
_NATURAL_TOKENS_SPAN = 160
# Answers that are kept, because load generators and tests ask the same again.
_REMEMBERED_ANSWERS = 256
_LCG_FACTOR = 6364136223846793005
_LCG_STEP = 1442695040888963407
_MASK = (1 << 64) - 1


class Answer(msgspec.Struct, frozen=True):
    """What one sequence will say: tokens, the text each adds, and why it ends."""

    tokens: tuple[int, ...]
    pieces: tuple[str, ...]
    text: str
    finish_reason: str
    stop_reason: str | int | None


@lru_cache(maxsize=1)
def _bank() -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(tokenizer.pieces(sentence)) for sentence in _SENTENCES)


def _opening(prompt: str) -> list[str]:
    # Only the end of a long prompt is searched for a question.
    tail = prompt[-2000:]
    for pattern, sentence in _KNOWN:
        if pattern.search(tail):
            return tokenizer.pieces(sentence)
    return []


def natural_tokens(prompt: str, choice: int) -> int:
    """How long the answer is when the model decides."""
    return _NATURAL_TOKENS_MIN + _seed(prompt, choice) % _NATURAL_TOKENS_SPAN


def _seed(prompt: str, choice: int) -> int:
    return xxhash.xxh3_64_intdigest(prompt.encode("utf-8", "surrogatepass"), seed=choice)


def _words(prompt: str, choice: int, count: int) -> tuple[str, ...]:
    state = _seed(prompt, choice)
    bank = _bank()
    words = _opening(prompt)
    while len(words) < count:
        state = (state * _LCG_FACTOR + _LCG_STEP) & _MASK
        words += bank[(state >> 33) % len(bank)]
    return tuple(words[:count])


def answer(prompt: str, choice: int, limit: int | None, stop: tuple[str, ...] = ()) -> Answer:
    """The answer to a prompt, at most ``limit`` tokens; exactly that many unless a stop text ends
    it. Without a limit the model ends it itself.
    """
    if len(prompt) + (limit or 0) > tokenizer.REMEMBERED_CHARACTERS_MAX:
        return make(prompt, choice, limit, stop)
    return _remembered(prompt, choice, limit, stop)


@lru_cache(maxsize=_REMEMBERED_ANSWERS)
def _remembered(prompt: str, choice: int, limit: int | None, stop: tuple[str, ...]) -> Answer:
    return make(prompt, choice, limit, stop)


def make(prompt: str, choice: int, limit: int | None, stop: tuple[str, ...]) -> Answer:
    """What ``answer`` returns, without remembering it."""
    count = natural_tokens(prompt, choice) if limit is None else limit
    words = _words(prompt, choice, count)
    reason = "stop" if limit is None else "length"
    text = "".join(words)
    cut, found = _first_stop(text, stop)
    if found is None:
        return Answer(tuple(map(tokenizer.piece_id, words)), words, text, reason, None)
    kept: list[str] = []
    begin = 0
    used = 0
    for word in words:
        used += 1
        kept.append(word[: max(cut - begin, 0)])
        begin += len(word)
        if begin >= cut + len(found):
            break
    tokens = tuple(map(tokenizer.piece_id, words[:used]))
    return Answer(tokens, tuple(kept), text[:cut], "stop", found)


def _first_stop(text: str, stop: Sequence[str]) -> tuple[int, str | None]:
    best, found = len(text), None
    for candidate in stop:
        at = text.find(candidate)
        if 0 <= at < best:
            best, found = at, candidate
    return best, found
