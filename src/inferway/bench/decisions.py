"""What one decision costs, and what the picker's HTTP around it costs.

Method: a pool that has learned its rates and has requests in flight; prompts of several families
with a common beginning, half of each prompt new. ``us_per_decision`` is choice plus reservation
with the hashing of the prompt; ``cpu_ms_per_request`` is the CPU of everything between the bytes
of a callout and the bytes of its answer, decision included. Each figure is the median of rounds.
"""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import msgspec

from inferway.base.clock import SystemClock
from inferway.bench import processes
from inferway.picker import answers
from inferway.picker.debug import DecisionRing
from inferway.picker.machine import Callout, CalloutMachine
from inferway.picker.replies import Chosen
from inferway.picker.run import GC_THRESHOLDS
from inferway.picker.service import PickService, PoolRuntime
from inferway.picker.telemetry import Telemetry
from inferway.scheduling.decision import Decision
from inferway.scheduling.events import Finished, ModelCard
from inferway.scheduling.policy import CostPolicy
from inferway.scheduling.pool import PoolScheduler
from inferway.scheduling.request import ApiKind, Request
from inferway.scheduling.snapshot import Endpoint

ENDPOINTS = (10, 100, 1000)
BODY_BYTES = (1024, 4096, 65536, 409600)
ROUNDS = 7
DECISIONS_PER_ROUND = 2000
# Requests in flight per endpoint while measuring.
IN_FLIGHT = 4
FAMILIES = 16
OUTPUT = Path("build/bench/decide.json")

# What Envoy sends along; the picker skips most of it.
HEADERS = (
    b"host: 127.0.0.1\r\nuser-agent: OpenAI/Python 1.99.1\r\naccept: application/json\r\n"
    b"content-type: application/json\r\nx-forwarded-proto: http\r\n"
    b"x-request-id: 5f9e5b0e-6a55-4a9c-9e57-0d6c3c1c7a10\r\n"
    b"authorization: Bearer none\r\nx-stainless-lang: python\r\nx-stainless-os: Linux\r\n"
    b"x-stainless-runtime: CPython\r\nx-envoy-internal: true\r\nx-forwarded-for: 10.0.0.1\r\n"
    b"x-envoy-expected-rq-timeout-ms: 300000\r\n"
)


def main(code: str) -> int:
    """Measures, prints, writes; ``code`` says whether what is measured is compiled."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    rows = [measure(n, size) for n in ENDPOINTS for size in BODY_BYTES]
    print(f"decisions are {code}")
    print(f"{'endpoints':>10} {'body bytes':>11} {'us/decision':>12} {'cpu ms/request':>15}")
    for row in rows:
        print(
            f"{row['endpoints']:>10} {row['body_bytes']:>11} "
            f"{row['us_per_decision']:>12} {row['cpu_ms_per_request']:>15}"
        )
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    report = {"machine": processes.machine() | {"code": code}, "rows": rows}
    OUTPUT.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    return 0


def measure(endpoints: int, body_bytes: int) -> dict[str, float]:
    """One row."""
    decisions = statistics.median(_timed(_decisions(endpoints, body_bytes)))
    requests = statistics.median(_timed(_requests(endpoints, body_bytes)))
    return {
        "endpoints": endpoints,
        "body_bytes": body_bytes,
        "us_per_decision": round(decisions * 1e6, 1),
        "cpu_ms_per_request": round(requests * 1e3, 4),
    }


def _timed(step: Iterator[Callable[[], object]]) -> list[float]:
    """CPU seconds per call of each round; the work between calls is not counted."""
    result = []
    for _ in range(ROUNDS):
        spent = 0
        for _ in range(DECISIONS_PER_ROUND // ROUNDS):
            work = next(step)
            began = time.process_time_ns()
            work()
            spent += time.process_time_ns() - began
        result.append(spent * 1e-9 / (DECISIONS_PER_ROUND // ROUNDS) - _clock_cost())
    return result


def _clock_cost() -> float:
    began = time.process_time_ns()
    for _ in range(1000):
        time.process_time_ns()
    return (time.process_time_ns() - began) * 1e-12


def pool_of(endpoints: int) -> PoolScheduler:
    """A pool that has learned and is at work."""
    scheduler = PoolScheduler(CostPolicy())
    now = time.monotonic()
    addresses = [f"10.0.{n // 250}.{n % 250 + 1}:8000" for n in range(endpoints)]
    scheduler.set_endpoints([Endpoint(a, a) for a in addresses], now)
    for address in addresses:
        scheduler.observe_models(address, [ModelCard("m"), ModelCard("adapter", "m")])
    rng = random.Random(1)
    for n in range(max(16, IN_FLIGHT * endpoints)):
        request = Request("m", ApiKind.COMPLETIONS, b"p" * 2000 + str(n).encode(), stream=True)
        scheduler.pick(request, f"old{n}", "proxy", now, rng)
        if n < 16:
            event = Finished(
                f"old{n}",
                code=200,
                served=addresses[0],
                first_byte_seconds=0.1,
                last_byte_seconds=1.0,
                prompt_tokens=500,
                completion_tokens=50,
            )
            slot = scheduler.slot(addresses[0])
            assert slot is not None
            scheduler.rates.learn_prefill(slot, 500, 0.08)
            scheduler.settle(event, now)
    assert not scheduler.rates.poor
    return scheduler


def _prompts(body_bytes: int) -> Iterator[bytes]:
    rng = random.Random(2)
    half = max(1, body_bytes // 2)
    families = [rng.randbytes(half // 2 + 1).hex()[:half] for _ in range(FAMILIES)]
    for n in count():
        yield (families[n % FAMILIES] + rng.randbytes(half // 2 + 1).hex()[:half]).encode()


def _decisions(endpoints: int, body_bytes: int) -> Iterator[Callable[[], object]]:
    scheduler = pool_of(endpoints)
    rng = random.Random(3)
    for n, prompt in enumerate(_prompts(body_bytes)):
        request = Request("m", ApiKind.COMPLETIONS, prompt, stream=True, body_bytes=len(prompt))

        def work(n: int = n, request: Request = request) -> None:
            decision = scheduler.pick(request, str(n), "proxy", time.monotonic(), rng)
            assert isinstance(decision, Decision)

        yield work
        scheduler.settle(Finished(str(n), code=499), time.monotonic())


def _requests(endpoints: int, body_bytes: int) -> Iterator[Callable[[], object]]:
    scheduler = pool_of(endpoints)
    telemetry = Telemetry("ns/p", scheduler, DecisionRing(SystemClock()))
    runtime = PoolRuntime(scheduler, synced=True)
    service = PickService(
        {("ns", "p"): runtime}, SystemClock(), random.Random(4), telemetry, "bench"
    )
    protocol = CalloutMachine()
    for prompt in _prompts(body_bytes):
        body = b'{"model":"m","stream":true,"max_tokens":100,"prompt":"%b"}' % prompt
        data = b"POST /pick/ns/p/v1/completions HTTP/1.1\r\n%bcontent-length: %d\r\n\r\n%b" % (
            HEADERS,
            len(body),
            body,
        )
        replies: list[Chosen] = []

        def work(data: bytes = data, replies: list[Chosen] = replies) -> None:
            for command in protocol.handle(data):
                assert isinstance(command, Callout)
                reply = service.answer(command, "proxy")
                assert isinstance(reply, Chosen)
                answers.chosen(reply.addresses, reply.pick, reply.request_id)
                replies.append(reply)

        yield work
        scheduler.settle(Finished(replies[0].pick, code=499), time.monotonic())
