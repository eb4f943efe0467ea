"""The ext_proc port of a whole picker: real gRPC and TLS, and proxies that leave in the middle."""

from __future__ import annotations

import asyncio
import datetime
import random
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from envoy.service.ext_proc.v3 import external_processor_pb2 as ext_proc
from extproc_messages import POST, answer_body, answer_headers, body, headers, kinds, streamed
from fake_server import FakeServer

from inferway.base.clock import SystemClock
from inferway.base.errors import InferwayError, UsageError
from inferway.picker import flags, health
from inferway.picker.answers import FinalAnswer
from inferway.picker.extproc import certificates, serving, stream
from inferway.picker.extproc.machine import Settings
from inferway.picker.extproc.server import ExtProcServer, ServingOptions
from inferway.picker.machine import Callout
from inferway.picker.replies import Refused, Reply
from inferway.picker.run import Picker
from inferway.scheduling.policy import CostPolicy

BASE: dict[str, object] = {"id": "m", "object": "model", "parent": None}
DEADLINE_SECONDS = 10.0
PLAIN = "--secure-serving=false"
REQUEST = b'{"model": "m", "prompt": "x"}'


@asynccontextmanager
async def picking(*servers: str, extra: tuple[str, ...] = (PLAIN,)) -> AsyncIterator[Picker]:
    argv = ["--pool-name", "p", "--pool-namespace", "ns", "--bind-address", "127.0.0.1"]
    argv += ["--endpoints", ",".join(servers)]
    for name in ("grpc", "grpc-health", "metrics", "pick", "feedback"):
        argv += [f"--{name}-port", "0"]
    picker = Picker(flags.parse([*argv, *extra], {}), CostPolicy, SystemClock(), "test")
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        work = tasks.create_task(picker.run(None, stop))
        try:
            await until(lambda: picker.pool.synced or work.done())
            if not work.done():
                yield picker
        finally:
            stop.set()


async def until(condition: Callable[[], bool]) -> None:
    loop = asyncio.get_running_loop()
    end = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < end
        turn = asyncio.Event()
        loop.call_later(0.005, turn.set)
        await turn.wait()


def process(channel: Any) -> Any:
    """A stream of a proxy."""
    return channel.stream_stream(
        f"/{health.EXT_PROC_SERVICE}/Process",
        request_serializer=ext_proc.ProcessingRequest.SerializeToString,
        response_deserializer=ext_proc.ProcessingResponse.FromString,
    )(timeout=DEADLINE_SECONDS)


async def test_one_request_over_grpc_and_health_beside_it() -> None:
    async with FakeServer([BASE]).serving() as server, picking(server.address) as picker:
        target = f"127.0.0.1:{picker.ports['grpc']}"
        async with grpc.aio.insecure_channel(target) as channel:
            call = process(channel)
            for message in (headers(), body(REQUEST)):
                await call.write(message)
            answers = [await call.read(), await call.read()]
            assert kinds(answers) == ["request_headers", "request_body"]
            assert answers[0].dynamic_metadata["envoy.lb"] == {
                "x-gateway-destination-endpoint": server.address
            }
            assert picker.scheduler.in_flight() == {server.address: 1}
            usage = b'{"usage": {"prompt_tokens": 5, "completion_tokens": 2}}'
            for message in (answer_headers(), answer_body(usage, end=True)):
                await call.write(message)
            answers = [await call.read(), await call.read()]
            assert streamed(answers, "response_body") == [(usage, True)]
            assert picker.scheduler.in_flight() == {server.address: 0}
            await call.done_writing()
            assert await call.code() == grpc.StatusCode.OK
            check = channel.unary_unary(f"/{health.SERVICE}/Check")
            for name in ("", "liveness", "readiness", health.EXT_PROC_SERVICE):
                data = name.encode()
                asked = bytes([0x0A, len(data)]) + data if data else b""
                assert await check(asked, timeout=DEADLINE_SECONDS) == b"\x08\x01"


async def test_a_picker_that_is_not_ready_fails_the_stream() -> None:
    async with FakeServer([BASE]).serving() as server, picking(server.address) as picker:
        picker.pool.synced = False
        async with grpc.aio.insecure_channel(f"127.0.0.1:{picker.ports['grpc']}") as channel:
            call = process(channel)
            await call.write(headers({":method": "GET", ":path": "/x"}, end=True))
            assert await call.code() == grpc.StatusCode.UNAVAILABLE


async def test_a_held_request_is_answered_when_there_is_an_endpoint_or_let_go() -> None:
    async with FakeServer([BASE]).serving() as server, picking(server.address) as picker:
        server.models = [BASE, {"id": "new", "object": "model", "parent": "m"}]
        server.hang.clear()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{picker.ports['grpc']}") as channel:
            calls = [process(channel) for _ in range(2)]
            for call in calls:
                await call.write(headers())
                await call.write(body(b'{"model": "new", "prompt": "x"}'))
            await until(lambda: server.asked.count("models") > 1)
            # One proxy does not wait for the answer.
            calls[1].cancel()
            await until(lambda: picker.ext_proc.streams == 1)
            server.hang.set()
            assert (await calls[0].read()).WhichOneof("response") == "request_headers"
            assert picker.scheduler.in_flight() == {server.address: 1}
            calls[0].cancel()
            await until(lambda: picker.scheduler.in_flight() == {server.address: 0})


