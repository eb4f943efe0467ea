"""The whole picker in this process: real sockets, real gRPC, model servers that are fakes."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import grpc
import pytest
from envoy.data.accesslog.v3 import accesslog_pb2
from envoy.service.accesslog.v3 import als_pb2
from fake_server import FakeServer

from inferway.base.clock import SystemClock
from inferway.base.errors import InferwayError
from inferway.picker import flags, health
from inferway.picker.annotations import HOLD_TIMEOUT
from inferway.picker.answers import DECIDED_UNAVAILABLE_STATUS
from inferway.picker.peers import Proxies
from inferway.picker.run import Picker
from inferway.scheduling.events import Finished
from inferway.scheduling.policy import CostPolicy
from inferway.scheduling.snapshot import Endpoint

BASE = {"id": "m", "object": "model", "parent": None}
DEADLINE_SECONDS = 5.0


@asynccontextmanager
async def picker_for(*servers: str, extra: tuple[str, ...] = ()) -> AsyncIterator[Picker]:
    argv = ["--pool-name", "p", "--pool-namespace", "ns", "--bind-address", "127.0.0.1"]
    argv += ["--endpoints", ",".join(servers), "--pick-port", "0", "--feedback-port", "0"]
    argv += ["--grpc-port", "0", "--grpc-health-port", "0", "--metrics-port", "0"]
    # What is open when a test ends is of no interest.
    argv += ["--drain-timeout", "0s", *extra]
    picker = Picker(flags.parse(argv, {}), CostPolicy, SystemClock(), "test")
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        work = tasks.create_task(picker.run(None, stop))
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                await until(lambda: picker.pool.synced or work.done())
            if not work.done():
                yield picker
        finally:
            stop.set()
            async with asyncio.timeout(DEADLINE_SECONDS):
                await work


async def until(condition: Callable[[], bool]) -> None:
    """Lets the loop run until it holds; the caller sets the deadline."""
    loop = asyncio.get_running_loop()
    while not condition():
        turn = asyncio.Event()
        loop.call_later(0.005, turn.set)
        await turn.wait()


async def ask(
    picker: Picker, body: object, path: str = "/v1/completions", **headers: str
) -> tuple[int, Mapping[str, str], bytes]:
    url = f"http://127.0.0.1:{picker.ports['pick']}/pick/ns/p{path}"
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=data, headers=headers) as answer,
    ):
        return answer.status, answer.headers, await answer.read()


def entry(pick: str, served: str, prompt: int = 40) -> object:
    made = accesslog_pb2.HTTPAccessLogEntry()
    made.request.request_headers["x-inferway-pick"] = pick
    made.response.response_code.value = 200
    host, _, port = served.rpartition(":")
    made.common_properties.upstream_remote_address.socket_address.address = host
    made.common_properties.upstream_remote_address.socket_address.port_value = int(port)
    made.common_properties.upstream_request_attempt_count = 1
    made.common_properties.time_to_first_upstream_rx_byte.FromMilliseconds(50)
    usage = made.common_properties.metadata.filter_metadata["inferway.usage"]
    usage["prompt_tokens"] = prompt
    usage["completion_tokens"] = 7
    return made


async def test_picks_a_server_and_hears_how_it_went() -> None:
    async with FakeServer([BASE]).serving() as server, picker_for(server.address) as picker:
        status, headers, _ = await ask(
            picker, {"model": "m", "prompt": "x" * 400}, **{"x-request-id": "r-1"}
        )
        assert status == 200
        assert headers["x-gateway-destination-endpoint"] == server.address
        assert headers["x-request-id"] == "r-1"
        assert picker.scheduler.in_flight() == {server.address: 1}
        message = als_pb2.StreamAccessLogsMessage()
        message.http_logs.log_entry.append(entry(headers["x-inferway-pick"], server.address))
        async with grpc.aio.insecure_channel(f"127.0.0.1:{picker.ports['feedback']}") as channel:
            call = channel.stream_unary(
                "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs",
                request_serializer=als_pb2.StreamAccessLogsMessage.SerializeToString,
                response_deserializer=als_pb2.StreamAccessLogsResponse.FromString,
            )
            await call(iter([message, message]), timeout=DEADLINE_SECONDS)
        assert picker.scheduler.in_flight() == {server.address: 0}
        url = f"http://127.0.0.1:{picker.ports['metrics']}"
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{url}/metrics") as answer:
                text = await answer.text()
            async with session.get(f"{url}/debug/decisions") as answer:
                seen = (await answer.json())["decisions"]
            async with session.get(f"{url}/readyz") as answer:
                assert await answer.text() == "ok\n"
    assert 'inferway_picker_decisions_total{outcome="chosen",pool="ns/p"} 1.0' in text
    # The doubled entry released nothing twice.
    assert 'inferway_picker_reservations_released_total{pool="ns/p",reason="finished"} 1.0' in text
    assert seen[0]["chosen"] == [server.address]
    assert seen[0]["request_id"] == "r-1"


async def test_unknown_model_asks_the_servers_once_and_names_what_there_is() -> None:
    async with FakeServer([BASE]).serving() as server, picker_for(server.address) as picker:
        server.models = [BASE, {"id": "new-adapter", "parent": "m"}]
        status, headers, _ = await ask(picker, {"model": "new-adapter", "prompt": "x"})
        assert (status, headers.get("x-gateway-destination-endpoint")) == (200, server.address)
        asked = server.asked.count("models")
        status, headers, body = await ask(picker, {"model": "nobody", "prompt": "x"})
        assert status == 404
        assert server.asked.count("models") == asked
        error = json.loads(body)["error"]
        assert error["code"] == "model_not_found"
        assert error["param"] == "model"
        assert "m, new-adapter" in error["message"]
        assert headers["x-should-retry"] == "false"


async def test_head_is_answered_without_a_body() -> None:
    async with picker_for() as picker:
        reader, writer = await asyncio.open_connection("127.0.0.1", picker.ports["pick"])
        try:
            for _ in range(2):
                writer.write(b"HEAD /pick/ns/p/v1/models HTTP/1.1\r\nhost: x\r\n\r\n")
                async with asyncio.timeout(DEADLINE_SECONDS):
                    head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 463 ")
        finally:
            writer.close()


async def test_drain_answers_and_closes() -> None:
    async with FakeServer([BASE]).serving() as server, picker_for(server.address) as picker:
        reader, writer = await asyncio.open_connection("127.0.0.1", picker.ports["pick"])
        try:
            picker.callout.draining = True
            writer.write(b"GET /pick/ns/p/health HTTP/1.1\r\nhost: x\r\n\r\n")
            async with asyncio.timeout(DEADLINE_SECONDS):
                assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        finally:
            writer.close()


async def test_another_pool_and_a_proxy_that_leaves() -> None:
    gone: list[str] = []
    loop = asyncio.get_running_loop()
    proxies = Proxies(loop, gone.append, seconds=0.01)
    proxies.opened("p1")
    proxies.opened("p1")
    proxies.closed("p1")
    proxies.closed("p1")
    proxies.opened("p1")
    proxies.closed("p1")
    async with asyncio.timeout(DEADLINE_SECONDS):
        await until(lambda: gone == ["p1"])
    async with picker_for("127.0.0.1:1") as picker, aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{picker.ports['pick']}/pick/ns/other/v1/models"
        async with session.get(url) as answer:
            assert answer.status == 503
            assert "ns/p" in (await answer.json())["error"]["message"]


async def test_no_endpoint_is_a_decision_with_retry() -> None:
    async with picker_for() as picker:
        status, headers, body = await ask(picker, {"model": "m", "prompt": "x"})
    assert status == DECIDED_UNAVAILABLE_STATUS
    assert headers["retry-after"] == "1"
    assert headers["retry-after-ms"] == "1000"
    assert headers["x-should-retry"] == "true"
    assert json.loads(body)["error"]["code"] == "no_endpoint"


@pytest.mark.slow
async def test_a_hung_server_holds_back_only_itself() -> None:
    async with (
        FakeServer([BASE]).serving() as good,
        FakeServer([BASE]).serving() as bad,
    ):
        bad.hang.clear()
        argv_servers = (good.address, bad.address)
        async with picker_for(*argv_servers) as picker:
            good.metrics = "vllm:num_requests_waiting 3\nvllm:num_requests_running 2\n"
            await ask(picker, {"model": "m", "prompt": "x"})
            columns = picker.scheduler.columns
            slot = picker.scheduler.slot(good.address)
            assert slot is not None
            before = picker.scraper.targets[good.address].metrics_at
            picker.scraper.targets[good.address].metrics_due = 0.0
            async with asyncio.timeout(DEADLINE_SECONDS):
                await until(lambda: picker.scraper.targets[good.address].metrics_at != before)
            assert (columns.waiting[slot], columns.running[slot]) == (3.0, 2.0)


@pytest.mark.parametrize(
    ("flag", "port"),
    [
        ("--grpc-port", "grpc"),
        ("--pick-port", "pick"),
        ("--feedback-port", "feedback"),
        ("--grpc-health-port", "health"),
        ("--metrics-port", "metrics"),
    ],
)
async def test_a_port_in_use_is_one_clear_message(flag: str, port: str) -> None:
    async with picker_for("127.0.0.1:1") as first:
        with pytest.raises(ExceptionGroup) as caught:
            async with picker_for("127.0.0.1:1", extra=(flag, str(first.ports[port]))):
                pass
        error = caught.value.exceptions[0]
        assert isinstance(error, InferwayError)
        assert error.code == "INFERWAY0410"
        assert "\n" not in error.what


async def test_health_by_name() -> None:
    async with FakeServer([BASE]).serving() as server, picker_for(server.address) as picker:
        target = f"127.0.0.1:{picker.ports['health']}"
        async with grpc.aio.insecure_channel(target) as channel:
            check = channel.unary_unary(f"/{health.SERVICE}/Check")

            async def state(name: str) -> bytes:
                data = name.encode()
                message = bytes([0x0A, len(data)]) + data if data else b""
                return bytes(await check(message, timeout=DEADLINE_SECONDS))

            assert await state("") == b"\x08\x01"
            assert await state("readiness") == b"\x08\x01"
            assert await state("liveness") == b"\x08\x01"
            assert await state(health.EXT_PROC_SERVICE) == b"\x08\x01"
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await state("nonsense")
            assert caught.value.code() == grpc.StatusCode.NOT_FOUND
            picker.pool.synced = False
            assert await state("readiness") == b"\x08\x02"


async def test_unix_socket_answers_and_goes_with_the_picker(tmp_path: Path) -> None:
    path = tmp_path / "pick.sock"
    path.write_bytes(b"left behind")
    async with picker_for("127.0.0.1:1", extra=("--pick-socket", str(path))) as picker:
        connector = aiohttp.UnixConnector(str(path))
        async with aiohttp.ClientSession(connector=connector) as session:
            url = "http://picker/pick/ns/p/v1/models"
            async with session.get(url) as answer:
                assert answer.status == 200
            assert answer.headers["x-gateway-destination-endpoint"] == "127.0.0.1:1"
        assert picker.scheduler.in_flight() == {"127.0.0.1:1": 1}
    assert not path.exists()


async def test_what_is_open_may_end_before_the_picker_does() -> None:
    async with FakeServer([BASE]).serving() as server:
        argv = ["--pool-name", "p", "--bind-address", "127.0.0.1", "--endpoints", server.address]
        argv += [f"--{p}-port=0" for p in ("grpc", "pick", "feedback", "grpc-health", "metrics")]
        picker = Picker(flags.parse(argv, {}), CostPolicy, SystemClock(), "test")
        picker.first.set_annotations({HOLD_TIMEOUT: "30s"})
        stop = asyncio.Event()
        async with asyncio.timeout(DEADLINE_SECONDS), asyncio.TaskGroup() as tasks:
            work = tasks.create_task(picker.run(None, stop))
            await until(lambda: picker.pool.synced)
            picker.first.set_endpoints([])
            url = f"http://127.0.0.1:{picker.ports['pick']}/pick/default/p/v1/completions"
            async with aiohttp.ClientSession() as session:
                asked = tasks.create_task(session.post(url, json={"model": "m", "prompt": "x"}))
                await until(lambda: len(picker.flow.queue) == 1)
                stop.set()
                await until(lambda: bool(picker.not_ready()))
                assert not asked.done()
                picker.first.set_endpoints([Endpoint(server.address, "a")])
                assert (await asked).status == 200
            await work


async def test_two_pools_of_one_process_keep_apart() -> None:
    async with (
        FakeServer([BASE]).serving() as one,
        FakeServer([{**BASE, "id": "n"}]).serving() as two,
    ):
        options = flags.parse(["--pool-name=ns/p,ns/q"], {})
        specs = [
            dataclasses.replace(spec, endpoints=(server.address,), static=True)
            for spec, server in zip(options.pools, (one, two), strict=True)
        ]
        zeros = dict.fromkeys(
            [f"{p}-port" for p in ("grpc", "pick", "feedback", "grpc-health", "metrics")], "0"
        )
        values = {**options.values, **zeros, "bind-address": "127.0.0.1", "drain-timeout": "0s"}
        options = dataclasses.replace(options, values=values, pools=tuple(specs))
        picker = Picker(options, CostPolicy, SystemClock(), "test")
        stop = asyncio.Event()
        async with asyncio.timeout(DEADLINE_SECONDS), asyncio.TaskGroup() as tasks:
            work = tasks.create_task(picker.run(None, stop))
            await until(lambda: all(pool.runtime.synced for pool in picker.pools))
            picks = []
            base = f"http://127.0.0.1:{picker.ports['pick']}/pick/ns"
            async with aiohttp.ClientSession() as session:
                for pool, model, server in (("p", "m", one), ("q", "n", two)):
                    url, data = f"{base}/{pool}/v1/completions", {"model": model, "prompt": "x"}
                    async with session.post(url, json=data) as answer:
                        assert answer.headers["x-gateway-destination-endpoint"] == server.address
                        picks.append(answer.headers["x-inferway-pick"])
                url = f"{base}/r/v1/completions"
                async with session.post(url, json={"model": "m", "prompt": "x"}) as answer:
                    assert answer.status == 503
                    assert "ns/p, ns/q" in await answer.text()
                url = f"http://127.0.0.1:{picker.ports['metrics']}/metrics"
                async with session.get(url) as answer:
                    text = await answer.text()
            for pool in ("p", "q"):
                assert f'pool="ns/{pool}"' in text
            assert [sum(p.scheduler.in_flight().values()) for p in picker.pools] == [1, 1]
            picker.settle(Finished(picks[1], 200))
            assert [sum(p.scheduler.in_flight().values()) for p in picker.pools] == [1, 0]
            stop.set()
            await work


async def test_a_picker_that_knows_nothing_yet_hangs_up() -> None:
    async with FakeServer([BASE]).serving() as server, picker_for(server.address) as picker:
        picker.pool.synced = False
        for words in (b"GET /pick/ns/p/v1/models HTTP/1.1\r\nhost: x\r\n\r\n", b"IWPICK1\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", picker.ports["pick"])
            writer.write(words)
            async with asyncio.timeout(DEADLINE_SECONDS):
                with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                    await reader.readexactly(1)
            writer.close()
        picker.pool.synced = True
        assert (await ask(picker, {"model": "m", "prompt": "x"}))[0] == 200
