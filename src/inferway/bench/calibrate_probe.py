"""Asks a real server: what it is, how its tokens look, and how long probes take.

Knows vLLM's HTTP API and the names of its metrics; knows nothing of profiles. Times of the engine
are vLLM's own (``request_prefill_time_seconds`` and the like), so that a slow client is not
counted; what a client waits beyond them is the API server's.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import aiohttp

from inferway.base.errors import InferwayError
from inferway.bench.calibrate_plan import Probe, Seen

CONNECT_SECONDS_MAX = 5.0
# A request may queue behind others and prefill slowly on a CPU.
ANSWER_SECONDS_MAX = 300.0
# The engine's counts reach /metrics a moment after the answer is complete.
COUNTED_SECONDS_MAX = 10.0
LOOK_AGAIN_SECONDS = 0.02
# Letters of the text whose tokens are sent: far more than the longest prompt has tokens.
TEXT_WORDS = 6000
# Tokens between the beginnings of two prompts, so that no two share their first block.
STRIDE_TOKENS = 61
_CACHE_INFO = re.compile(r'(\w+)="([^"]*)"')
_TIMES = ("queue", "prefill", "decode")
Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Server:
    """What a server says about itself."""

    model: str
    max_model_len: int
    adapters: tuple[str, ...]
    version: str
    block_size_tokens: int
    kv_token_bytes: int


@dataclass(frozen=True, slots=True)
class Counts:
    """Sums and counts of a scrape: seconds of phases, finished requests, CPU of the API server."""

    seconds: Mapping[str, float]
    finished: float
    cpu_seconds: float


class Client:
    """A server that is calibrated. ``salt`` keeps its prefix cache from knowing our prompts."""

    def __init__(self, session: aiohttp.ClientSession, url: str, salt: str) -> None:
        self._session = session
        self._url = url.rstrip("/")
        self._salt = salt
        self._tokens: list[int] = []
        self._sent = 0

    @property
    def tokens(self) -> list[int]:
        """Tokens of the server's vocabulary, once it is prepared."""
        return self._tokens

    async def describe(self, model: str | None) -> Server:
        """Who answers. Raises InferwayError."""
        text = await self._metrics()
        if "vllm:" not in text:
            raise not_vllm(self._url, "its /metrics has no family of vLLM")
        cards = (await self._get("/v1/models")).get("data", [])
        base = [card for card in cards if not card.get("parent")]
        names = [card.get("id") for card in base]
        if not names or (model is not None and model not in names):
            raise InferwayError(
                "INFERWAY0510",
                f"no base model {model!r} at {self._url}; it serves {', '.join(map(str, names))}",
                fix="Name one of these with --model, or leave --model out.",
            )
        chosen = base[names.index(model)] if model else base[0]
        info = dict(_CACHE_INFO.findall(_line(text, "vllm:cache_config_info")))
        return Server(
            model=chosen["id"],
            max_model_len=int(chosen.get("max_model_len") or 2048),
            adapters=tuple(card["id"] for card in cards if card.get("parent") == chosen["id"]),
            version=str((await self._get("/version")).get("version", "")),
            block_size_tokens=_number(info.get("block_size"), 16),
            kv_token_bytes=_token_bytes(info),
        )

    async def prepare(self, model: str) -> None:
        """Learns what tokens look like. Raises InferwayError."""
        rng = random.Random(self._salt)
        letters = "abcdefghijklmnopqrstuvwxyz"
        words = ("".join(rng.choices(letters, k=rng.randint(2, 8))) for _ in range(TEXT_WORDS))
        answer = await self._post("/tokenize", {"model": model, "prompt": " ".join(words)})
        self._tokens = answer["tokens"]

    async def probe(self, probe: Probe, model: str) -> Seen:
        """Sends one probe and reads what the engine says it took. Raises InferwayError."""
        before = await self.counts()
        answers = await asyncio.gather(
            *(self._ask(probe, probe.adapter or model) for _ in range(probe.sequences))
        )
        after = await self._counted(before.finished + probe.sequences)
        spent = {name: after.seconds[name] - before.seconds[name] for name in _TIMES}
        count = probe.sequences
        span = max(a[-1] for _, a in answers) - min(a[0] for _, a in answers)
        running = min(spent["decode"] / span, count) if span > 0.0 else 1.0
        waited = sum(arrived[0] - began for began, arrived in answers)
        alone = answers[0][1] if count == 1 else []
        return Seen(
            probe,
            prefill=spent["prefill"] / count,
            step=spent["decode"] / (count * max(probe.output_tokens - 1, 1)),
            overhead=max((waited - spent["prefill"] - spent["queue"]) / count, 0.0),
            running=max(running, 1.0),
            gaps=tuple(b - a for a, b in pairwise(alone)),
        )

    async def counts(self) -> Counts:
        """The sums of this moment. Raises InferwayError."""
        text = await self._metrics()
        seconds = {name: _total(text, f"vllm:request_{name}_time_seconds_sum") for name in _TIMES}
        return Counts(
            seconds,
            _total(text, "vllm:request_decode_time_seconds_count"),
            _total(text, "process_cpu_seconds_total"),
        )

    async def _counted(self, finished: float) -> Counts:
        deadline = time.monotonic() + COUNTED_SECONDS_MAX
        while True:
            found = await self.counts()
            if found.finished >= finished:
                return found
            if time.monotonic() > deadline:
                raise not_vllm(self._url, "it does not count finished requests")
            await asyncio.sleep(LOOK_AGAIN_SECONDS)

    async def _ask(self, probe: Probe, model: str) -> tuple[float, list[float]]:
        """Sends one prompt; returns when it was sent, and when its tokens came."""
        begin = self._sent * STRIDE_TOKENS % max(len(self._tokens) - probe.prompt_tokens, 1)
        self._sent += 1
        body = {
            "model": model,
            "prompt": self._tokens[begin : begin + probe.prompt_tokens],
            "max_tokens": probe.output_tokens,
            "temperature": 0.0,
            "ignore_eos": True,
            "cache_salt": self._salt,
            "stream": True,
        }
        began = time.perf_counter()
        arrived: list[float] = []
        try:
            async with self._session.post(self._url + "/v1/completions", json=body) as response:
                if response.status != 200:
                    raise not_vllm(self._url, f"a prompt is refused: {await response.text()}")
                arrived = [
                    time.perf_counter()
                    async for line in response.content
                    if line.startswith(b"data: {")
                ]
        except (aiohttp.ClientError, TimeoutError) as error:
            raise unreachable(self._url, error) from None
        if not arrived:
            raise not_vllm(self._url, "a stream has no token")
        return began, arrived

    async def _metrics(self) -> str:
        try:
            async with self._session.get(self._url + "/metrics") as response:
                return await response.text() if response.status == 200 else ""
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise unreachable(self._url, error) from None

    async def _get(self, path: str) -> Document:
        return await self._json("GET", path, None)

    async def _post(self, path: str, body: Document) -> Document:
        return await self._json("POST", path, body)

    async def _json(self, method: str, path: str, body: Document | None) -> Document:
        try:
            async with self._session.request(method, self._url + path, json=body) as response:
                if response.status != 200:
                    raise not_vllm(self._url, f"{path} answers {response.status}")
                found = await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise unreachable(self._url, error) from None
        except ValueError:
            raise not_vllm(self._url, f"{path} is no JSON") from None
        return found if isinstance(found, dict) else {}


