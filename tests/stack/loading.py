"""A bounded load through the gateway while something happens, and what became of each request.

Half of the requests are streams, which must end as streams end. Knows OpenAI's API only.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp

CLIENTS = 6
ANSWER_SECONDS_MAX = 60.0
DEADLINE_SECONDS = 60.0


@dataclass
class Load:
    """What is asked, and what was answered."""

    url: str
    model: str
    tokens: int = 40
    good: int = 0
    # Models as the answers name them.
    models: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    stopping: bool = False
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def more(self, count: int) -> None:
        """Waits until so many further requests have been answered or one has failed."""
        wanted = self.good + count
        async with asyncio.timeout(DEADLINE_SECONDS):
            while self.good < wanted and not self.failures:
                self._changed.clear()
                await self._changed.wait()

    async def one_client(self, number: int) -> None:
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS_MAX)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            count = 0
            while not self.stopping:
                count += 1
                try:
                    problem = await self._ask(session, stream=count % 2 == 0, text=f"{number}")
                except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                    problem = repr(error)
                if problem:
                    self.failures.append(problem)
                else:
                    self.good += 1
                self._changed.set()

    async def _ask(self, session: aiohttp.ClientSession, *, stream: bool, text: str) -> str:
        """What is wrong with the answer, or nothing."""
        body = {
            "model": self.model,
            "prompt": f"Client {text} says",
            "max_tokens": self.tokens,
            "stream": stream,
        }
        async with session.post(f"{self.url}/v1/completions", json=body) as answer:
            data = await answer.text()
            if answer.status != 200:
                return f"{answer.status}: {data}"
            if stream:
                if not data.rstrip().endswith("data: [DONE]"):
                    return f"the stream ends with {data[-200:]!r}"
                data = data.split("\n", 1)[0].removeprefix("data: ")
            self.models[json.loads(data)["model"]] += 1
        return ""


@asynccontextmanager
async def load(url: str, model: str) -> AsyncIterator[Load]:
    """Asks until the block ends; then every request is answered, and none may have failed."""
    made = Load(url, model)
    async with asyncio.TaskGroup() as tasks:
        for number in range(CLIENTS):
            tasks.create_task(made.one_client(number), name=f"client {number}")
        try:
            await made.more(CLIENTS)
            yield made
        finally:
            made.stopping = True
    assert made.failures == [], f"{len(made.failures)} failed, {made.good} did not"
    assert made.good > CLIENTS
