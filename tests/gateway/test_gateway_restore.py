"""The client's model name in answers, through real Envoy by every way to ask our picker."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio
from extproc_envoy import BUFFERED, DUPLEX, PORT
from gateway_rig import (
    DEADLINE_SECONDS,
    HttpAnswer,
    HttpRequest,
    Server,
    answer,
    own_address,
    request,
)
from gateway_rig import rig as gateway_rig
from test_gateway_extproc import rig as ext_proc_rig
from test_gateway_extproc import until, whole_of

from inferway.base.clock import SystemClock
from inferway.gateway.translate import ir
from inferway.picker import flags
from inferway.picker.restore import ModelRestorer
from inferway.picker.run import Picker
from inferway.scheduling.events import Finished
from inferway.scheduling.policy import CostPolicy
from inferway.scheduling.rewrite import Rewrite, Rule, Target, compile_table

pytestmark = pytest.mark.slow
CALLOUT, NATIVE = "callout", "native"
# A gateway of another kind shows answers in one of these ways; a rewrite needs the whole request.
MODES = {
    "duplex": DUPLEX,
    "streamed": {**BUFFERED, "response_body_mode": "STREAMED"},
    "buffered": {**BUFFERED, "response_body_mode": "BUFFERED"},
}
TARGET, ALIAS = "m", 'the "alias"'
# What the server calls itself has not to be the target's name.
NAMED = "org/m"
RULES = (Rule((ALIAS,), (Target(TARGET),)),)
USAGE = {"prompt_tokens": 7, "completion_tokens": 3}
SAID = {
    "model": NAMED,
    "choices": [{"message": {"content": f'"model": "{NAMED}"', "model": NAMED}}],
    "usage": USAGE,
}
CHUNK = b'data: {"model":"org/m","choices":[{"text":"\\"model\\":\\"org/m\\""}]}\n\n'
LAST = b'data: {"model": "org/m", "usage": %b}\n\ndata: [DONE]\n\n' % json.dumps(USAGE).encode()
# Clients are told the alias as JSON in ASCII.
RENAMED = json.dumps(ALIAS).encode()
# Parts of which texts are made that are almost JSON.
PARTS = [
    *(b'"model"', b'"message"', b'"response"', b'"models"', b'"m\\"', b'"m"', b'{"model": "m"'),
    *(b":", b" ", b",", b"{", b"}", b"[", b"]", b'"', b"\\", b"\n", b"\r", b"data:", b"data: {"),
]
DRAWN = random.Random(7)
ODD = [b"".join(DRAWN.choices(PARTS, k=DRAWN.randint(1, 60))) for _ in range(150)]


@dataclass
class World:
    address: tuple[str, int]
    picker: Picker
    events: list[Finished] = field(default_factory=list)
    # Bytes of a stream go on one by one after those that the client has.
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    def rewrite(self, *, restore: bool) -> None:
        table = compile_table([Rewrite("r", "", RULES, restore=restore)])
        self.picker.first.set_rewrites(table)

    async def ask(
        self, model: str = ALIAS, path: str = "/v1/completions", **headers: str
    ) -> HttpAnswer:
        body = json.dumps({"model": model, "prompt": "x"}).encode()
        return await request(self.address, path, body=body, headers=headers)

    async def told(self, count: int) -> list[Finished]:
        await until(lambda: len(self.events) >= count)
        return self.events

    async def answer(self, asked: HttpRequest, writer: asyncio.StreamWriter) -> None:
        """What the model server says."""
        kind = {"content-type": "application/json"}
        said = json.dumps(SAID).encode()
        if asked.path == "/metrics":
            answer(writer, b"vllm:num_requests_waiting 0\nvllm:num_requests_running 0\n")
        elif asked.path == "/v1/models":
            listed = {"object": "list", "data": [{"id": TARGET, "object": "model"}]}
            answer(writer, json.dumps(listed).encode(), headers=kind)
        elif b'"stream": true' in asked.body:
            await self._stream(writer)
        elif asked.path.startswith("/odd/"):
            await self._odd(ODD[int(asked.path[5:])], asked.headers["accept"], writer)
        elif asked.headers.get("accept-encoding") == "gzip":
            answer(writer, gzip.compress(said), headers={**kind, "content-encoding": "gzip"})
        elif asked.headers.get("accept") == "text/plain":
            answer(writer, said, headers={"content-type": "text/plain"})
        else:
            assert json.loads(asked.body)["model"] == TARGET
            answer(writer, said, headers=kind)

    async def _odd(self, text: bytes, kind: str, writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n"
        writer.write(head.encode())
        half = len(text) // 2
        for piece in (text[:half], text[half:]):
            if piece:
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                await writer.drain()
        writer.write(b"0\r\n\r\n")

    async def _stream(self, writer: asyncio.StreamWriter) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
        writer.write(head + b"transfer-encoding: chunked\r\n\r\n")
        begun = CHUNK.index(b"g/m")
        writer.write(b"%x\r\n%b\r\n" % (begun, CHUNK[:begun]))
        await self.go_on.wait()
        for byte in CHUNK[begun:] + CHUNK + LAST:
            writer.write(b"1\r\n%c\r\n" % byte)
            await writer.drain()
        writer.write(b"0\r\n\r\n")


@asynccontextmanager
async def gateway(module: str) -> AsyncIterator[World]:
    """Our own gateway, whose proxy has the native filter or asks by callout."""
    async with gateway_rig(module) as made, AsyncExitStack() as stack:
        server = Server(_unused)
        await server.start(own_address(20))
        stack.callback(server.stop)
        path = str(made.folder / "pick.sock")
        argv = ["--pool-name", "p", "--pool-namespace", "ns", "--bind-address", own_address(50)]
        argv += ["--endpoints", server.address, "--pick-socket", path, "--drain-timeout", "0s"]
        for name in ("grpc", "grpc-health", "metrics", "pick", "feedback"):
            argv += [f"--{name}-port", "0"]
        picker = Picker(flags.parse(argv, {}), CostPolicy, SystemClock(), "test")
        world = World((made.host, 8080), picker)
        server.handler = world.answer
        settled = picker.telemetry.settled

        def record(event: Any, ended: Any) -> None:
            if isinstance(event, Finished):
                world.events.append(event)
            settled(event, ended)

        picker.telemetry.settled = record  # type: ignore[method-assign]
        stop = asyncio.Event()
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        ended = tasks.create_task(picker.run(None, stop))
        stack.callback(stop.set)
        await until(lambda: picker.pool.synced or ended.done())
        pick = ir.Pick("picker/ns/p", "/pick/ns/p", 5.0, fail_open=False, splice=True)
        share = ir.Share("pool/ns/p", 1, pick, pool=True)
        feedback = ir.Endpoint(own_address(50), picker.ports["feedback"])
        clusters = (
            ir.Cluster("feedback/ns/p", ir.ClusterKind.FEEDBACK, (feedback,)),
            ir.Cluster("picker/ns/p", ir.ClusterKind.PICKER, (ir.Endpoint(path),)),
            ir.Cluster("pool/ns/p", ir.ClusterKind.POOL, (ir.Endpoint(server.host, server.port),)),
        )
        route = ir.Route("r", ir.RequestMatch(), (share,))
        port = ir.Port(80, (ir.Host("*", (route,)),))
        await made.publish(ir.Gateway("ns", "gw", (port,), clusters))
        yield world


async def _unused(_: HttpRequest, writer: asyncio.StreamWriter) -> None:
    answer(writer, status=500)


@pytest_asyncio.fixture(params=[CALLOUT, NATIVE, *MODES])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    if request.param in MODES:
        async with ext_proc_rig(mode=MODES[request.param], servers=1) as one:
            made = World((one.host, PORT), one.picker, one.events)
            one.servers[0].handler = made.answer
            yield made
    else:
        module = request.getfixturevalue("pick_module") if request.param == NATIVE else ""
        async with gateway(str(module)) as made:
            yield made


async def test_json_names_what_was_asked_for_where_somebody_asks(world: World) -> None:
    world.rewrite(restore=False)
    plain = await world.ask()
    assert (plain.status, plain.json()) == (200, SAID)
    reply = await world.ask(prefer="restore-model")
    assert reply.json() == {**SAID, "model": ALIAS}
    assert int(reply.headers.get("content-length", len(reply.body))) == len(reply.body)
    # Without a byte of difference besides.
    assert reply.body.replace(RENAMED, json.dumps(NAMED).encode(), 1) == plain.body
    world.rewrite(restore=True)
    assert (await world.ask()).json()["model"] == ALIAS
    # The name is the target's own already.
    assert (await world.ask(model=TARGET)).json() == SAID
    assert [
        (one.code, one.prompt_tokens, one.completion_tokens) for one in await world.told(4)
    ] == [(200, 7, 3)] * 4


async def test_other_answers_are_left_alone(world: World) -> None:
    world.rewrite(restore=True)
    packed = await world.ask(**{"accept-encoding": "gzip"})
    assert json.loads(gzip.decompress(packed.body)) == SAID
    text = await world.ask(accept="text/plain")
    assert text.json() == SAID
    # In full duplex Envoy takes it away, whatever the picker does.
    assert text.headers.get("content-length", str(len(text.body))) == str(len(text.body))


async def test_events_name_it_and_nothing_waits(world: World, request: Any) -> None:
    """The name comes in two pieces, the second when the client has what stands before."""
    world.rewrite(restore=True)
    body = json.dumps({"model": ALIAS, "prompt": "x", "stream": True}).encode()
    reader, writer = await asyncio.open_connection(*world.address)
    try:
        head = f"POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        seen = b""
        begun = b'data: {"model":' + RENAMED
        if "[buffered]" in request.node.name:
            world.go_on.set()
        async with asyncio.timeout(DEADLINE_SECONDS):
            while whole_of(seen) != begun and not world.go_on.is_set():
                seen += await reader.read(65536)
            world.go_on.set()
            while not seen.endswith(b"\r\n0\r\n\r\n"):
                seen += await reader.read(65536)
    finally:
        writer.transport.abort()
    wanted = (CHUNK * 2 + LAST).replace(b'"model":"org/m"', b'"model":' + RENAMED)
    assert whole_of(seen) == wanted.replace(b'"model": "org/m"', b'"model": ' + RENAMED)
    (told,) = await world.told(1)
    assert (told.prompt_tokens, told.completion_tokens) == (7, 3)


async def test_every_way_does_the_same_with_odd_text(world: World) -> None:
    world.rewrite(restore=True)
    changed = 0
    for number, text in enumerate(ODD):
        events = number % 2 == 0
        kind = "text/event-stream" if events else "application/json"
        reply = await world.ask(path=f"/odd/{number}", accept=kind)
        assert reply.status == 200
        assert reply.body == ModelRestorer(RENAMED, events=events).feed(text), (number, text)
        changed += reply.body != text
    assert 5 < changed < len(ODD)
