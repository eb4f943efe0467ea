"""Requests that wait for a pool's first endpoint, over real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import msgspec
import pytest
from fake_server import FakeServer
from test_picker_channel import Proxy
from test_picker_frames import CANCEL, frame, question
from test_picker_process import BASE, DEADLINE_SECONDS, ask, picker_for, until

from inferway.picker.annotations import HOLD_REQUESTS, HOLD_TIMEOUT, flow_options
from inferway.picker.answers import DECIDED_UNAVAILABLE_STATUS
from inferway.picker.run import Picker
from inferway.scheduling.flow.events import LEFT
from inferway.scheduling.flow.options import FlowOptions
from inferway.scheduling.snapshot import Endpoint

BODY = {"model": "m", "prompt": "x"}


@asynccontextmanager
async def empty_pool(**annotations: str) -> AsyncIterator[tuple[Picker, FakeServer]]:
    """A picker whose only server is not there any more, and the server."""
    async with FakeServer([BASE]).serving() as server, picker_for(server.address) as picker:
        picker.first.set_annotations(annotations)
        picker.first.set_endpoints([])
        async with asyncio.timeout(2 * DEADLINE_SECONDS):
            yield picker, server


async def metrics(picker: Picker) -> str:
    url = f"http://127.0.0.1:{picker.ports['metrics']}/metrics"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return await answer.text()


@pytest.mark.slow
async def test_waits_for_the_first_server() -> None:
    async with (
        empty_pool(**{HOLD_TIMEOUT: "30s"}) as (picker, server),
        asyncio.TaskGroup() as tasks,
    ):
        asked = [tasks.create_task(ask(picker, BODY)) for _ in range(3)]
        await until(lambda: len(picker.flow.queue) == 3)
        text = await metrics(picker)
        assert 'inferway_pool_held_requests{name="p",pool="ns/p"} 3.0' in text
        assert 'inferway_pool_queued_requests{name="p",pool="ns/p"} 3.0' in text
        assert 'inferway_pool_ready_endpoints{name="p",pool="ns/p"} 0.0' in text
        flow = 'flow_control_queue_size{fairness_id="default-flow",'
        assert f'inference_extension_{flow}priority="0"}} 3.0' in text
        picker.first.set_endpoints([Endpoint(server.address, "a")])
        for status, headers, _ in await asyncio.gather(*asked):
            assert status == 200
            assert headers["x-gateway-destination-endpoint"] == server.address
        # The next one does not wait.
        assert (await ask(picker, BODY))[0] == 200
        text = await metrics(picker)
        assert 'inferway_pool_held_requests{name="p",pool="ns/p"} 0.0' in text
        assert 'inferway_pool_held_ended_total{outcome="Dispatched",pool="ns/p"} 3.0' in text
        assert 'inferway_picker_decisions_total{outcome="chosen",pool="ns/p"} 4.0' in text
        assert 'flow_control_requests_total{inference_pool="p",outcome="Dispatched"' in text


async def test_no_longer_than_it_may() -> None:
    async with empty_pool(**{HOLD_TIMEOUT: "100ms"}) as (picker, _):
        status, headers, body = await ask(picker, BODY)
        assert status == DECIDED_UNAVAILABLE_STATUS
        assert headers["retry-after"] == "5"
        error = json.loads(body)["error"]
        assert error["code"] == "no_endpoint"
        assert "no ready endpoint for 0.1" in error["message"]
        assert "EvictedNoEndpoints" in await metrics(picker)
        assert headers["x-llm-d-request-dropped-reason"] == "rejected-ttl-expired"


@pytest.mark.slow
async def test_no_more_than_may_wait() -> None:
    annotations = {HOLD_TIMEOUT: "30s", HOLD_REQUESTS: "1"}
    async with empty_pool(**annotations) as (picker, server), asyncio.TaskGroup() as tasks:
        first = tasks.create_task(ask(picker, BODY))
        await until(lambda: len(picker.flow.queue) == 1)
        status, headers, body = await ask(picker, BODY)
        assert (status, headers["retry-after"]) == (DECIDED_UNAVAILABLE_STATUS, "5")
        assert b"as many requests as may wait" in body
        picker.first.set_endpoints([Endpoint(server.address, "a")])
        assert (await first)[0] == 200


async def test_a_client_that_leaves_is_dropped_at_once() -> None:
    async with empty_pool(**{HOLD_TIMEOUT: "30s"}) as (picker, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", picker.ports["pick"])
        writer.write(
            b'POST /pick/ns/p/v1/completions HTTP/1.1\r\ncontent-length: 13\r\n\r\n{"model":"m"}'
        )
        await until(lambda: len(picker.flow.queue) == 1)
        writer.close()
        await until(lambda: len(picker.flow.queue) == 0)
        assert picker.flow.counts.requests[LEFT, 0] == 1
        del reader


async def test_without_the_annotation_the_answer_is_at_once() -> None:
    async with empty_pool() as (picker, _):
        status, headers, _ = await ask(picker, BODY)
        assert (status, headers["retry-after"]) == (DECIDED_UNAVAILABLE_STATUS, "1")


async def test_a_picker_that_stops_answers_those_that_wait() -> None:
    async with asyncio.TaskGroup() as tasks:
        async with empty_pool(**{HOLD_TIMEOUT: "30s"}) as (picker, _):
            waiting = tasks.create_task(ask(picker, BODY))
            await until(lambda: len(picker.flow.queue) == 1)
        status, headers, body = await waiting
    assert (status, headers["x-should-retry"]) == (DECIDED_UNAVAILABLE_STATUS, "true")
    assert b"stopping" in body


@pytest.mark.slow
async def test_on_the_channel_one_leaves_and_the_others_wait_on() -> None:
    async with empty_pool(**{HOLD_TIMEOUT: "30s"}) as (picker, server):
        reader, writer = await asyncio.open_connection("127.0.0.1", picker.ports["pick"])
        proxy = Proxy(reader, writer)
        body = json.dumps(BODY).encode()
        writer.write(b"".join(question(number, body) for number in (1, 2, 3)))
        await until(lambda: len(picker.flow.queue) == 3)
        writer.write(frame(CANCEL, 2))
        await until(lambda: len(picker.flow.queue) == 2)
        picker.first.set_endpoints([Endpoint(server.address, "a")])
        answers = [await proxy.answer() for _ in range(2)]
        assert [(number, verdict) for number, verdict, _, _ in answers] == [(1, 1), (3, 1)]
        assert sum(picker.scheduler.in_flight().values()) == 2
        # Who is gone leaves with all that it asked.
        picker.first.set_endpoints([])
        writer.write(question(4, body))
        await until(lambda: len(picker.flow.queue) == 1)
        writer.transport.abort()
        await until(lambda: len(picker.flow.queue) == 0)
        assert picker.flow.counts.requests[LEFT, 0] == 2


@pytest.mark.slow
async def test_a_wait_for_an_adapter_may_follow_and_can_be_left() -> None:
    async with empty_pool(**{HOLD_TIMEOUT: "30s"}) as (picker, server):
        adapters = SlowAdapters()
        picker.pool.adapters = adapters
        reader, writer = await asyncio.open_connection("127.0.0.1", picker.ports["pick"])
        body = b'{"model":"new-adapter"}'
        writer.write(
            b"POST /pick/ns/p/v1/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n%b"
            % (len(body), body)
        )
        await until(lambda: len(picker.flow.queue) == 1)
        picker.first.set_endpoints([Endpoint(server.address, "a")])
        await until(lambda: picker.scheduler.models.serving != {} and len(picker.flow.queue) == 0)
        await until(lambda: adapters.waiting == 1)
        writer.close()
        await until(lambda: adapters.waiting == 0)
        del reader


class SlowAdapters:
    """Adapters that are never loaded; counts who waits."""

    def __init__(self) -> None:
        self.waiting = 0

    def enter(self, model: str, told: object) -> int:
        self.waiting += 1
        return self.waiting

    def leave(self, key: int) -> None:
        self.waiting -= 1


@pytest.mark.parametrize(
    ("annotations", "seconds", "requests", "patience", "complaints"),
    [
        ({}, 0.0, 1000, 60.0, 0),
        ({HOLD_TIMEOUT: "30s", HOLD_REQUESTS: "7"}, 30.0, 7, 60.0, 0),
        ({HOLD_TIMEOUT: "5m"}, 300.0, 1000, 300.0, 0),
        ({HOLD_TIMEOUT: "soon"}, 0.0, 1000, 60.0, 1),
        ({HOLD_TIMEOUT: "11m"}, 0.0, 1000, 60.0, 1),
        ({HOLD_TIMEOUT: "-1s"}, 0.0, 1000, 60.0, 1),
        ({HOLD_TIMEOUT: "1s", HOLD_REQUESTS: "many"}, 1.0, 1000, 60.0, 1),
        ({HOLD_TIMEOUT: "1s", HOLD_REQUESTS: "0"}, 1.0, 1000, 60.0, 1),
    ],
)
def test_annotations(
    annotations: dict[str, str], seconds: float, requests: int, patience: float, complaints: int
) -> None:
    found, wrong = flow_options(FlowOptions(), annotations)
    assert found == msgspec.structs.replace(
        FlowOptions(),
        empty_ttl_seconds=seconds,
        empty_max_requests=requests,
        patience_seconds=patience,
    )
    assert len(wrong) == complaints


async def test_the_channel_says_that_it_holds_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a proxy can tell waiting from a hung picker."""
    monkeypatch.setattr("inferway.picker.channel.ALIVE_SECONDS", 0.01)
    async with empty_pool(**{HOLD_TIMEOUT: "30s"}) as (picker, server):
        reader, writer = await asyncio.open_connection("127.0.0.1", picker.ports["pick"])
        proxy = Proxy(reader, writer)
        writer.write(question(1, json.dumps(BODY).encode()))
        for _ in range(3):
            number, verdict, _, _ = await proxy.answer()
            assert (number, verdict) == (0, 3)
        picker.first.set_endpoints([Endpoint(server.address, "a")])
        while number == 0:
            number, verdict, _, _ = await proxy.answer()
        assert (number, verdict) == (1, 1)
        writer.transport.abort()


async def test_a_proxy_that_asks_after_the_health_gets_an_answer() -> None:
    async with empty_pool() as (picker, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", picker.ports["pick"])
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: picker\r\n\r\n")
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        writer.close()
