"""``inferway simulator``: parses flags, listens, answers until it is told to stop."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from inferway.base.errors import InferwayError
from inferway.simulator import flags
from inferway.simulator.app import App
from inferway.simulator.http import HttpServer
from inferway.simulator.options import Options

if TYPE_CHECKING:
    from inferway.simulator.kv_events import KvPublisher

# Connections that may wait to be accepted; load generators open hundreds at once.
BACKLOG_CONNECTIONS = 2048
# Log lines are written together, so that a line costs no system call of its own.
LOG_FLUSH_SECONDS = 0.1
LOG_LINES_MAX = 1000


class Output:
    """Lines for standard output, written in batches."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lines: list[str] = []

    def say(self, line: str) -> None:
        if not self._lines:
            self._loop.call_later(LOG_FLUSH_SECONDS, self.flush)
        self._lines.append(line)
        if len(self._lines) >= LOG_LINES_MAX:
            self.flush()

    def flush(self) -> None:
        if not self._lines:
            return
        text = "\n".join(self._lines) + "\n"
        self._lines.clear()
        # Whoever read the log has gone; the server goes on.
        with suppress(OSError, ValueError):
            sys.stdout.write(text)
            sys.stdout.flush()


def _listener(options: Options) -> socket.socket:
    """A listening socket. Raises InferwayError."""
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((options.host, options.port))
        listener.listen(BACKLOG_CONNECTIONS)
    except OSError as error:
        listener.close()
        raise InferwayError(
            "INFERWAY0506",
            f"cannot listen: {error.strerror or error}",
            about=f"{options.host}:{options.port}",
            fix="choose another --port or --host, or stop the program that has it",
        ) from None
    listener.setblocking(False)
    return listener


async def _unix_server(
    loop: asyncio.AbstractEventLoop, http: HttpServer, path: str
) -> asyncio.AbstractServer:
    """A server on a Unix socket. Raises InferwayError."""
    try:
        return await loop.create_unix_server(http, path, backlog=BACKLOG_CONNECTIONS)
    except OSError as error:
        raise InferwayError(
            "INFERWAY0506",
            f"cannot listen: {error.strerror or error}",
            about=path,
            fix="choose another --uds in a folder that exists and may be written",
        ) from None


def _access_log(options: Options, say: Callable[[str], None]) -> Callable[[str], None] | None:
    if not options.access_log:
        return None
    if not options.quiet_paths:
        return say

    def log(line: str) -> None:
        target = line.split('"', 2)[1].split(" ")[1].partition("?")[0]
        if target not in options.quiet_paths:
            say(line)

    return log


async def serve(
    options: Options, stop: asyncio.Event, ready: Callable[[str, int], None] | None = None
) -> None:
    """Serves until ``stop`` is set, then lets what is in flight finish. Raises InferwayError.

    ``ready`` is called with the address and port once requests are accepted.
    """
    if options.kv_events is None or not options.kv_events.publishes:
        await _serve(options, stop, ready, None)
        return
    # ZeroMQ is not loaded by a server that publishes nothing.
    from inferway.simulator.kv_events import KvPublisher

    publisher = KvPublisher(options.kv_events, options.engine.block_size_tokens, options.host)
    try:
        async with asyncio.TaskGroup() as tasks:
            replays = tasks.create_task(publisher.run(), name="KV event replays")
            await _serve(options, stop, ready, publisher)
            replays.cancel()
    finally:
        publisher.close()


async def _serve(
    options: Options,
    stop: asyncio.Event,
    ready: Callable[[str, int], None] | None,
    publisher: KvPublisher | None,
) -> None:
    loop = asyncio.get_running_loop()
    output = Output(loop)
    try:
        app = App(options, loop, output.say)
        if publisher is not None:
            app.publish_to(publisher)
        http = HttpServer(app.handle, _access_log(options, output.say))
        server: asyncio.AbstractServer
        if options.unix_socket:
            server = await _unix_server(loop, http, options.unix_socket)
            host, port = options.unix_socket, 0
        else:
            listener = _listener(options)
            host, port = listener.getsockname()[:2]
            server = await loop.create_server(http, sock=listener, backlog=BACKLOG_CONNECTIONS)
        for warning in options.warnings:
            output.say(f"WARNING: {warning}")
        output.say(f"INFO:     Started server process [{os.getpid()}]")
        output.say("INFO:     Application startup complete.")
        where = f"unix:{host}" if options.unix_socket else f"http://{host}:{port}"
        output.say(f"INFO:     Simulated vLLM server on {where}")
        output.flush()
        if ready is not None:
            ready(host, port)
        await stop.wait()
        server.close()
        output.say("INFO:     Shutting down")
        try:
            async with asyncio.timeout(options.drain_seconds_max):
                await http.drain()
        except TimeoutError:
            http.abort()
        output.say("INFO:     Application shutdown complete.")
    finally:
        output.flush()


async def _run(options: Options) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await serve(options, stop)


def main(argv: Sequence[str], env: Mapping[str, str]) -> int:
    """Exit code 0 after a clean stop, 1 where the server could not run, 2 for bad flags."""
    try:
        options = flags.parse(argv, env)
    except InferwayError as error:
        print(f"inferway simulator: error: {error}", file=sys.stderr)
        return error.exit_code
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 2
    # Importing uvloop is the largest part of start-up, and bad flags do not need it.
    import uvloop

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(options))
    except InferwayError as error:
        print(f"inferway simulator: error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