async def test_a_large_body_goes_back_while_the_answer_comes() -> None:
    """A server may answer before it has read all; nobody waits for the other then."""
    async with FakeServer([BASE]).serving() as server, picking(server.address) as picker:
        data = b'{"model": "m", "prompt": "%b"}' % (b"x" * 30_000_000)
        options = [("grpc.max_receive_message_length", 1 << 20)]
        target = f"127.0.0.1:{picker.ports['grpc']}"
        async with grpc.aio.insecure_channel(target, options=options) as channel:
            call = process(channel)
            await call.write(headers(POST | {"content-length": str(len(data))}))
            for at in range(0, len(data), 1_000_000):
                piece = data[at : at + 1_000_000]
                await call.write(body(piece, end=at + 1_000_000 >= len(data)))
            # Nothing is read yet, and the answer is there.
            await call.write(answer_headers())
            await call.write(answer_body(b"done", end=True))
            back = b""
            seen = []
            while "response_body" not in seen:
                message = await call.read()
                seen.append(str(message.WhichOneof("response")))
                back += b"".join(piece for piece, _ in streamed([message], "request_body"))
            assert back == data
            await call.done_writing()
            assert await call.code() == grpc.StatusCode.OK
        await until(lambda: picker.ext_proc.streams == 0)
        assert picker.ext_proc.room.taken == 0
        assert picker.scheduler.in_flight() == {server.address: 0}


async def test_a_body_that_stops_coming_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "REQUEST_IDLE_SECONDS", 0.05)
    async with picking("127.0.0.1:1") as picker:
        target = f"127.0.0.1:{picker.ports['grpc']}"
        channel = grpc.aio.insecure_channel(target)
        call = process(channel)
        await call.write(headers())
        answer = await call.read()
        assert answer.immediate_response.status.code == 408
        assert await call.code() == grpc.StatusCode.OK
        await channel.close()


@pytest.mark.slow
async def test_streams_that_end_anywhere_give_everything_back() -> None:
    rng = random.Random(7)
    script = [headers(), body(REQUEST[:9], end=False), body(REQUEST[9:])]
    script += [answer_headers(), answer_body(b'{"usage": {}}'), answer_body(b"", end=True)]
    async with FakeServer([BASE]).serving() as server, picking(server.address) as picker:
        target = f"127.0.0.1:{picker.ports['grpc']}"

        async def one(channel: Any) -> None:
            call = process(channel)
            for number, message in enumerate(script[: rng.randint(1, len(script))]):
                await call.write(message)
                if number == 2:
                    await call.read()
            if rng.random() < 0.5:
                call.cancel()
                return
            await call.done_writing()
            while await call.read() is not grpc.aio.EOF:
                pass

        async with grpc.aio.insecure_channel(target) as channel, asyncio.TaskGroup() as group:
            for _ in range(300):
                group.create_task(one(channel))
        await until(lambda: picker.ext_proc.streams == 0)
        await until(lambda: not len(picker.scheduler.ledger))
        assert picker.scheduler.in_flight() == {server.address: 0}
        assert picker.ext_proc.room.taken == 0


def write_pair(folder: Path, name: str) -> bytes:
    now = datetime.datetime.now(datetime.UTC)
    key, certificate = certificates.self_signed(now, name=name)
    (folder / "tls.key").write_bytes(key)
    (folder / "tls.crt").write_bytes(certificate)
    return certificate


async def presented(port: int) -> str:
    """The certificate that a new connection gets."""
    found = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port), timeout=5)
    return found.strip()


async def test_certificates_are_read_again_as_they_change(tmp_path: Path) -> None:
    first = write_pair(tmp_path, "first").decode().strip()
    async with picking("127.0.0.1:1", extra=("--cert-path", str(tmp_path))) as picker:
        port = picker.ports["grpc"]
        assert await presented(port) == first
        # What can not be used changes nothing.
        (tmp_path / "tls.crt").write_text("half")
        assert await presented(port) == first
        second = write_pair(tmp_path, "second").decode().strip()
        assert await presented(port) == second
        assert second != first


async def test_a_self_signed_certificate_is_the_default() -> None:
    async with picking("127.0.0.1:1", extra=()) as picker:
        certificate = await presented(picker.ports["grpc"])
        credentials = grpc.ssl_channel_credentials(certificate.encode())
        options = [("grpc.ssl_target_name_override", "localhost")]
        target = f"127.0.0.1:{picker.ports['grpc']}"
        async with grpc.aio.secure_channel(target, credentials, options=options) as channel:
            call = process(channel)
            await call.write(headers({":method": "GET", ":path": "/x"}, end=True))
            assert (await call.read()).WhichOneof("response") == "request_headers"
            call.cancel()


