"""Sends the requests of a replay to servers at their times and reads how long each took.

Knows vLLM's HTTP API; an answer that is not whole is an error, never a figure.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp

from inferway.base.errors import InferwayError
from inferway.bench.load import quantile
from inferway.bench.replay_policies import Policy
from inferway.bench.replay_trace import Call, prompt

ANSWER_SECONDS_MAX = 300.0
# Requests that may be under way; more would mean that the servers cannot keep up at all.
CONNECTIONS_MAX = 512


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of one request: until its first token, and until its end."""

    first: float
    last: float


@dataclass(frozen=True, slots=True)
class Summary:
    """The quantiles of a run, in seconds."""

    ttft_p50: float
    ttft_p95: float
    e2e_p50: float
    e2e_p95: float
    ttft_mean: float
    e2e_mean: float


def summarize(times: Sequence[Times]) -> Summary:
    first = [one.first for one in times]
    last = [one.last for one in times]
    return Summary(
        quantile(first, 0.50),
        quantile(first, 0.95),
        quantile(last, 0.50),
        quantile(last, 0.95),
        sum(first) / len(first),
        sum(last) / len(last),
    )


@dataclass(frozen=True, slots=True)
class Run:
    """One replay: what is asked, of whom, and how fast. ``gap`` is seconds between arrivals."""

    calls: Sequence[Call]
    tokens: Sequence[int]
    urls: Sequence[str]
    model: str
    gap: float
    number: int


async def replay(run: Run, policy: Policy) -> list[Times]:
    """Sends everything; returns the times in the order of the requests. Raises InferwayError."""
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS_MAX)
    connector = aiohttp.TCPConnector(limit=CONNECTIONS_MAX)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        start = asyncio.get_running_loop().time()
        tasks = []
        try:
            async with asyncio.TaskGroup() as group:
                for call in run.calls:
                    task = _send(session, run, policy, call, start)
                    tasks.append(group.create_task(task, name=f"request {call.number}"))
        except* InferwayError as errors:
            raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


async def _send(
    session: aiohttp.ClientSession, run: Run, policy: Policy, call: Call, start: float
) -> Times:
    loop = asyncio.get_running_loop()
    await asyncio.sleep(max(start + call.at * run.gap - loop.time(), 0.0))
    tokens = prompt(call, run.tokens, run.number)
    began = loop.time()
    server = policy.choose(call, tokens, began)
    body = {
        "model": run.model,
        "prompt": tokens,
        "max_tokens": call.output_tokens,
        "temperature": 0.0,
        "ignore_eos": True,
        "stream": True,
    }
    first = last = 0.0
    whole = False
    try:
        async with session.post(run.urls[server] + "/v1/completions", json=body) as answer:
            async for line in answer.content:
                if line.startswith(b"data: {"):
                    last = loop.time() - began
                    first = first or last
                whole = whole or line.startswith(b"data: [DONE]")
    except (aiohttp.ClientError, TimeoutError) as error:
        raise _broken(run.urls[server], str(error) or type(error).__name__) from None
    if not whole or not first:
        raise _broken(run.urls[server], f"request {call.number} has no whole answer")
    policy.ended(call, server, (first, last), loop.time())
    return Times(first, last)


def _broken(url: str, why: str) -> InferwayError:
    return InferwayError(
        "INFERWAY0513",
        f"the replay at {url} failed: {why}",
        fix="See the server's log; a replay counts only where every request was answered.",
    )
