"""Real Envoy with the configuration of the IR: the fast path and what surrounds it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import pytest
import pytest_asyncio
from gateway_channel import FAILED, ChannelServer, frame
from gateway_rig import (
    DEADLINE_SECONDS,
    Handler,
    HttpAnswer,
    HttpRequest,
    Rig,
    Server,
    answer,
    json_backend,
    own_address,
    read_head,
    request,
    rig,
)

from inferway.gateway.envoy.hygiene import CONTROL_HEADERS
from inferway.gateway.translate import ir
from inferway.picker.wishes import READ

pytestmark = pytest.mark.slow
PORT = 80
# The two ways to ask a picker; what a user sees is the same.
CALLOUT, NATIVE = "callout", "native"
both = pytest.mark.parametrize("stack", [CALLOUT, NATIVE], indirect=True)


@dataclass
class Stack:
    """One Envoy, three servers and a picker on a Unix socket."""

    rig: Rig
    servers: list[Server]
    picker: Server
    picks: str = ""
    probed: bool = False
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def address(self) -> tuple[str, int]:
        return (self.rig.host, PORT + 8000)

    def endpoints(self) -> tuple[ir.Endpoint, ...]:
        return tuple(sorted(ir.Endpoint(item.host, item.port) for item in self.servers))

    def pick(self, *, fail_open: bool, seconds: float = 5.0, splice: bool = False) -> ir.Pick:
        return ir.Pick("picker/ns/epp", "/pick/ns/pool", seconds, fail_open, splice)

    def gateway(self, *routes: ir.Route, strict: bool = True) -> ir.Gateway:
        socket = ir.Endpoint(str(self.rig.folder / "pick.sock"))
        return ir.Gateway(
            "ns",
            "gw",
            (ir.Port(PORT, (ir.Host("*", routes),)),),
            (
                ir.Cluster("picker/ns/epp", ir.ClusterKind.PICKER, (socket,), probed=self.probed),
                ir.Cluster("pool/ns/pool", ir.ClusterKind.POOL, self.endpoints(), strict=strict),
                ir.Cluster("service/ns/web/80", ir.ClusterKind.SERVICE, self.endpoints()[2:]),
            ),
        )

    async def serve(self, *, fail_open: bool = False, seconds: float = 5.0) -> None:
        share = ir.Share(
            "pool/ns/pool", 1, self.pick(fail_open=fail_open, seconds=seconds), pool=True
        )
        route = ir.Route("r", ir.RequestMatch(), (share,))
        await self.rig.publish(self.gateway(route, strict=not fail_open))

    async def post(self, **options: object) -> HttpAnswer:
        return await request(self.address, **options)  # type: ignore[arg-type]


@pytest_asyncio.fixture
async def stack(request: pytest.FixtureRequest) -> AsyncIterator[Stack]:
    native = getattr(request, "param", CALLOUT) == NATIVE
    module = request.getfixturevalue("pick_module") if native else ""
    async with rig(module) as made:
        servers = []
        for number in range(3):
            server = Server(json_backend(str(number)))
            await server.start(own_address(10 + number))
            servers.append(server)
        picker = (ChannelServer if native else Server)(json_backend("unused"))
        built = Stack(made, servers, picker)

        async def pick(_: HttpRequest, writer: asyncio.StreamWriter) -> None:
            headers = {"x-gateway-destination-endpoint": built.picks, "x-inferway-pick": "p-1"}
            answer(writer, headers=headers)

        built.picker.handler = pick
        built.picks = servers[1].address
        await built.picker.start("", str(made.folder / "pick.sock"))
        yield built
        for server in [*servers, built.picker]:
            server.stop()


@both
async def test_picked_server_answers(stack: Stack) -> None:
    await stack.serve()
    reply = await stack.post(
        headers={"x-session": "s", "authorization": "Bearer k"}, body=b'{"a":1}'
    )
    assert reply.status == 200
    assert reply.json()["server"] == "1"
    assert reply.headers["x-went-into-resp-headers"] == "true"
    assert reply.headers["server"] == "uvicorn"
    assert reply.headers["x-request-id"]
    (asked,) = stack.picker.seen
    assert asked.path == "/pick/ns/pool/v1/completions"
    assert asked.body == b'{"a":1}'
    assert asked.headers["x-session"] == "s"
    assert asked.headers["x-request-id"] == reply.headers["x-request-id"]
    (served,) = stack.servers[1].seen
    assert "x-gateway-destination-endpoint" not in served.headers
    assert served.headers["authorization"] == "Bearer k"


@both
async def test_list_is_followed_on_retry(stack: Stack) -> None:
    await stack.serve()
    gone = stack.servers[0]
    gone.stop()

    async def hang_up(_: HttpRequest, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    stack.servers[1].handler = hang_up
    unknown = f"{own_address(50)}:1"
    stack.picks = ",".join(
        [unknown, gone.address, stack.servers[1].address, stack.servers[2].address]
    )
    reply = await stack.post(body=b"x" * 200_000)
    assert (reply.status, reply.json()["server"]) == (200, "2")
    assert len(stack.servers[1].seen) == 1
    assert len(stack.servers[2].seen[0].body) == 200_000


@both
async def test_unknown_address_is_an_error_where_failure_closes(stack: Stack) -> None:
    await stack.serve(fail_open=False)
    stack.picks = f"{own_address(50)}:1"
    reply = await stack.post()
    assert reply.status == 503
    assert "no healthy upstream" in reply.json()["error"]["message"]
    assert reply.headers["x-should-retry"] == "true"
    assert reply.headers["x-request-id"]


@both
async def test_unknown_address_is_balanced_where_failure_opens(stack: Stack) -> None:
    await stack.serve(fail_open=True)
    stack.picks = f"{own_address(50)}:1"
    assert (await stack.post()).status == 200


async def _hang(_: HttpRequest, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def _reset(_: HttpRequest, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


@both
@pytest.mark.parametrize("fault", ["gone", "hung", "reset"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_failure_mode_holds(stack: Stack, fault: str, method: str) -> None:
    if fault == "gone":
        stack.picker.stop()
    else:
        stack.picker.handler = _hang if fault == "hung" else _reset
    body = b"x" * 300_000
    await stack.serve(fail_open=True, seconds=0.1)
    assert (await stack.post(method=method, body=body)).status == 200
    await stack.serve(fail_open=False, seconds=0.1)
    reply = await stack.post(method=method, body=body)
    assert reply.status == 503
    assert reply.json()["error"]["code"] == "picker_unavailable"
    assert sum(len(server.seen) for server in stack.servers) == 1


@pytest.mark.parametrize("stack", [CALLOUT], indirect=True)
async def test_a_hung_picker_is_found_although_answers_may_take_long(stack: Stack) -> None:
    """Waiting in the picker's queue is no failure; a picker that does not even say so is one."""
    stack.probed = True
    await stack.serve(fail_open=True, seconds=600.0)
    assert (await stack.post()).status == 200
    stack.picker.handler = _hang
    assert (await _answered_at_once(stack)).status == 200
    await stack.serve(fail_open=False, seconds=600.0)
    assert (await _answered_at_once(stack)).status == 503


