"""Our picker behind real Envoy that asks by ext_proc, as the gateways of others do."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from extproc_envoy import (
    BUFFERED,
    DUPLEX,
    PORT,
    STREAMED,
    config,
    ext_proc,
    picker,
    pool_by_header,
    pool_by_metadata,
    subset_hint,
)
from gateway_rig import (
    DEADLINE_SECONDS,
    QUIET,
    HttpAnswer,
    HttpRequest,
    Server,
    answer,
    envoy,
    envoy_program,
    own_address,
    request,
)

from inferway.base.clock import SystemClock
from inferway.picker import flags
from inferway.picker.config_file import policy
from inferway.picker.run import Picker
from inferway.scheduling.decision import Policy
from inferway.scheduling.events import Event, Finished
from inferway.scheduling.policy import CostPolicy
from inferway.scheduling.rewrite import Rewrite, Rule, Target, compile_table

pytestmark = pytest.mark.slow

# Conformance tests name the endpoints that they want.
TESTING = """
apiVersion: inference.networking.x-k8s.io/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: header-based-testing-filter
- type: random-picker
schedulingProfiles:
- name: default
  plugins:
  - pluginRef: header-based-testing-filter
  - pluginRef: random-picker
"""
EXAMPLE = Path(__file__).parents[2] / "examples" / "ext-proc" / "envoy.yaml"
EVENTS = 400
ALIAS = compile_table([Rewrite("r", "", (Rule(("alias",), (Target("m"),)),))])
SELECT = "test-epp-endpoint-selection"


@dataclass
class Backend(Server):
    """A model server: what a picker asks, and completions as JSON or as a stream."""

    handler: Any = None
    name: str = ""
    bodies: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.handler = self._answer
        self.release = asyncio.Event()
        self.release.set()

    @property
    def last(self) -> HttpRequest:
        """The last request that a client sent."""
        own = ("/metrics", "/v1/models")
        return [one for one in self.seen if one.path not in own][-1]

    async def _answer(self, asked: HttpRequest, writer: asyncio.StreamWriter) -> None:
        if asked.path == "/metrics":
            answer(writer, b"vllm:num_requests_waiting 0\nvllm:num_requests_running 0\n")
            return
        if asked.path == "/v1/models":
            listed = {"object": "list", "data": [{"id": "m", "object": "model"}]}
            answer(writer, json.dumps(listed).encode())
            return
        self.bodies.append(hashlib.sha256(asked.body).hexdigest())
        usage = {"prompt_tokens": 7, "completion_tokens": 3}
        if b'"stream": true' not in asked.body:
            said = {"server": self.name, "bytes": len(asked.body), "usage": usage}
            kind = {"content-type": "application/json"}
            answer(writer, json.dumps(said).encode(), headers=kind)
            return
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
        writer.write(head + b"transfer-encoding: chunked\r\n\r\n")
        for number in range(EVENTS):
            event = b"data: %b\n\n" % json.dumps({"n": number, "text": "y" * 1000}).encode()
            writer.write(b"%x\r\n%b\r\n" % (len(event), event))
            await writer.drain()
            if number == 1:
                await self.release.wait()
        last = b"data: %b\n\ndata: [DONE]\n\n" % json.dumps({"usage": usage}).encode()
        writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(last), last))


@dataclass
class Rig:
    picker: Picker
    servers: list[Backend]
    host: str
    log: list[str]
    events: list[Finished]
    stop: asyncio.Event
    ended: asyncio.Task[None]

    async def ask(self, path: str = "/v1/completions", **words: Any) -> HttpAnswer:
        return await request((self.host, PORT), path, **words)

    async def idle(self) -> None:
        """Returns when the books are empty, and everything else that counts what is open."""
        ext_proc = self.picker.ext_proc
        await until(
            lambda: not len(self.picker.scheduler.ledger) and not ext_proc.streams, self.state
        )
        assert set(self.picker.scheduler.in_flight().values()) == {0}
        assert ext_proc.room.taken == 0

    def state(self) -> str:
        return f"in flight {dict(self.picker.scheduler.in_flight())}; {''.join(self.log)[-800:]}"


async def until(condition: Callable[[], bool], why: Callable[[], str] = lambda: "") -> None:
    loop = asyncio.get_running_loop()
    end = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < end, why()
        turn = asyncio.Event()
        loop.call_later(0.01, turn.set)
        await turn.wait()


async def _listens(host: str) -> bool:
    try:
        _, writer = await asyncio.open_connection(host, PORT)
    except OSError:
        return False
    writer.transport.abort()
    return True


@asynccontextmanager
async def rig(
    *,
    pool: str = "metadata",
    mode: dict[str, str] = DUPLEX,
    servers: int = 3,
    extra: tuple[str, ...] = (),
    hint: Any = None,
    testing: bool = False,
    retries: bool = True,
    **filters: Any,
) -> AsyncIterator[Rig]:
    """Servers, our picker with ext_proc, and Envoy with ``filters`` as further fields."""
    host = own_address(40)
    backends = [Backend(None, name=f"s{number}") for number in range(servers)]
    tls = "--secure-serving=false" not in extra
    async with AsyncExitStack() as stack:
        for number, backend in enumerate(backends):
            await backend.start(own_address(41 + number))
            stack.callback(backend.stop)
        argv = ["--pool-name", "p", "--pool-namespace", "ns", "--bind-address", own_address(50)]
        argv += ["--endpoints", ",".join(one.address for one in backends)]
        for name in ("grpc", "grpc-health", "metrics", "pick", "feedback"):
            argv += [f"--{name}-port", "0"]
        options = flags.parse([*argv, *extra, *(["--config-text", TESTING] if testing else [])], {})

        def make_policy() -> Policy:
            return policy(options) if testing else CostPolicy()

        made = Picker(options, make_policy, SystemClock(), "test")
        events: list[Finished] = []
        settle = made.ext_proc.settle

        def record(event: Event) -> None:
            assert isinstance(event, Finished)
            events.append(event)
            settle(event)

        made.ext_proc.settle = record
        stop = asyncio.Event()
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        ended = tasks.create_task(made.run(None, stop))
        stack.callback(stop.set)
        await until(lambda: made.pool.synced or ended.done())
        address = f"{own_address(50)}:{made.ports['grpc']}"
        addresses = [one.address for one in backends]
        pools = pool_by_header() if pool == "header" else pool_by_metadata(addresses)
        before = [] if hint is None else [subset_hint(hint)]
        clusters = [picker(address, tls=tls), pools]
        chain = [*before, ext_proc(mode, **filters)]
        text = json.dumps(config(host, clusters, chain, retries=retries))
        log: list[str] = []
        arguments = ["--config-yaml", text, *QUIET]
        await stack.enter_async_context(envoy(arguments, host, log))
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not await _listens(host):
                await until(lambda: True)
        yield Rig(made, backends, host, log, events, stop, ended)


def whole_of(answer: bytes) -> bytes:
    """The body of a chunked answer, as far as it is there."""
    rest, body = answer.partition(b"\r\n\r\n")[2], b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return body


def prompt(size: int = 400_000, **more: Any) -> bytes:
    return json.dumps({"model": "m", "prompt": "x" * size, **more}).encode()


@pytest.mark.parametrize("pool", ["header", "metadata"])
async def test_large_prompts_go_both_ways(pool: str) -> None:
    async with rig(pool=pool, servers=1, allow_content_length_header=True) as one:
        body = prompt()
        reply = await one.ask(body=body)
        assert (reply.status, reply.json()["bytes"]) == (200, len(body)), one.state()
        assert reply.headers["x-went-into-resp-headers"] == "true"
        assert one.servers[0].bodies == [hashlib.sha256(body).hexdigest()]
        assert one.servers[0].last.headers["content-length"] == str(len(body))
        reply = await one.ask(body=prompt(stream=True))
        assert reply.status == 200
        events = [line for line in reply.body.split(b"\n") if line.startswith(b"data: {")]
        assert len(events) == EVENTS + 1
        assert len(reply.body) > 400_000
        await one.idle()
        assert [(e.code, e.prompt_tokens, e.completion_tokens) for e in one.events] == [
            (200, 7, 3)
        ] * 2
        # Only a gateway that follows the list knows which of it answered.
        served = "" if pool == "header" else one.servers[0].address
        assert {e.served for e in one.events} == {served}
        assert all(e.first_byte_seconds and e.last_byte_seconds for e in one.events)


async def test_sizes_around_the_limit_of_a_message() -> None:
    async with rig(servers=1) as one:
        for size in (0, 61_900, 62_000, 62_001, 65_535, 65_536, 124_000, 5_000_000):
            body = prompt(size)
            reply = await one.ask(body=body)
            assert (reply.status, reply.json()["bytes"]) == (200, len(body)), one.state()
            assert one.servers[0].bodies[-1] == hashlib.sha256(body).hexdigest()
        await one.idle()


async def test_endpoints_named_by_conformance_tests_get_the_requests() -> None:
    async with rig(testing=True) as one:
        for named in range(1, 4):
            wanted = [server.address for server in one.servers[:named]]
            chosen = {SELECT: ",".join(wanted)}
            async with asyncio.TaskGroup() as group:
                replies = [
                    group.create_task(one.ask("/x", method="GET", headers=chosen))
                    for _ in range(30)
                ]
            assert {task.result().status for task in replies} == {200}
            names = {task.result().json()["server"] for task in replies}
            assert names == {server.name for server in one.servers[:named]}
            told = {task.result().headers["x-conformance-test-served-endpoint"] for task in replies}
            assert told == set(wanted)
        assert SELECT not in one.servers[0].last.headers
        nobody = await one.ask("/x", method="GET", headers={SELECT: "10.255.0.1"})
        assert nobody.status == 503
        await one.idle()


async def test_the_gateway_restricts_the_choice() -> None:
    second = f"{own_address(42)}"
    async with rig(hint=[second]) as one:
        replies = [await one.ask(body=prompt(10)) for _ in range(5)]
        assert {reply.json()["server"] for reply in replies} == {"s1"}
    async with rig(hint=f" {own_address(43)} ,10.255.0.1:1") as one:
        reply = await one.ask("/x", method="GET")
        assert reply.json()["server"] == "s2"
    nobody: tuple[Any, ...] = ([], "10.255.0.1:8000")
    for hint in nobody:
        async with rig(hint=hint, servers=1) as one:
            for method in ("POST", "GET"):
                reply = await one.ask(method=method, body=prompt())
                assert reply.status == 503
                assert reply.json()["error"]["code"] == "no_endpoint"
                assert reply.headers["x-llm-d-request-dropped-reason"] == "rejected-no-endpoints"
            assert one.servers[0].bodies == []
            await one.idle()


async def test_refusals_are_openai_errors() -> None:
    async with rig(servers=1) as one:
        for body, status, code in (
            (b'{"model": ', 400, "invalid_json"),
            (b'{"model": "nobody", "prompt": "x"}', 404, "model_not_found"),
        ):
            reply = await one.ask(body=body, headers={"x-request-id": "mine"})
            assert (reply.status, reply.json()["error"]["code"]) == (status, code)
            assert reply.headers["content-type"] == "application/json"
            assert reply.headers["x-request-id"] == "mine"
        listed = await one.ask("/v1/models", method="GET")
        assert [model["id"] for model in listed.json()["data"]] == ["m"]
        await one.idle()


async def test_trailers_pass_both_ways() -> None:
    # Envoy 1.40 sends a body with trailers twice where a route may retry and ext_proc is in full
    # duplex, whatever the picker answers.
    async with rig(servers=1, retries=False) as one:

        async def with_trailers(_: HttpRequest, writer: asyncio.StreamWriter) -> None:
            writer.write(
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-t\r\n\r\n"
                b"3\r\nabc\r\n0\r\nx-t: end\r\n\r\n"
            )

        body = prompt(100_000)
        reader, writer = await asyncio.open_connection(one.host, PORT)
        one.servers[0].handler = with_trailers
        writer.write(
            b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n"
            b"te: trailers\r\n\r\n%x\r\n%b\r\n0\r\nx-mine: 1\r\n\r\n" % (len(body), body)
        )
        async with asyncio.timeout(DEADLINE_SECONDS):
            head = await reader.readuntil(b"\r\n\r\n")
            rest = await reader.readuntil(b"end\r\n\r\n")
        writer.transport.abort()
        assert head.startswith(b"HTTP/1.1 200"), one.state()
        assert b"x-t: end" in rest
        assert one.servers[0].last.body == body
        await one.idle()
        assert [event.code for event in one.events] == [200]


async def test_a_rewritten_model_reaches_the_server() -> None:
    async with rig(servers=1, allow_content_length_header=True) as one:
        one.picker.pool.rewrites = ALIAS
        body = json.dumps({"model": "alias", "prompt": "x" * 100_000}).encode()
        reply = await one.ask(body=body)
        changed = body.replace(b'"alias"', b'"m"')
        assert reply.json()["bytes"] == len(changed)
        assert one.servers[0].last.body == changed
        assert one.servers[0].last.headers["content-length"] == str(len(changed))
        await one.idle()


@pytest.mark.parametrize("mode", [BUFFERED, STREAMED], ids=["buffered", "streamed"])
async def test_other_processing_modes_get_an_endpoint_too(mode: dict[str, str]) -> None:
    async with rig(mode=mode, servers=1) as one:
        one.picker.pool.rewrites = ALIAS
        for size in (10, 300_000):
            body = json.dumps({"model": "alias", "prompt": "x" * size}).encode()
            reply = await one.ask(body=body)
            assert reply.status == 200, one.state()
            # Where the picker does not see the body it can not change it either.
            seen = body.replace(b'"alias"', b'"m"') if mode is BUFFERED else body
            assert one.servers[0].last.body == seen
        reply = await one.ask(body=prompt(10, stream=True))
        assert reply.body.endswith(b"data: [DONE]\n\n")
        await one.idle()
        assert {event.code for event in one.events} == {200}


async def test_a_picker_that_is_gone_leaves_it_to_the_failure_mode() -> None:
    async with rig(failure_mode_allow=True) as one:
        assert (await one.ask("/x", method="GET")).status == 200
        one.stop.set()
        await until(one.ended.done)
        for _ in range(10):
            reply = await one.ask("/x", method="GET")
            assert reply.status == 200, one.state()
            assert "x-went-into-resp-headers" not in reply.headers
    async with rig(servers=1) as one:
        one.stop.set()
        await until(one.ended.done)
        assert (await one.ask("/x", method="GET")).status >= 500


async def test_a_picker_that_can_not_decide_leaves_it_to_the_failure_mode() -> None:
    async with rig(servers=1, failure_mode_allow=True) as one:
        one.picker.pool.synced = False
        reply = await one.ask("/x", method="GET")
        assert reply.status == 200, one.state()
        assert "x-went-into-resp-headers" not in reply.headers


async def test_a_picker_that_stops_lets_streams_end() -> None:
    async with rig(servers=1, extra=("--secure-serving=false",)) as one:
        one.servers[0].release.clear()
        async with asyncio.TaskGroup() as group:
            asked = group.create_task(one.ask(body=prompt(10, stream=True)))
            await until(lambda: sum(one.picker.scheduler.in_flight().values()) == 1, one.state)
            await until(lambda: len(one.servers[0].bodies) == 1, one.state)
            one.stop.set()
            one.servers[0].release.set()
        assert asked.result().body.endswith(b"data: [DONE]\n\n")
        await until(one.ended.done)


async def test_slow_readers_and_resets_in_the_middle() -> None:
    async with rig(servers=1) as one:
        server = one.servers[0]
        body = prompt(10, stream=True)
        head = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"
        # A client that takes its time gets all of it.
        reader, writer = await asyncio.open_connection(one.host, PORT, limit=1024)
        writer.write(head % len(body) + body)
        async with asyncio.timeout(DEADLINE_SECONDS):
            taken = b""
            while b"[DONE]" not in taken:
                taken += await reader.read(512)
        writer.transport.abort()
        assert whole_of(taken).count(b"data: {") == EVENTS + 1
        # One that leaves while it is answered.
        server.release.clear()
        reader, writer = await asyncio.open_connection(one.host, PORT)
        writer.write(head % len(body) + body)
        async with asyncio.timeout(DEADLINE_SECONDS):
            await reader.readuntil(b"data: ")
        assert sum(one.picker.scheduler.in_flight().values()) == 1
        writer.transport.abort()
        await one.idle()
        # One that leaves before all of its body is there.
        _, writer = await asyncio.open_connection(one.host, PORT)
        writer.write(head % 1000 + body)
        await until(lambda: one.picker.ext_proc.room.taken > 0, one.state)
        writer.transport.abort()
        await one.idle()
        # A server that dies while it answers.
        reader, writer = await asyncio.open_connection(one.host, PORT)
        writer.write(head % len(body) + body)
        async with asyncio.timeout(DEADLINE_SECONDS):
            await reader.readuntil(b"data: ")
        server.stop()
        server.release.set()
        async with asyncio.timeout(DEADLINE_SECONDS):
            await reader.read()
        writer.transport.abort()
        await one.idle()
        assert [event.code for event in one.events] == [200, 0, 0]


@pytest.mark.timeout(300)
async def test_a_thousand_streams_with_mixed_ends_leave_nothing() -> None:
    async with rig(failure_mode_allow=True) as one:
        bodies = [prompt(size, stream=stream) for size in (10, 70_000) for stream in (False, True)]
        counts = {"whole": 0, "cut": 0}

        async def whole(number: int) -> None:
            reply = await one.ask(body=bodies[number % 4])
            assert reply.status == 200
            counts["whole"] += 1

        async def cut(number: int) -> None:
            """Leaves after so many bytes of the request or of the answer."""
            body = bodies[number % 4]
            reader, writer = await asyncio.open_connection(one.host, PORT)
            head = (
                f"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
            )
            data = head.encode() + body
            kept = len(data) if number % 3 else number * 7919 % len(data)
            writer.write(data[:kept])
            if kept == len(data):
                async with asyncio.timeout(DEADLINE_SECONDS):
                    await reader.read(number * 131 % 3000 + 1)
            writer.transport.abort()
            counts["cut"] += 1

        async def other(number: int) -> None:
            if number % 2:
                assert (await one.ask("/x", method="GET")).status == 200
            else:
                assert (await one.ask(body=b'{"model": "nobody"}')).status == 404

        async def worker(first: int) -> None:
            for number in range(first, 1000, 25):
                await (whole, cut, cut, other)[number // 25 % 4](number)

        async with asyncio.TaskGroup() as group:
            for first in range(25):
                group.create_task(worker(first))
        await one.idle()
        picks = [event.pick for event in one.events]
        assert len(picks) == len(set(picks)), "one end for each request"
        assert counts == {"whole": 250, "cut": 500}


async def test_envoy_takes_the_example() -> None:
    process = await asyncio.create_subprocess_exec(
        envoy_program(),
        "--mode",
        "validate",
        "-c",
        str(EXAMPLE),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
