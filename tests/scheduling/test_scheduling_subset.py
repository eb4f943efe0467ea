"""A gateway may restrict the choice to some endpoints."""

from __future__ import annotations

import random

import pytest

from inferway.scheduling.decision import Decision, Refusal, RefusalReason
from inferway.scheduling.policy import CostPolicy
from inferway.scheduling.pool import PoolScheduler
from inferway.scheduling.request import Request
from inferway.scheduling.snapshot import Endpoint

ADDRESSES = ("10.0.0.1:8000", "10.0.0.1:8001", "10.0.0.2:8000")


@pytest.mark.parametrize(
    ("subset", "allowed"),
    [
        (None, set(ADDRESSES)),
        (("10.0.0.1:8001",), {"10.0.0.1:8001"}),
        (("10.0.0.1",), {"10.0.0.1:8000", "10.0.0.1:8001"}),
        (("10.9.9.9:1", "10.0.0.2:8000"), {"10.0.0.2:8000"}),
        (("10.9.9.9:1", "10.0.0.2:8001"), set()),
    ],
)
def test_only_endpoints_of_the_subset_are_chosen(
    subset: tuple[str, ...] | None, allowed: set[str]
) -> None:
    pool = PoolScheduler(CostPolicy())
    pool.set_endpoints([Endpoint(one, one) for one in ADDRESSES], 0.0)
    request = Request("m", subset=None if subset is None else frozenset(subset))
    for seed in range(20):
        found = pool.decide(request, 1.0, random.Random(seed))
        if isinstance(found, Refusal):
            assert found.reason is RefusalReason.NO_ENDPOINT
            assert not allowed
            continue
        assert isinstance(found, Decision)
        assert {pool.columns.address[slot] for slot in found.slots} <= allowed