@pytest.mark.parametrize("what", ["nothing", "text", "others"])
def test_a_folder_without_a_usable_pair_is_one_clear_message(tmp_path: Path, what: str) -> None:
    if what == "text":
        (tmp_path / "tls.crt").write_text("x")
        (tmp_path / "tls.key").write_text("x")
    elif what == "others":
        write_pair(tmp_path, "a")
        kept = (tmp_path / "tls.key").read_bytes()
        write_pair(tmp_path, "b")
        (tmp_path / "tls.key").write_bytes(kept)
    with pytest.raises(InferwayError) as caught:
        certificates.CertificateFolder(tmp_path)
    assert caught.value.code == "INFERWAY0415"


def test_suites_have_the_names_of_the_published_pickers() -> None:
    env: dict[str, str] = {}
    certificates.use_suites([], env)
    assert env == {}
    wanted = ["TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"]
    certificates.use_suites(wanted, env)
    suites = "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256"
    assert env == {"GRPC_SSL_CIPHER_SUITES": suites}
    with pytest.raises(UsageError, match="INFERWAY0416"):
        certificates.use_suites(["TLS_RSA_WITH_RC4_128_SHA"], env)


def test_a_version_of_tls_that_can_not_be_held_is_refused() -> None:
    for words, fine in ((["VersionTLS12"], True), (["VersionTLS13"], False)):
        options = flags.parse(["--pool-name", "p", "--tls-min-version", *words], {})
        if fine:
            assert serving.serving_options(options).secure
            continue
        with pytest.raises(UsageError, match="INFERWAY0416"):
            serving.serving_options(options)


async def test_streams_are_counted_where_a_flag_asks_for_it() -> None:
    def read(picker: Picker) -> dict[str, Any]:
        sources = picker.sources()
        found = {name: rows for source in sources for name, rows in source.read()}
        return {name: rows for name, rows in found.items() if "extproc" in name}

    async with FakeServer([BASE]).serving() as server, picking(server.address) as picker:
        assert read(picker) == {}
    extra = (PLAIN, "--enable-grpc-stream-metrics")
    async with (
        FakeServer([BASE]).serving() as server,
        picking(server.address, extra=extra) as picker,
    ):
        async with grpc.aio.insecure_channel(f"127.0.0.1:{picker.ports['grpc']}") as channel:
            call = process(channel)
            await call.write(headers({":method": "GET", ":path": "/x"}, end=True))
            await call.read()
            assert read(picker)["llm_d_epp_extproc_streams_inflight"] == {(): 1}
            await call.done_writing()
            assert await call.code() == grpc.StatusCode.OK
            picker.pool.synced = False
            call = process(channel)
            await call.write(headers({":method": "GET", ":path": "/x"}, end=True))
            assert await call.code() == grpc.StatusCode.UNAVAILABLE
            call = process(channel)
            await call.write(headers())
            await until(lambda: picker.ext_proc.streams == 1)
            call.cancel()
            await until(lambda: picker.ext_proc.streams == 0)
        seen = read(picker)
    assert seen["llm_d_epp_extproc_streams_inflight"] == {(): 0}
    ended = seen["llm_d_epp_extproc_streams_total"]
    # A stream that its proxy resets ends as read or as cancelled, whichever gRPC says first.
    assert ended[("OK",)] + ended.get(("Canceled",), 0) == 2
    assert ended[("Unavailable",)] == 1
    assert sum(ended.values()) == 3
    durations = seen["llm_d_epp_extproc_stream_duration_seconds"]
    assert {code: sum(row.counts) for code, row in durations.items()} == ended


async def test_a_stream_may_say_which_pool_it_means() -> None:
    targets: list[bytes] = []

    def ask(call: Callout, proxy: str) -> Reply:
        targets.append(call.target)
        return Refused(FinalAnswer(503, "nobody"), b"r")

    pools = {name: Settings(name) for name in ("ns/first", "ns/second")}
    ready = health.HealthService(lambda: True)
    server = ExtProcServer(pools, ask, lambda event: None, ready, ServingOptions(secure=False))
    async with asyncio.TaskGroup() as group:
        server.begin(group)
        port = await server.listen("127.0.0.1:0")
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            for pool in ("", "ns/second", "ns/unknown"):
                call = channel.stream_stream(
                    f"/{health.EXT_PROC_SERVICE}/Process",
                    request_serializer=ext_proc.ProcessingRequest.SerializeToString,
                    response_deserializer=ext_proc.ProcessingResponse.FromString,
                )(timeout=DEADLINE_SECONDS, metadata=(("x-inferway-pool", pool),) if pool else ())
                await call.write(headers({":method": "GET", ":path": "/x"}, end=True))
                assert await call.code() == grpc.StatusCode.UNAVAILABLE
        await server.stop(0)
    assert targets == [b"/pick/ns/first/x", b"/pick/ns/second/x", b"/pick/ns/unknown/x"]
