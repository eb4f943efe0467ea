"""Runs probes and lifecycle hooks as a kubelet does, and words their failures as it does.

Knows HTTP, TCP and gRPC's health protocol; commands go through a Pod's sandbox. Every answer is
``(passed, message)``; nothing is raised.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Protocol

import aiohttp
import grpc

from inferway.api.pods import (
    Container,
    ExecAction,
    GRPCAction,
    HTTPGetAction,
    LifecycleHandler,
    Probe,
    TCPSocketAction,
)

USER_AGENT = "kube-probe/1.37"
Answer = tuple[bool, str]
# A kubelet reads no more of a body than this.
BODY_BYTES_MAX = 10 * 1024


class Commands(Protocol):
    """Runs a command in a container; None when the time is over."""

    async def execute(
        self, container: str, argv: list[str], seconds: float
    ) -> tuple[int, bytes] | None: ...


class Prober:
    """Shared by all Pods; ``async with`` opens and closes its HTTP session."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Prober:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            headers={"User-Agent": USER_AGENT, "Accept": "*/*"},
            auto_decompress=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def probe(
        self, probe: Probe, container: Container, address: str, commands: Commands
    ) -> Answer:
        """One look."""
        seconds = float(probe.timeout_seconds)
        if probe.http_get is not None:
            return await self._http(probe.http_get, container, address, seconds)
        if probe.tcp_socket is not None:
            return await _tcp(probe.tcp_socket, container, address, seconds)
        if probe.grpc is not None:
            return await _grpc(probe.grpc, address, seconds)
        if probe.exec is not None:
            return await _command(probe.exec, container.name, commands, seconds)
        return False, "missing probe handler"

    async def hook(
        self,
        handler: LifecycleHandler,
        container: Container,
        address: str,
        commands: Commands,
        seconds: float,
    ) -> Answer:
        """One lifecycle hook."""
        if handler.sleep is not None:
            await asyncio.sleep(min(float(handler.sleep.seconds), seconds))
            return True, ""
        if handler.http_get is not None:
            return await self._http(handler.http_get, container, address, seconds)
        if handler.tcp_socket is not None:
            return await _tcp(handler.tcp_socket, container, address, seconds)
        if handler.exec is not None:
            return await _command(handler.exec, container.name, commands, seconds)
        return True, ""

    async def _http(
        self, action: HTTPGetAction, container: Container, address: str, seconds: float
    ) -> Answer:
        assert self._session is not None
        port = port_number(action.port, container)
        if port is None:
            return False, f"couldn't find port: {action.port}"
        host = action.host or address
        path = action.path if action.path.startswith("/") else f"/{action.path}"
        url = f"{action.scheme.lower()}://{host}:{port}{path}"
        headers = {header.name: header.value for header in action.http_headers}
        try:
            async with self._session.get(
                url,
                headers=headers,
                ssl=_unchecked() if action.scheme == "HTTPS" else True,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=seconds),
            ) as answer:
                if 200 <= answer.status < 400:
                    return True, ""
                return False, f"HTTP probe failed with statuscode: {answer.status}"
        except TimeoutError:
            cause = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
            return False, f'Get "{url}": {cause}'
        except aiohttp.ClientConnectorError as error:
            return False, f'Get "{url}": dial tcp {host}:{port}: connect: {_cause(error.os_error)}'
        except aiohttp.ServerDisconnectedError:
            return False, f'Get "{url}": EOF'
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return False, f'Get "{url}": {_cause(error)}'


async def _tcp(
    action: TCPSocketAction, container: Container, address: str, seconds: float
) -> Answer:
    port = port_number(action.port, container)
    if port is None:
        return False, f"couldn't find port: {action.port}"
    host = action.host or address
    try:
        async with asyncio.timeout(seconds):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return False, f"dial tcp {host}:{port}: i/o timeout"
    except OSError as error:
        return False, f"dial tcp {host}:{port}: connect: {_cause(error)}"
    writer.close()
    return True, ""


async def _grpc(action: GRPCAction, address: str, seconds: float) -> Answer:
    target = f"{address}:{action.port}"
    # HealthCheckRequest{service = 1}; short names need one length byte, others two.
    name = action.service.encode()
    request = b"\n" + _varint(len(name)) + name if name else b""
    async with grpc.aio.insecure_channel(
        target, options=(("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1))
    ) as channel:
        call = channel.unary_unary("/grpc.health.v1.Health/Check")
        try:
            answer: bytes = await call(request, timeout=seconds)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                return False, "error: this server does not implement the grpc health protocol"
            if error.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
                cause = f'failed to connect service "{target}" within {seconds:.0f}s'
                return False, f"timeout: {cause}: context deadline exceeded"
            return False, f"error: health rpc probe failed: {error.details()}"
    states = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
    # HealthCheckResponse{status = 1}; an absent field is UNKNOWN.
    state = states.get(answer[1] if len(answer) >= 2 and answer[0] == 8 else 0, "UNKNOWN")
    if state == "SERVING":
        return True, ""
    return False, f'service unhealthy (responded with "{state}")'


def _varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


async def _command(
    action: ExecAction, container: str, commands: Commands, seconds: float
) -> Answer:
    result = await commands.execute(container, list(action.command), seconds)
    if result is None:
        text = " ".join(action.command)
        return False, f'command timed out: "{text}" timed out after {seconds:.0f}s'
    code, output = result
    return code == 0, output.decode(errors="replace")


def port_number(port: int | str, container: Container) -> int | None:
    """The number of a port that may be given by name."""
    if isinstance(port, int):
        return port
    for known in container.ports:
        if known.name == port:
            return known.container_port
    return int(port) if port.isdigit() else None


def _unchecked() -> ssl.SSLContext:
    """As a kubelet: a Pod's certificate is not checked, only its answer counts."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _cause(error: BaseException) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, ConnectionResetError):
        return "read: connection reset by peer"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text or type(error).__name__