async def _answered_at_once(stack: Stack) -> HttpAnswer:
    """The first answer that does not wait for the picker."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    return await stack.post()


@pytest.mark.parametrize("stack", [NATIVE], indirect=True)
async def test_the_channel_does_not_leave_questions_with_a_hung_picker(stack: Stack) -> None:
    await stack.serve(fail_open=True, seconds=600.0)
    stack.picker.handler = _hang
    assert (await stack.post()).status == 200


@both
async def test_a_picker_that_holds_a_question_long_is_not_hung(stack: Stack) -> None:
    stack.probed = not isinstance(stack.picker, ChannelServer)
    chosen = stack.picker.handler

    async def hold(question: HttpRequest, writer: asyncio.StreamWriter) -> None:
        """As a picker does whose pool is full for longer than a hung one is borne."""
        for _ in range(7 if "/pick/" in question.path else 0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await asyncio.Event().wait()
            if isinstance(stack.picker, ChannelServer):
                writer.transport.write(frame(0, FAILED, 0))
        await chosen(question, writer)

    stack.picker.handler = hold
    await stack.serve(fail_open=False, seconds=60.0)
    reply = await stack.post()
    assert (reply.status, reply.json()["server"]) == (200, "1")


@both
async def test_client_can_not_choose(stack: Stack) -> None:
    await stack.serve(fail_open=True)
    victim = stack.servers[2].address
    headers = {
        "x-gateway-destination-endpoint": victim,
        "x-llm-d-destination-endpoint": victim,
        "x-inferway-pick": "forged",
        "X-Inferway-Picker": "forged",
    }
    reply = await stack.post(headers=headers)
    assert reply.json()["server"] == "1"
    (asked,), (served,) = stack.picker.seen, stack.servers[1].seen
    for request_ in (asked, served):
        assert not {"x-gateway-destination-endpoint", "x-llm-d-destination-endpoint"} & set(
            request_.headers
        )
    assert asked.headers.get("x-inferway-pick") is None
    # The callout names its choice in a header, for the access log; the channel needs no name.
    named = "p-1" if type(stack.picker) is Server else None
    assert served.headers.get("x-inferway-pick") == named
    # A dead picker does not make the client's wish count either.
    stack.picker.stop()
    used = {(await stack.post(headers=headers)).json()["server"] for _ in range(12)}
    assert used != {"2"}


@both
@pytest.mark.parametrize("fail_open", [True, False])
@pytest.mark.parametrize(("said", "status"), [(429, 429), (463, 503)])
async def test_answer_of_the_picker_passes_untouched(
    stack: Stack, said: int, status: int, fail_open: bool
) -> None:
    await stack.serve(fail_open=fail_open)
    shed = b'{"error": {"message": "busy 50%", "type": "overloaded", "param": null, "code": 1}}'

    async def busy(_: HttpRequest, writer: asyncio.StreamWriter) -> None:
        headers = {"content-type": "application/json", "retry-after": "2", "retry-after-ms": "1500"}
        answer(writer, shed, status=said, headers=headers)

    stack.picker.handler = busy
    reply = await stack.post()
    assert (reply.status, reply.body) == (status, shed)
    assert reply.headers["retry-after-ms"] == "1500"
    assert reply.headers["content-type"] == "application/json"


@both
async def test_five_megabytes_each_way(stack: Stack) -> None:
    await stack.serve()
    large = json.dumps({"data": "y" * 5_000_000, "usage": {"prompt_tokens": 1}}).encode()

    async def embed(_: HttpRequest, writer: asyncio.StreamWriter) -> None:
        answer(writer, large, headers={"content-type": "application/json"})

    stack.servers[1].handler = embed
    reply = await stack.post(body=b"x" * 5_000_000)
    assert (reply.status, reply.body == large) == (200, True)
    assert len(stack.picker.seen[0].body) == len(stack.servers[1].seen[0].body) == 5_000_000


@both
async def test_stream_outlives_its_picker(stack: Stack) -> None:
    await stack.serve()
    go_on = asyncio.Event()

    async def stream(_: HttpRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n")
        writer.write(b"transfer-encoding: chunked\r\n\r\n")
        for number in range(2):
            event = b'data: {"n": %d}\n\n' % number
            writer.write(b"%x\r\n%b\r\n" % (len(event), event))
            await writer.drain()
            if number == 0:
                await go_on.wait()
        writer.write(b"0\r\n\r\n")

    stack.servers[1].handler = stream
    reader, writer = await asyncio.open_connection(*stack.address)
    writer.write(b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}")
    await read_head(reader)
    size = int((await reader.readline()).strip(), 16)
    assert await reader.readexactly(size) == b'data: {"n": 0}\n\n'
    stack.picker.stop()
    go_on.set()
    await reader.readexactly(2)
    rest = await reader.readuntil(b"0\r\n\r\n")
    assert b'data: {"n": 1}' in rest
    writer.transport.abort()


@both
async def test_client_that_leaves_frees_its_callout(stack: Stack) -> None:
    stack.picker.handler = _wait_for_the_end(stack)
    await stack.serve(seconds=30.0)
    _, writer = await asyncio.open_connection(*stack.address)
    writer.write(b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}")
    async with asyncio.timeout(DEADLINE_SECONDS):
        await stack.asked.wait()
        writer.transport.abort()
        await stack.picker.closed.wait()


def _wait_for_the_end(stack: Stack) -> Handler:
    """A picker that holds the request in its queue, and reads on to notice the end."""

    async def hold(_: HttpRequest, writer: asyncio.StreamWriter) -> None:
        stack.asked.set()

    return hold


@both
async def test_weights_ask_only_the_picker_of_their_pool(stack: Stack) -> None:
    shares = (
        ir.Share("pool/ns/pool", 70, stack.pick(fail_open=False), pool=True),
        ir.Share("service/ns/web/80", 30, response=ir.HeaderChanges(put=(("x-web", "50%"),))),
    )
    await stack.rig.publish(stack.gateway(ir.Route("r", ir.RequestMatch(), shares)))
    replies = [await stack.post() for _ in range(200)]
    pooled = [item for item in replies if item.json()["server"] == "1"]
    others = [item for item in replies if item.json()["server"] == "2"]
    assert len(pooled) + len(others) == 200
    assert 110 <= len(pooled) <= 170
    assert len(stack.picker.seen) == len(pooled)
    assert all(item.headers["x-web"] == "50%" for item in others)
    assert all("x-went-into-resp-headers" not in item.headers for item in others)


async def test_broken_reference_answers_its_share(stack: Stack) -> None:
    shares = (ir.Share("service/ns/web/80", 1), ir.Share("", 1))
    alone = ir.Route("b", ir.RequestMatch(ir.PathMatch(ir.MatchKind.EXACT, "/alone")), (shares[1],))
    await stack.rig.publish(stack.gateway(alone, ir.Route("r", ir.RequestMatch(), shares)))
    codes = [(await stack.post()).status for _ in range(60)]
    assert set(codes) == {200, 500}
    reply = await stack.post(path="/alone")
    assert reply.status == 500
    assert reply.headers["content-type"] == "application/json"
    assert reply.json()["error"]["code"] == "backend_not_found"


async def test_no_route_is_a_404_in_openai_words(stack: Stack) -> None:
    match = ir.RequestMatch(ir.PathMatch(ir.MatchKind.PREFIX, "/v1"))
    share = ir.Share("service/ns/web/80")
    await stack.rig.publish(stack.gateway(ir.Route("r", match, (share,))))
    assert (await stack.post(path="/v1/x")).status == 200
    reply = await stack.post(path="/v11")
    assert reply.status == 404
    assert reply.json()["error"]["code"] == "route_not_found"


async def test_header_changes_and_matches(stack: Stack) -> None:
    changes = ir.HeaderChanges(put=(("X-Put", "100%d"),), add=(("X-Add", "b"),), remove=("X-Gone",))
    match = ir.RequestMatch(
        headers=(ir.ValueMatch("x-tier", "go.d", ir.MatchKind.REGEX),),
        query=(ir.ValueMatch("debug", "1"),),
        method="POST",
    )
    shares = (ir.Share("service/ns/web/80"),)
    await stack.rig.publish(stack.gateway(ir.Route("r", match, shares, request=changes)))
    sent = {"x-tier": "gold", "x-add": "a", "x-gone": "1", "x-put": "old"}
    assert (await stack.post(path="/?debug=1", headers=sent)).status == 200
    seen = stack.servers[2].seen[0].headers
    assert (seen["x-put"], seen.get("x-gone")) == ("100%d", None)
    assert seen["x-add"] in ("a,b", "b")
    assert (await stack.post(path="/?debug=2", headers=sent)).status == 404
    assert (await stack.post(path="/?debug=1", method="GET", headers=sent)).status == 404


@pytest.mark.parametrize(
    ("redirect", "matched", "path", "location"),
    [
        (ir.Redirect(301, hostname="new.example"), "/", "/a?b=c", "http://new.example/a?b=c"),
        (
            ir.Redirect(scheme="https", hostname="n.example", port=8443),
            "/",
            "/a",
            "https://n.example:8443/a",
        ),
        (ir.Redirect(hostname="n.example", full_path="/full"), "/", "/a", "http://n.example/full"),
        (
            ir.Redirect(hostname="n.example", prefix="/new"),
            "/old",
            "/old/x",
            "http://n.example/new/x",
        ),
        (ir.Redirect(hostname="n.example", prefix="/new"), "/old", "/old", "http://n.example/new"),
        (ir.Redirect(hostname="n.example", prefix="/"), "/old", "/old/x", "http://n.example/x"),
        (ir.Redirect(hostname="n.example", prefix="/"), "/old", "/old", "http://n.example/"),
        (ir.Redirect(hostname="n.example", prefix="/new"), "/", "/x", "http://n.example/new/x"),
    ],
)
async def test_redirects(
    stack: Stack, redirect: ir.Redirect, matched: str, path: str, location: str
) -> None:
    match = ir.RequestMatch(ir.PathMatch(ir.MatchKind.PREFIX, matched))
    await stack.rig.publish(stack.gateway(ir.Route("r", match, redirect=redirect)))
    reply = await stack.post(path=path)
    assert (reply.status, reply.headers["location"]) == (redirect.status, location)


@pytest.mark.parametrize("which", ["request_seconds", "attempt_seconds"])
async def test_timeouts(stack: Stack, which: str) -> None:
    stack.servers[2].handler = _hang
    shares = (ir.Share("service/ns/web/80"),)
    route = replace(ir.Route("r", ir.RequestMatch(), shares), **{which: 0.1})
    await stack.rig.publish(stack.gateway(route))
    reply = await stack.post()
    assert reply.status == 504
    assert reply.json()["error"]["code"] == "timeout"


@both
async def test_model_is_rewritten_by_offsets(stack: Stack) -> None:
    share = ir.Share("pool/ns/pool", 1, stack.pick(fail_open=False, splice=True), pool=True)
    await stack.rig.publish(stack.gateway(ir.Route("r", ir.RequestMatch(), (share,))))

    async def pick(_: HttpRequest, writer: asyncio.StreamWriter) -> None:
        headers = {
            "x-gateway-destination-endpoint": stack.picks,
            "x-inferway-splice": "10,15,tuned-v2",
        }
        answer(writer, headers={**headers, "x-inferway-pick": "p"})

    stack.picker.handler = pick
    await stack.post(body=b'{"model":"alias","n":1}')
    (served,) = stack.servers[1].seen
    assert served.body == b'{"model":"tuned-v2","n":1}'
    assert "x-inferway-splice" not in served.headers


@both
async def test_more_pools_than_filters_of_their_own(stack: Stack) -> None:
    """Pools beyond the limit share two filters, and keep their paths and failure modes."""
    routes = []
    for number in range(10):
        pick = ir.Pick("picker/ns/epp", f"/pick/ns/{number}", 5.0, fail_open=number % 2 == 0)
        match = ir.RequestMatch(ir.PathMatch(ir.MatchKind.PREFIX, f"/{number}"))
        routes.append(ir.Route(str(number), match, (ir.Share("pool/ns/pool", 1, pick, True),)))
    await stack.rig.publish(stack.gateway(*routes, strict=False))
    for number in (0, 9):
        assert (await stack.post(path=f"/{number}/x")).json()["server"] == "1"
    assert [item.path for item in stack.picker.seen] == ["/pick/ns/0/0/x", "/pick/ns/9/9/x"]
    stack.picker.stop()
    assert (await stack.post(path="/0/x")).status == 200
    assert (await stack.post(path="/9/x")).status == 503


@both
async def test_what_is_said_to_the_picker_does_not_reach_the_server(stack: Stack) -> None:
    await stack.serve()
    session = {"x-session-id": "s", "prefer": "wait=5"}
    reply = await stack.post(headers=dict.fromkeys(CONTROL_HEADERS, "1") | session)
    assert reply.status == 200
    (asked,), (served,) = stack.picker.seen, stack.servers[1].seen
    assert set(CONTROL_HEADERS) <= set(asked.headers)
    assert not set(CONTROL_HEADERS) & set(served.headers)
    assert session.items() <= served.headers.items()


def test_control_headers_are_those_that_the_picker_reads() -> None:
    """Sessions, preferences and encodings mean something to servers too."""
    also = {"x-session-id", "x-session-token", "prefer", "content-encoding", "x-inferway-explain"}
    assert set(CONTROL_HEADERS) == {name.decode() for name in READ} - also
