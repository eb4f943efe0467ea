"""Headers of a choice through real Envoy, by both ways to ask a picker.

Prefill and decode, and sessions, with our own picker and its configuration; the names that pass by
a scripted picker. Contracts: "Headers of a choice" in docs/design/contracts.md.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from gateway_channel import ROUTE, ChannelServer, frame
from gateway_rig import (
    DEADLINE_SECONDS,
    Handler,
    HttpAnswer,
    HttpRequest,
    Rig,
    Server,
    answer,
    own_address,
    request,
    rig,
)

from inferway.base.clock import SystemClock
from inferway.gateway.envoy.names import CLIENT_HEADERS, SERVER_HEADERS
from inferway.gateway.translate import ir
from inferway.picker import config_file, flags
from inferway.picker.extproc.wire import CONTROL_HEADERS
from inferway.picker.run import Picker
from inferway.picker.service import QUEUE_HEADER
from inferway.scheduling.plugins import (
    data_parallel_profile_handler,
    disagg_profile_handler,
    p2p_source_producer,
    sessions,
)

pytestmark = pytest.mark.slow
CONTRACTS = Path(__file__).parents[2] / "docs" / "design" / "contracts.md"
CALLOUT, NATIVE = "callout", "native"
PREFILL, SESSION = "x-prefiller-host-port", "x-session-token"
# What a client would have to say to make a sidecar call another address.
FORGED = dict.fromkeys(SERVER_HEADERS, "169.254.169.254:80")
ROLES = """
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- {type: decode-filter}
- {type: prefill-filter}
- {type: prefix-based-pd-decider, parameters: {nonCachedTokens: 16}}
- {type: disagg-profile-handler, parameters: {deciders: {prefill: prefix-based-pd-decider}}}
- {type: file-discovery, parameters: {path: PATH}}
schedulingProfiles:
- {name: decode, plugins: [{pluginRef: decode-filter}]}
- {name: prefill, plugins: [{pluginRef: prefill-filter}]}
dataLayer: {discovery: {pluginRef: file-discovery}}
"""
SESSIONS = """
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- {type: session-affinity-scorer}
- {type: file-discovery, parameters: {path: PATH}}
schedulingProfiles:
- {name: default, plugins: [{pluginRef: session-affinity-scorer}]}
dataLayer: {discovery: {pluginRef: file-discovery}}
"""


def model_server(name: str, **headers: str) -> Handler:
    """Answers a picker, and completions with its name."""

    async def handle(asked: HttpRequest, writer: asyncio.StreamWriter) -> None:
        if asked.path == "/metrics":
            answer(writer, b"vllm:num_requests_waiting 0\nvllm:num_requests_running 0\n")
        elif asked.path == "/v1/models":
            answer(writer, b'{"object": "list", "data": [{"id": "m", "object": "model"}]}')
        else:
            kind = {"content-type": "application/json", **headers}
            answer(writer, json.dumps({"server": name}).encode(), headers=kind)

    return handle


@dataclass
class Stack:
    rig: Rig
    servers: dict[str, Server]

    async def serve(self) -> None:
        """Requests go to the pool, those to /plain to its servers without a picker."""
        pick = ir.Pick("picker/ns/p", "/pick/ns/p", 5.0, fail_open=False)
        shares = (ir.Share("pool/ns/p", 1, pick, pool=True),)
        match = ir.RequestMatch(ir.PathMatch(ir.MatchKind.PREFIX, "/plain"))
        routes = (
            ir.Route("plain", match, (ir.Share("service/ns/s/80"),)),
            ir.Route("pool", ir.RequestMatch(), shares),
        )
        ends = tuple(sorted(ir.Endpoint(one.host, one.port) for one in self.servers.values()))
        socket = ir.Endpoint(str(self.rig.folder / "pick.sock"))
        clusters = (
            ir.Cluster("picker/ns/p", ir.ClusterKind.PICKER, (socket,)),
            ir.Cluster("pool/ns/p", ir.ClusterKind.POOL, ends, strict=True),
            ir.Cluster("service/ns/s/80", ir.ClusterKind.SERVICE, ends),
        )
        port = ir.Port(80, (ir.Host("*", routes),))
        await self.rig.publish(ir.Gateway("ns", "gw", (port,), clusters))

    async def ask(
        self, prompt: str = "hi", path: str = "/v1/completions", **headers: str
    ) -> HttpAnswer:
        body = json.dumps({"model": "m", "prompt": prompt}).encode()
        return await request((self.rig.host, 8080), path, body=body, headers=headers)

    def served(self, name: str, path: str = "/v1/completions") -> dict[str, str]:
        """Headers of the last request of a client."""
        return [one.headers for one in self.servers[name].seen if one.path == path][-1]


@asynccontextmanager
async def stack(module: str, roles: dict[str, str], **headers: str) -> AsyncIterator[Stack]:
    """Envoy, and servers by name with their roles that answer with ``headers``."""
    async with rig(module) as made, AsyncExitStack() as stop:
        servers = {}
        for number, name in enumerate(roles):
            servers[name] = Server(model_server(name, **headers))
            await servers[name].start(own_address(10 + number))
            stop.callback(servers[name].stop)
        yield Stack(made, servers)


@asynccontextmanager
async def pool(
    module: str, config: str, roles: dict[str, str], **headers: str
) -> AsyncIterator[Stack]:
    """The same with our picker, which is configured so."""
    async with stack(module, roles, **headers) as one:
        listed = [
            {"name": name, "address": s.host, "port": s.port, "labels": {"llm-d.ai/role": role}}
            for (name, role), s in zip(roles.items(), one.servers.values(), strict=True)
        ]
        path = one.rig.folder / "endpoints.json"
        path.write_text(json.dumps({"endpoints": listed}))
        argv = ["--pool-name", "p", "--pool-namespace", "ns", "--bind-address", own_address(50)]
        argv += ["--pick-socket", str(one.rig.folder / "pick.sock"), "--drain-timeout", "0s"]
        for name in ("grpc", "grpc-health", "metrics", "pick", "feedback"):
            argv += [f"--{name}-port", "0"]
        argv += ["--allow-experimental-plugins", "--config-text", config.replace("PATH", str(path))]
        options = config_file.with_discovery(flags.parse(argv, {}), {})
        picker = Picker(options, partial(config_file.policy, options), SystemClock(), "test")
        ended = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            work = tasks.create_task(picker.run(None, ended))
            async with asyncio.timeout(DEADLINE_SECONDS):
                while not (picker.pool.synced or work.done()):
                    turn = asyncio.Event()
                    asyncio.get_running_loop().call_later(0.01, turn.set)
                    await turn.wait()
            try:
                await one.serve()
                yield one
            finally:
                ended.set()


@pytest.fixture(params=[CALLOUT, NATIVE])
def module(request: pytest.FixtureRequest) -> str:
    """The folder of the native pick filter, or nothing for the callout."""
    return str(request.getfixturevalue("pick_module")) if request.param == NATIVE else ""


async def test_the_decode_server_hears_who_prefills(module: str) -> None:
    async with pool(module, ROLES, {"d": "decode", "p": "prefill"}) as one:
        reply = await one.ask("word " * 400)
        assert (reply.status, reply.json()["server"]) == (200, "d")
        assert one.served("d")[PREFILL] == one.servers["p"].address
        # What a client says is replaced, and where the picker says nothing it is taken away.
        assert (await one.ask("other " * 400, **FORGED)).json()["server"] == "d"
        assert one.served("d")[PREFILL] == one.servers["p"].address
        assert not set(SERVER_HEADERS[1:]) & set(one.served("d"))
        assert (await one.ask("hi", **FORGED)).json()["server"] == "d"
        assert not set(SERVER_HEADERS) & set(one.served("d"))


async def test_no_route_passes_on_who_prefills(module: str) -> None:
    async with pool(module, ROLES, {"d": "decode"}) as one:
        assert (await one.ask(path="/plain", **FORGED)).status == 200
        assert not set(SERVER_HEADERS) & set(one.served("d", "/plain"))


async def test_a_session_stays_where_it_began(module: str) -> None:
    names = [str(number) for number in range(4)]
    async with pool(module, SESSIONS, dict.fromkeys(names, "")) as one:
        for _ in range(3):
            first = await one.ask()
            token = first.headers[SESSION]
            for _ in range(6):
                reply = await one.ask(**{SESSION: token})
                assert reply.status == 200
                assert reply.json()["server"] == first.json()["server"]
                assert reply.headers[SESSION] == token
        # Without a token they go anywhere.
        seen = {(await one.ask()).json()["server"] for _ in range(40)}
        assert len(seen) > 1


@asynccontextmanager
async def scripted(
    module: str, to_server: dict[str, str], to_client: dict[str, str]
) -> AsyncIterator[Stack]:
    """A picker that chooses the only server with these headers; that answers with a token too."""
    async with stack(module, {"a": ""}, **{SESSION: "mine"}) as one:
        choice = one.servers["a"].address

        async def by_callout(_: HttpRequest, writer: asyncio.StreamWriter) -> None:
            said = {"x-gateway-destination-endpoint": choice, "x-inferway-pick": "p"}
            answer(writer, headers={**said, **to_server, **to_client})

        async def by_channel(_: HttpRequest, writer: asyncio.StreamWriter) -> None:
            server, client = ([t for h in of.items() for t in h] for of in (to_server, to_client))
            body = "\0".join(client).encode()
            # Questions have the ids of the first slot, turn after turn.
            number = len(picker.seen) << 32
            writer.write(frame(number, ROUTE, 0, [choice, "", "", "", *server], body))

        picker = ChannelServer(by_channel) if module else Server(by_callout)
        await picker.start("", str(one.rig.folder / "pick.sock"))
        await one.serve()
        try:
            yield one
        finally:
            picker.stop()


async def test_all_names_of_the_contract_pass(module: str) -> None:
    to_server = {name: f"10.0.0.{at}:1" for at, name in enumerate(SERVER_HEADERS)}
    to_client = {name: f"v{at}" for at, name in enumerate(CLIENT_HEADERS)}
    async with scripted(module, to_server, to_client) as one:
        reply = await one.ask(**FORGED)
        assert reply.status == 200
        served = one.served("a")
        assert {name: served.get(name) for name in SERVER_HEADERS} == to_server
        assert {name: reply.headers.get(name) for name in CLIENT_HEADERS} == to_client
        assert not set(CLIENT_HEADERS) & set(served)
        assert not set(SERVER_HEADERS) & set(reply.headers)
        # Also where the server is gone and Envoy answers for it.
        one.servers["a"].stop()
        reply = await one.ask()
        assert (reply.status, reply.headers[SESSION]) == (503, to_client[SESSION])


async def tokens(one: Stack) -> list[str]:
    """The values of the token's header, which may be there twice."""
    reader, writer = await asyncio.open_connection(one.rig.host, 8080)
    try:
        writer.write(b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}")
        async with asyncio.timeout(DEADLINE_SECONDS):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
    finally:
        writer.transport.abort()
    return re.findall(rf"^{SESSION}: (\S+)", head, re.MULTILINE)


