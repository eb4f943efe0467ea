"""Bytes per token of one prompt: text by the learned ratio, the rest as it was counted."""

from __future__ import annotations

import random

import pytest

from inferway.scheduling.decision import Decision
from inferway.scheduling.policy import CostPolicy
from inferway.scheduling.pool import PoolScheduler
from inferway.scheduling.request import ApiKind, Request
from inferway.scheduling.snapshot import Endpoint
from inferway.scheduling.tokens import TokenRatios


@pytest.mark.parametrize(
    ("counted_bytes", "counted_tokens", "per_token"),
    [
        (0, 0.0, 4.0),
        # 1000 bytes of token ids.
        (1000, 200.0, 5.0),
        # 600 of 1000 bytes are a picture of 150 tokens, the others 100 tokens of text.
        (600, 150.0, 4.0),
        # A picture behind an address: no bytes, many tokens.
        (0, 750.0, 1.0),
    ],
)
def test_what_is_counted_is_not_estimated(
    counted_bytes: int, counted_tokens: float, per_token: float
) -> None:
    request = Request(
        "m", prompt=b"x" * 1000, counted_bytes=counted_bytes, counted_tokens=counted_tokens
    )
    assert TokenRatios().per_token(request) == pytest.approx(per_token)


def test_a_decision_knows_the_tokens_of_a_picture() -> None:
    scheduler = PoolScheduler(CostPolicy())
    scheduler.set_endpoints([Endpoint("10.0.0.1:80", "a")], 0.0)
    request = Request(
        "m", ApiKind.CHAT, b"x" * 100_400, counted_bytes=100_000, counted_tokens=1024.0
    )
    decision = scheduler.pick(request, "p", "proxy", 0.0, random.Random(1))
    assert isinstance(decision, Decision)
    assert decision.prompt_tokens == pytest.approx(1124.0)