def unreachable(url: str, error: Exception) -> InferwayError:
    return InferwayError(
        "INFERWAY0507",
        f"no answer from {url}: {error or type(error).__name__}",
        fix="Name the base URL of a running vLLM, such as http://127.0.0.1:8000.",
    )


def not_vllm(url: str, why: str) -> InferwayError:
    return InferwayError(
        "INFERWAY0508",
        f"{url} does not behave as vLLM: {why}",
        fix="Name a vLLM server itself, not a gateway in front of several; its /metrics, "
        "/tokenize and /v1/completions are needed.",
    )


def _line(text: str, name: str) -> str:
    for line in text.splitlines():
        if line.startswith(name + "{"):
            return line
    return ""


def _total(text: str, name: str) -> float:
    """The sum of all samples of a name."""
    return sum(
        float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line.startswith((name + "{", name + " "))
    )


def _number(text: str | None, default: int) -> int:
    return int(text) if text and text.isdigit() and int(text) > 0 else default


def _token_bytes(info: Mapping[str, str]) -> int:
    """Bytes of the cache for a token; older versions do not say, and keep a common size."""
    memory = _number(info.get("kv_cache_memory_bytes"), 0)
    tokens = _number(info.get("kv_cache_size_tokens"), 0)
    return max(memory // tokens, 1) if memory and tokens else 28_672
