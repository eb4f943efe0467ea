"""A load generator that believes nothing: each answer is read to its end and checked.

    python -m inferway.bench.load http://127.77.128.1:80 --requests 10000 --connections 64

Knows OpenAI's completions, whole and as a stream of events; knows nothing of Inferway. The result
says how many answers were right, counts the others by kind, and sums the usage of the right ones,
so that a gateway's own counters can be held against it.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import aiohttp
import msgspec

from inferway.bench.answers import Answer, BadAnswerError, read_stream, read_whole

# Examples of each kind of error in the result: enough to see a cause, few enough to read.
EXAMPLES_PER_KIND_MAX = 5
CONNECT_SECONDS_MAX = 10.0
QUESTIONS = 64  # different endings, so that answers do not all come from one prefix


class Mode(StrEnum):
    """How answers are asked for."""

    WHOLE = "whole"
    STREAM = "stream"
    MIXED = "mixed"


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """One run. ``url`` is the gateway without a path; models take turns."""

    url: str
    requests: int = 10_000
    connections: int = 64
    mode: Mode = Mode.MIXED
    models: tuple[str, ...] = ("Qwen/Qwen2.5-1.5B-Instruct",)
    max_tokens: int = 16
    prompt_bytes: int = 400
    seconds_max: float = 60.0
    """The longest time that one answer may take."""


class LoadResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a run has seen; written as JSON."""

    requests: int
    succeeded: int
    errors: dict[str, int]
    examples: dict[str, list[str]]
    prompt_tokens: int
    completion_tokens: int
    streamed: int
    seconds: float
    requests_per_second: float
    p50_ms: float
    p99_ms: float
    first_byte_p50_ms: float
    first_byte_p99_ms: float


@dataclass(slots=True)
class _Tally:
    """The counts of a run while it runs; one event loop changes it."""

    succeeded: int = 0
    streamed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    first_byte_seconds: list[float] = field(default_factory=list)

    def count(self, answer: Answer, seconds: float, first_byte: float, stream: bool) -> None:
        self.succeeded += 1
        self.streamed += stream
        self.prompt_tokens += answer.prompt_tokens
        self.completion_tokens += answer.completion_tokens
        self.seconds.append(seconds)
        self.first_byte_seconds.append(first_byte)

    def fail(self, kind: str, what: str) -> None:
        self.errors[kind] += 1
        known = self.examples.setdefault(kind, [])
        if len(known) < EXAMPLES_PER_KIND_MAX:
            known.append(what[:300])

    def done(self) -> int:
        return self.succeeded + self.errors.total()


