"""The data path alone: Envoy as the gateway configures it, and a picker, without a cluster.

The intermediate representation is written here by hand, as the demo's objects translate to it; the
Envoy messages, the xDS server, the bootstrap and the picker are the real ones. Knows these rooms'
public functions; measures nothing itself.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from inferway.base.errors import InferwayError
from inferway.base.native import SEARCH_PATH_VARIABLE, module_folder
from inferway.bench import backends, processes
from inferway.bench.target import Target
from inferway.gateway.envoy.resources import Built
from inferway.gateway.proxy.bootstrap import Xds, bootstrap_text
from inferway.gateway.translate import ir
from inferway.gateway.xds.hub import Hub
from inferway.gateway.xds.server import serve

PORT = 18081
FEEDBACK_PORT = 9005
GATEWAY = ("default", "inference-gateway")
POOL = "vllm-qwen"
PICKER = f"default/{POOL}-epp"
PICK_SECONDS = 5.0
REQUEST_SECONDS = 300.0
START_SECONDS_MAX = 20.0


def gateway(address: str, socket: Path, upstreams: Sequence[str]) -> ir.Gateway:
    """One route to one pool, with its picker on a Unix socket and its feedback on TCP."""
    pick = ir.Pick(f"picker/{PICKER}", f"/pick/default/{POOL}", PICK_SECONDS, fail_open=True)
    share = ir.Share(f"pool/default/{POOL}", pick=pick, pool=True)
    route = ir.Route("all", ir.RequestMatch(), (share,), request_seconds=REQUEST_SECONDS)
    servers = tuple(ir.Endpoint(host, backends.PORT) for host in upstreams)
    kinds = ir.ClusterKind
    return ir.Gateway(
        *GATEWAY,
        ports=(ir.Port(PORT, (ir.Host("*", (route,)),)),),
        clusters=(
            ir.Cluster(
                f"feedback/{PICKER}",
                kinds.FEEDBACK,
                (ir.Endpoint(address, FEEDBACK_PORT),),
                http2=True,
            ),
            ir.Cluster(f"picker/{PICKER}", kinds.PICKER, (ir.Endpoint(str(socket)),)),
            ir.Cluster(f"pool/default/{POOL}", kinds.POOL, servers),
        ),
    )


class _Controller(threading.Thread):
    """The xDS server with one configuration, in a thread and an event loop of its own."""

    def __init__(self, built: Built, address: str) -> None:
        super().__init__(name="xds", daemon=True)
        self._built = built
        self._address = address
        self._loop = asyncio.new_event_loop()
        self._ended = asyncio.Event()
        self.listening = threading.Event()
        self.port = 0

    def run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        hub = Hub(lambda _: None)
        hub.publish("/".join(GATEWAY), self._built, 1)
        async with serve(hub, f"{self._address}:0") as port:
            self.port = port
            self.listening.set()
            await self._ended.wait()

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self.join(timeout=START_SECONDS_MAX)


@contextmanager
def controller(built: Built, address: str) -> Iterator[int]:
    """Serves the configuration while the block runs; gives the port. Raises InferwayError."""
    thread = _Controller(built, address)
    thread.start()
    if not thread.listening.wait(START_SECONDS_MAX):
        raise InferwayError(
            "INFERWAY0174",
            f"the xDS server does not listen on {address}",
            fix="See whether another program has the port: ss -ltnp",
        )
    try:
        yield thread.port
    finally:
        thread.end()


def picker_words(address: str, socket: Path, upstreams: Sequence[str]) -> list[str]:
    """The picker with fixed servers, listening where the stack's node would let it."""
    servers = ",".join(f"{host}:{backends.PORT}" for host in upstreams)
    return [
        *(sys.executable, "-m", "inferway", "picker"),
        *("--pool-name", POOL, "--pool-namespace", "default"),
        *("--endpoints", servers, "--bind-address", address),
        *("--pick-socket", str(socket), "--feedback-port", str(FEEDBACK_PORT)),
    ]


def bootstrap(address: str, xds_port: int, module: str) -> str:
    """The proxies' bootstrap with what a kubelet would put into it."""
    text = bootstrap_text(GATEWAY, "bench", Xds(address, xds_port))
    for name, value in {
        "POD_NAME": "bench",
        "POD_NAMESPACE": GATEWAY[0],
        "POD_IP": address,
        "BIND_ADDRESS": address,
        "PRIVILEGED_PORT_OFFSET": "0",
        SEARCH_PATH_VARIABLE: module,
    }.items():
        text = text.replace(f"$({name})", value)
    return text


@contextmanager
def running(
    address: str, upstreams: Sequence[str], folder: Path, concurrency: int
) -> Iterator[Target]:
    """Picker and Envoy while the block runs. Raises InferwayError when one does not start."""
    socket = folder / "pick.sock"
    # Empty in the environment: proxies ask by HTTP.
    module = os.environ.get(SEARCH_PATH_VARIABLE, module_folder())
    built = Built(gateway(address, socket, upstreams))
    started: list[subprocess.Popen[str]] = []
    with controller(built, address) as xds_port:
        try:
            picker = backends.start(picker_words(address, socket, upstreams), folder)
            started.append(picker)
            backends.wait_for_port(address, FEEDBACK_PORT, picker, folder)
            words = [backends.find_envoy(), "--config-yaml", bootstrap(address, xds_port, module)]
            words += ["--concurrency", str(concurrency), "--log-level", "error"]
            words.append("--disable-hot-restart")
            proxy = backends.start(words, folder, {SEARCH_PATH_VARIABLE: module})
            started.append(proxy)
            backends.wait_for_port(address, PORT, proxy, folder)
            parts = {"envoy": [proxy.pid], "picker": [picker.pid]}
            yield Target("inferway-data-path", f"http://{address}:{PORT}", parts)
        finally:
            for process in reversed(started):
                processes.stop(process)
