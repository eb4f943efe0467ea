"""The requests of a replay: when they come, how long prompts and answers are, what they share.

Pure: the same seed, or the same file, gives the same requests. Tokens are taken from a list that a
real server made of a text, so that any vocabulary will do.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from inferway.base.errors import InferwayError

REQUESTS = 300
# A vLLM on a CPU caches blocks of 128 tokens: two of them are shared by the requests of a group.
SHARED_TOKENS = 256
# Where policies are compared, knowing a prompt has to be worth something.
POLICY_SHARED_TOKENS = 1024
GROUP_REQUESTS = 5
# Lengths of every size in between: a median at the edge between two sizes would jump with noise.
TAIL_TOKENS = (16, 400)
OUTPUT_TOKENS = (4, 40)
# Tokens between the beginnings of two groups, so that their first blocks differ.
GROUP_STRIDE = 13
TAIL_STRIDE = 7
# Mooncake's prompts have thousands of tokens; a model of 2048 takes a fraction of each.
TRACE_PROMPT_TOKENS_MAX = 1500
TRACE_OUTPUT_TOKENS_MAX = 64


@dataclass(frozen=True, slots=True)
class Call:
    """One request. ``at`` is its arrival in units of the mean gap between two arrivals."""

    number: int
    at: float
    group: int
    shared_tokens: int
    tail_tokens: int
    output_tokens: int

    @property
    def prompt_tokens(self) -> int:
        return self.shared_tokens + self.tail_tokens


def generate(seed: int, count: int = REQUESTS, shared_tokens: int = SHARED_TOKENS) -> list[Call]:
    """Requests that come at random, in groups that share the beginning of their prompts."""
    rng = random.Random(seed)
    calls = []
    at = 0.0
    for number in range(count):
        at += rng.expovariate(1.0)
        calls.append(
            Call(
                number,
                at,
                rng.randrange(max(count // GROUP_REQUESTS, 1)),
                shared_tokens,
                rng.randint(*TAIL_TOKENS),
                rng.randint(*OUTPUT_TOKENS),
            )
        )
    return calls


def read(path: Path, count: int = REQUESTS) -> list[Call]:
    """The first requests of a Mooncake trace, made small enough for a small model.

    Raises InferwayError.
    """
    try:
        rows = [json.loads(line) for line in path.read_text().splitlines()[:count] if line]
        largest_in = max(row["input_length"] for row in rows)
        largest_out = max(row["output_length"] for row in rows)
        gap = (rows[-1]["timestamp"] - rows[0]["timestamp"]) / len(rows) or 1.0
        return [
            _call(number, row, rows[0]["timestamp"], gap, (largest_in, largest_out))
            for number, row in enumerate(rows)
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InferwayError(
            "INFERWAY0512",
            f"{path} is no trace: {error}",
            fix="Name a JSON-lines file with timestamp, input_length, output_length and hash_ids.",
        ) from None


def _call(
    number: int, row: dict[str, list[int]], first: float, gap: float, largest: tuple[int, int]
) -> Call:
    tokens = max(int(_int(row["input_length"]) * TRACE_PROMPT_TOKENS_MAX / largest[0]), 2)
    output = max(int(_int(row["output_length"]) * TRACE_OUTPUT_TOKENS_MAX / largest[1]), 2)
    # The second block is the first that not all requests of the trace have.
    ids = row.get("hash_ids") or [number]
    shared = tokens // 2
    group = ids[min(1, len(ids) - 1)]
    at = (_int(row["timestamp"]) - first) / gap
    return Call(number, at, group, shared, tokens - shared, output)


def _int(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(f"{value!r} is no number")
    return value


def prompt(call: Call, tokens: Sequence[int], run: int) -> list[int]:
    """The token ids of a request. ``run`` makes the prompts of each run new to every cache."""
    size = len(tokens)

    def part(begin: int, count: int) -> list[int]:
        return [tokens[(begin + index) % size] for index in range(count)]

    lead = [tokens[run % size], tokens[(run * 31 + 7) % size], tokens[call.group % size]]
    shared = (lead + part(call.group * GROUP_STRIDE, call.shared_tokens))[: call.shared_tokens]
    own = [tokens[call.number % size], *part(call.number * TAIL_STRIDE + 3, call.tail_tokens)]
    return shared + own[: call.tail_tokens]
