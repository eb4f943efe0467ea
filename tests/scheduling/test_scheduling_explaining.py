"""An explanation: signals and their ages, the prediction, and what other rules would have done."""

from __future__ import annotations

import random

import msgspec
import pytest

from inferway.scheduling.counterfactual import LEAST_REQUESTS, LMETRIC, PUBLISHED, others
from inferway.scheduling.decision import Decision, Explanation
from inferway.scheduling.events import ModelCard, Scrape
from inferway.scheduling.policy import CostPolicy, blocks_of
from inferway.scheduling.pool import PoolScheduler
from inferway.scheduling.request import ApiKind, Request
from inferway.scheduling.snapshot import Endpoint

ADDRESSES = ("a:1", "b:1", "c:1")
SECRET = b"a prompt that nobody may read in a list of decisions" * 20
REQUEST = Request("m", ApiKind.CHAT, SECRET)


def pool() -> PoolScheduler:
    made = PoolScheduler(CostPolicy())
    made.set_endpoints([Endpoint(a, a[0]) for a in ADDRESSES], 0.0)
    for address in ADDRESSES:
        made.observe_models(address, [ModelCard("m")])
    return made


def explained(made: PoolScheduler, now: float) -> Explanation:
    decision = made.decide(REQUEST, now, random.Random(1))
    assert isinstance(decision, Decision)
    return made.explain(REQUEST, decision, now)


def test_each_candidate_shows_its_signals_and_their_ages() -> None:
    made = pool()
    made.observe("a:1", Scrape(waiting=3, running=2, kv_use=0.5), 1.0)
    seen = explained(made, 3.0)
    row = {one["endpoint"]: one for one in seen.candidates}["a:1"]
    assert (row["waiting"], row["kv_use"]) == (3, 0.5)
    assert row["scrape_age_seconds"] == 2.0
    assert row["model_age_seconds"] == 2.0
    assert row["predicted_ttft_seconds"] > 0
    assert {one["endpoint"]: one for one in seen.candidates}["b:1"]["scrape_age_seconds"] is None
    text = msgspec.json.encode(seen)
    assert SECRET[:12] not in text
    assert b"Infinity" not in text


@pytest.mark.parametrize(
    ("rule", "expected"), [(LEAST_REQUESTS, "c:1"), (PUBLISHED, "b:1"), (LMETRIC, "a:1")]
)
def test_other_rules_choose_by_what_they_look_at(rule: str, expected: str) -> None:
    """a has the prompt in its cache and two requests, b waits for nothing, c has none of ours."""
    made = pool()
    made.observe("a:1", Scrape(waiting=4, running=2, kv_use=0.9), 1.0)
    made.observe("b:1", Scrape(waiting=0, running=1, kv_use=0.1), 1.0)
    made.observe("c:1", Scrape(waiting=4, running=0, kv_use=0.9), 1.0)
    c = made.columns
    slot = {address: made.slot(address) or 0 for address in ADDRESSES}
    c.in_flight[slot["a:1"]], c.in_flight[slot["b:1"]], c.in_flight[slot["c:1"]] = 2, 3, 0
    for address in ADDRESSES:
        c.foreign[slot[address]] = 0.0
        c.backlog_tokens[slot[address]] = 0.0
    matched = {slot["a:1"]: len(SECRET)}
    found = others(REQUEST, made.snapshot(), [slot[a] for a in ADDRESSES], matched, 1.0)
    assert found[rule] == expected


def test_without_candidates_no_rule_chooses() -> None:
    assert others(REQUEST, pool().snapshot(), [], {}, 0.0) == {}
    assert blocks_of(REQUEST).hashes