def quantile(values: Sequence[float], share: float) -> float:
    """The value that ``share`` of the values do not exceed; 0 of nothing."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def question(options: LoadOptions, number: int) -> dict[str, object]:
    """The body of the request with that number; the same number gives the same body."""
    stream = options.mode is Mode.STREAM or (options.mode is Mode.MIXED and number % 2 == 1)
    ending = f" Question {number % QUESTIONS}: what is the warmest city in the USA?"
    filler = "The following is a conversation about the weather of cities. "
    prompt = (filler * (options.prompt_bytes // len(filler) + 1))[: options.prompt_bytes] + ending
    body: dict[str, object] = {
        "model": options.models[number % len(options.models)],
        "prompt": prompt,
        "max_tokens": options.max_tokens,
        "temperature": 0.5,
    }
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return body


async def run(options: LoadOptions, on_progress: Callable[[int], None] | None = None) -> LoadResult:
    """Sends all requests; ``on_progress`` is called with the number of finished ones after each."""
    tally = _Tally()
    numbers = iter(range(options.requests))
    timeout = aiohttp.ClientTimeout(total=options.seconds_max, sock_connect=CONNECT_SECONDS_MAX)
    connector = aiohttp.TCPConnector(limit=options.connections)
    started = time.monotonic()
    async with (
        aiohttp.ClientSession(timeout=timeout, connector=connector) as session,
        asyncio.TaskGroup() as group,
    ):
        for index in range(options.connections):
            group.create_task(
                _client(session, options, numbers, tally, on_progress), name=f"client {index}"
            )
    return summarize(tally, options, time.monotonic() - started)


def summarize(tally: _Tally, options: LoadOptions, seconds: float) -> LoadResult:
    """The result of a finished run."""
    return LoadResult(
        requests=options.requests,
        succeeded=tally.succeeded,
        errors=dict(sorted(tally.errors.items())),
        examples=tally.examples,
        prompt_tokens=tally.prompt_tokens,
        completion_tokens=tally.completion_tokens,
        streamed=tally.streamed,
        seconds=round(seconds, 3),
        requests_per_second=round(tally.succeeded / seconds, 1) if seconds else 0.0,
        p50_ms=round(quantile(tally.seconds, 0.50) * 1000, 3),
        p99_ms=round(quantile(tally.seconds, 0.99) * 1000, 3),
        first_byte_p50_ms=round(quantile(tally.first_byte_seconds, 0.50) * 1000, 3),
        first_byte_p99_ms=round(quantile(tally.first_byte_seconds, 0.99) * 1000, 3),
    )


async def _client(
    session: aiohttp.ClientSession,
    options: LoadOptions,
    numbers: Iterator[int],
    tally: _Tally,
    on_progress: Callable[[int], None] | None,
) -> None:
    """One connection's worth of requests, one after the other."""
    for number in numbers:
        await _ask(session, options, number, tally)
        if on_progress is not None:
            on_progress(tally.done())


async def _ask(
    session: aiohttp.ClientSession, options: LoadOptions, number: int, tally: _Tally
) -> None:
    body = question(options, number)
    stream = "stream" in body
    began = time.monotonic()
    try:
        async with session.post(f"{options.url}/v1/completions", json=body) as response:
            first_byte = time.monotonic() - began
            if response.status != 200:
                tally.fail(f"status {response.status}", await response.text())
                return
            answer = await (read_stream(response.content) if stream else _whole(response))
        tally.count(answer, time.monotonic() - began, first_byte, stream)
    except BadAnswerError as error:
        tally.fail(error.kind, str(error))
    except TimeoutError:
        tally.fail("timeout", f"no answer within {options.seconds_max} s")
    except aiohttp.ClientConnectorError as error:
        tally.fail("no connection", str(error))
    except aiohttp.ClientPayloadError as error:
        tally.fail("answer cut", str(error))
    except aiohttp.ClientError as error:
        tally.fail("connection lost", str(error) or type(error).__name__)


async def _whole(response: aiohttp.ClientResponse) -> Answer:
    return read_whole(await response.read())


def parse(argv: Sequence[str]) -> LoadOptions:
    """The command line as options. Raises SystemExit with code 2."""
    defaults = LoadOptions(url="")
    parser = argparse.ArgumentParser(prog="python -m inferway.bench.load", description=__doc__)
    parser.add_argument("url", help="the gateway, such as http://127.77.128.1:80")
    parser.add_argument("--requests", type=int, default=defaults.requests)
    parser.add_argument("--connections", type=int, default=defaults.connections)
    parser.add_argument("--mode", type=Mode, choices=list(Mode), default=defaults.mode)
    parser.add_argument("--model", action="append", dest="models", metavar="NAME")
    parser.add_argument("--max-tokens", type=int, default=defaults.max_tokens)
    parser.add_argument("--prompt-bytes", type=int, default=defaults.prompt_bytes)
    parser.add_argument("--seconds-max", type=float, default=defaults.seconds_max)
    words = vars(parser.parse_args(argv))
    words["models"] = tuple(words["models"] or defaults.models)
    words["url"] = words["url"].rstrip("/")
    return LoadOptions(**words)


def main(argv: Sequence[str]) -> int:
    """Prints the result as JSON; 1 when any answer was wrong."""
    result = asyncio.run(run(parse(argv)))
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(result), indent=2).decode() + "\n")
    return 1 if result.errors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
