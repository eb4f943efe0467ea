"""Whole conversations against files: testdata/CASE.in.json is asked, CASE.out.txt is the answer.

What differs from run to run (ids, times, what the process uses) is masked. The files are written
anew by INFERWAY_UPDATE_GOLDEN=1; read the difference before it is committed.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest

DATA = Path(__file__).parent / "testdata"
CASES = sorted(path.name.removesuffix(".in.json") for path in DATA.glob("*.in.json"))
UPDATE = os.environ.get("INFERWAY_UPDATE_GOLDEN") == "1"
MASKS = (
    (re.compile(r"[0-9a-f]{32}"), "ID"),
    (re.compile(r'"created":\d+'), '"created":TIME'),
    (re.compile(r"(?m)^date: .*$"), "date: DATE"),
    # Times and numbers have more or fewer digits.
    (re.compile(r"(?m)^content-length: .*$"), "content-length: LENGTH"),
    (re.compile(r"(?m)^(\S*_created\{.*\}) \S+$"), r"\1 TIME"),
    (re.compile(r"(?m)^(process_\w+) \S+$"), r"\1 NUMBER"),
)


@pytest.mark.parametrize("case", CASES)
async def test_conversation(start: Callable[..., Awaitable[str]], case: str) -> None:
    asked = json.loads((DATA / f"{case}.in.json").read_text())
    url = await start(
        "--served-model-name", "Qwen/Qwen2.5-1.5B-Instruct", "--profile", "instant",
        "--enable-lora", "--max-loras", "4", "--lora-modules", "food-review=repo/food",
        env={"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "true"},
    )  # fmt: skip
    body = asked.get("body")
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.request("POST" if body else "GET", url + asked["path"], json=body) as response,
    ):
        lines = [f"{response.status} {response.reason}"]
        lines += [f"{name.lower()}: {value}" for name, value in response.headers.items()]
        text = "\n".join(lines) + "\n\n" + await response.text()
    for pattern, replacement in MASKS:
        text = pattern.sub(replacement, text)
    path = DATA / f"{case}.out.txt"
    if UPDATE:
        path.write_text(text)
    assert text == path.read_text()


def test_no_answer_is_left_without_its_question() -> None:
    answers = sorted(path.name.removesuffix(".out.txt") for path in DATA.glob("*.out.txt"))
    assert answers == CASES