async def test_a_choice_goes_before_what_the_server_says(module: str) -> None:
    async with scripted(module, {}, {SESSION: "ours"}) as one:
        assert await tokens(one) == (["ours"] if module else ["mine", "ours"])


async def test_a_choice_without_headers_leaves_the_server_its_own(module: str) -> None:
    async with scripted(module, {}, {}) as one:
        assert await tokens(one) == ["mine"]


def test_the_names_are_those_of_the_contract_and_of_the_plugins() -> None:
    rows = re.findall(r"^\| `(\S+)` \| (server|client) \|", CONTRACTS.read_text(), re.MULTILINE)
    named = {who: tuple(name for name, for_ in rows if for_ == who) for who in ("server", "client")}
    assert named == {"server": SERVER_HEADERS, "client": CLIENT_HEADERS}
    assert set(SERVER_HEADERS) == {
        disagg_profile_handler.PREFILL_HEADER,
        disagg_profile_handler.ENCODE_HEADER,
        data_parallel_profile_handler.HEADER,
        p2p_source_producer.HEADER,
    }
    assert set(CLIENT_HEADERS) == {sessions.TOKEN_HEADER, QUEUE_HEADER}
    # Gateways of others take them away at the picker's word.
    assert {name.encode() for name in SERVER_HEADERS} <= CONTROL_HEADERS
