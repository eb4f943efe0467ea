"""Headers that ask something of the picker: both families, bad values, what policies read."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferway.base.clock import ManualClock
from inferway.picker.debug import DecisionRing
from inferway.picker.machine import Callout
from inferway.picker.replies import Chosen, Later, Refused, Reply
from inferway.picker.service import PickService, PoolRuntime
from inferway.picker.telemetry import Telemetry
from inferway.picker.wishes import HEADERS, NO_WISHES, READ, SECONDS_MAX, Wishes, wishes_of
from inferway.scheduling.decision import Decision
from inferway.scheduling.policy import CostPolicy
from inferway.scheduling.pool import PoolScheduler
from inferway.scheduling.request import Request, Rng
from inferway.scheduling.snapshot import Endpoint, Snapshot


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        ({}, NO_WISHES),
        ({"x-gateway-inference-objective": "o"}, Wishes(objective="o")),
        (
            {"x-gateway-inference-objective": "old", "x-llm-d-inference-objective": "new"},
            Wishes(objective="new"),
        ),
        ({"x-llm-d-inference-fairness-id": "t1"}, Wishes(fairness_id="t1")),
        ({"x-gateway-model-name-rewrite": "m2"}, Wishes(model="m2")),
        ({"x-slo-ttft-ms": "250", "x-llm-d-slo-tpot-ms": "40.5"}, Wishes("", "", "", 250.0, 40.5)),
        ({"x-llm-d-inference-ttl": "1500ms"}, Wishes(ttl_seconds=1.5)),
        ({"x-llm-d-inference-ttl": "2s"}, Wishes(ttl_seconds=2.0)),
        ({"x-llm-d-inference-ttl": "3m"}, Wishes(ttl_seconds=180.0)),
        ({"x-llm-d-inference-ttl": "0.5"}, Wishes(ttl_seconds=0.5)),
        ({"x-llm-d-inference-ttl": "9999999"}, Wishes(ttl_seconds=SECONDS_MAX)),
        ({"x-session-token": "s"}, Wishes(session=b"s")),
        ({"prefer": "wait=5, If-Available; x=1"}, Wishes(if_available=True)),
        ({"prefer": "respond-async"}, NO_WISHES),
        ({"prefer": "restore-model, if-available"}, Wishes(if_available=True, restore_model=True)),
        ({"test-epp-endpoint-selection": "10.0.0.1,10.0.0.2:80"},
         Wishes(only=("10.0.0.1", "10.0.0.2:80"))),
        ({"content-encoding": "gzip"}, Wishes(encoded=True)),
        ({"content-encoding": "Identity"}, NO_WISHES),
        ({"x-inferway-explain": "1"}, Wishes(explain=True)),
        ({"x-slo-ttft-ms": "soon"}, NO_WISHES),
        ({"x-slo-ttft-ms": "nan"}, NO_WISHES),
        ({"x-slo-ttft-ms": "-1"}, NO_WISHES),
        ({"x-llm-d-inference-ttl": "inf"}, NO_WISHES),
        ({"x-llm-d-inference-objective": "o" * 300}, NO_WISHES),
    ],
)  # fmt: skip
def test_wishes(headers: dict[str, str], wanted: Wishes) -> None:
    assert wishes_of({n.encode(): v.encode() for n, v in headers.items()}) == wanted


def test_every_field_has_a_header() -> None:
    assert {header.field for header in HEADERS} == set(Wishes.__struct_fields__)


@pytest.mark.fuzz
@given(st.dictionaries(st.sampled_from(sorted(READ)), st.binary(max_size=64)))
def test_nothing_raises(headers: dict[bytes, bytes]) -> None:
    found = wishes_of(headers)
    assert 0 <= found.ttl_seconds <= SECONDS_MAX
    msgspec.structs.asdict(found)


class Tiered:
    """The default policy, but for a header that it reads and some that it sets on what goes on."""

    def __init__(self) -> None:
        self._policy = CostPolicy()
        self.headers = frozenset({"x-tier"})

    def __getattr__(self, name: str) -> object:
        return getattr(self._policy, name)

    def rank(
        self, request: Request, snapshot: Snapshot, slots: list[int], now: float, rng: Rng
    ) -> Decision:
        self.seen = dict(request.headers)
        decision = self._policy.rank(request, snapshot, slots, now, rng)
        decision.headers = (("x-to-server", "1"),)
        decision.response_headers = (("x-to-client", "2"),)
        return decision


def service_of(scheduler: PoolScheduler) -> PickService:
    clock = ManualClock()
    telemetry = Telemetry("ns/p", scheduler, DecisionRing(clock))
    pools = {("ns", "p"): PoolRuntime(scheduler, synced=True)}
    return PickService(pools, clock, random.Random(1), telemetry, "t")


def ask(service: PickService, headers: dict[bytes, bytes], prompt: bytes = b"x") -> Reply | Later:
    body = b'{"model":"m","prompt":"%b"}' % prompt
    return service.answer(
        Callout(b"POST", b"/pick/ns/p/v1/completions", body, b"r", headers), "proxy"
    )


def test_a_request_can_want_its_prompt_in_a_cache() -> None:
    scheduler = PoolScheduler(CostPolicy())
    scheduler.set_endpoints([Endpoint("10.0.0.1:80", "a")], 0.0)
    service = service_of(scheduler)
    wish = {b"prefer": b"if-available"}
    prompt = b"long " * 100
    refused = ask(service, wish, prompt)
    assert isinstance(refused, Refused)
    assert (refused.answer.status, refused.answer.code) == (412, "not_cached")
    assert scheduler.in_flight() == {"10.0.0.1:80": 0}
    assert isinstance(ask(service, {}, prompt), Chosen)
    assert isinstance(ask(service, wish, prompt), Chosen)


def test_a_policy_gets_the_headers_it_reads_and_sets_others() -> None:
    policy = Tiered()
    scheduler = PoolScheduler(policy)
    scheduler.set_endpoints([Endpoint("10.0.0.1:80", "a")], 0.0)
    service = service_of(scheduler)
    assert service.declared == {b"x-tier"}
    reply = ask(service, {b"x-tier": b"gold", b"x-other": b"1"})
    assert isinstance(reply, Chosen)
    assert policy.seen == {"x-tier": "gold"}
    assert reply.headers == (("x-to-server", "1"),)
    assert reply.response_headers == (("x-to-client", "2"),)
