"""Conversations with a pool's scheduler: each file is a script, read aloud.

Lines: ``at T`` sets the time; ``servers A B`` the endpoints; ``models A: m, x<m`` what one serves;
``metrics A waiting=.. running=.. kv=.. loras=.. adapters=a+b``; ``pick ID model [N bytes of L]``
with an expected answer after ``->`` (an endpoint, ``any``, or a refusal's reason);
``done ID [first=..] [last=..] [in=..] [out=..] [served=..]``; ``fails ID``;
``expect A in_flight=N``; ``teach SPEED STEP`` (prefill tokens per second, seconds).
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from inferway.scheduling.decision import Refusal
from inferway.scheduling.events import Finished, ModelCard, Scrape, Tick
from inferway.scheduling.policy import CostPolicy
from inferway.scheduling.pool import PoolScheduler
from inferway.scheduling.request import ApiKind, Request
from inferway.scheduling.snapshot import Endpoint

SCRIPTS = sorted((Path(__file__).parent / "testdata").glob("*.script"))


def words_to_values(words: list[str]) -> dict[str, str]:
    return dict(word.split("=", 1) for word in words)


class Conversation:
    def __init__(self) -> None:
        self.pool = PoolScheduler(CostPolicy())
        self.rng = random.Random(11)
        self.now = 0.0

    def line(self, text: str) -> None:
        command, _, rest = text.partition(" ")
        getattr(self, "do_" + command)(rest)

    def do_at(self, rest: str) -> None:
        self.now = float(rest)
        self.pool.settle(Tick(), self.now)

    def do_servers(self, rest: str) -> None:
        self.pool.set_endpoints([Endpoint(word) for word in rest.split()], self.now)

    def do_models(self, rest: str) -> None:
        server, _, names = rest.partition(": ")
        cards = []
        for name in names.split(","):
            model, _, parent = name.strip().partition("<")
            cards.append(ModelCard(model, parent))
        self.pool.observe_models(server, cards)

    def do_metrics(self, rest: str) -> None:
        server, *words = rest.split()
        values = words_to_values(words)
        scrape = Scrape(
            waiting=float(values.get("waiting", 0)),
            running=float(values.get("running", 0)),
            kv_use=float(values.get("kv", 0)),
            max_loras=int(values.get("loras", 0)),
            running_adapters=frozenset(filter(None, values.get("adapters", "").split("+"))),
        )
        self.pool.observe(server, scrape, self.now)

    def do_pick(self, rest: str) -> None:
        question, _, expected = rest.partition(" -> ")
        pick, model, *prompt = question.split()
        size, letter = (int(prompt[0]), prompt[1]) if prompt else (0, "x")
        request = Request(
            "" if model == "-" else model,
            ApiKind.COMPLETIONS,
            letter.encode() * size,
            stream=True,
        )
        decision = self.pool.pick(request, pick, "proxy", self.now, self.rng)
        if isinstance(decision, Refusal):
            got = decision.reason.value
        else:
            got = self.pool.columns.address[decision.slots[0]]
        assert expected in {got, "any"}, f"{rest}: got {got}"

    def do_done(self, rest: str) -> None:
        pick, *words = rest.split()
        values = words_to_values(words)
        event: dict[str, Any] = {"code": 200, "served": values.get("served", "")}
        for name, field in (("first", "first_byte_seconds"), ("last", "last_byte_seconds")):
            if name in values:
                event[field] = float(values[name])
        for name, field in (("in", "prompt_tokens"), ("out", "completion_tokens")):
            event[field] = int(values.get(name, 0))
        assert self.pool.settle(Finished(pick, **event), self.now)

    def do_fails(self, rest: str) -> None:
        self.pool.settle(Finished(rest, code=503, failed=True), self.now)

    def do_teach(self, rest: str) -> None:
        """Rates as after many answers: tokens per second of prefill, seconds of a step."""
        speed, step = (float(word) for word in rest.split())
        for slot in self.pool.columns.live:
            for _ in range(80):
                self.pool.rates.learn_prefill(slot, 1000, 1000 / speed)
                self.pool.rates.learn_step(slot, 4, step)
        for address in list(self.pool.in_flight()):
            self.pool.refresh_rates(address, self.now)

    def do_expect(self, rest: str) -> None:
        server, *words = rest.split()
        for name, value in words_to_values(words).items():
            assert name == "in_flight"
            assert self.pool.in_flight()[server] == int(value), rest


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_script(script: Path) -> None:
    conversation = Conversation()
    for number, text in enumerate(script.read_text().splitlines(), 1):
        line = text.partition("#")[0].strip()
        if not line:
            continue
        try:
            conversation.line(line)
        except AssertionError as error:
            raise AssertionError(f"{script.name}:{number}: {error}") from error


def test_there_are_scripts() -> None:
    assert len(SCRIPTS) >= 6
