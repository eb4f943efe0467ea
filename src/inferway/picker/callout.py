"""One connection of the pick callout, HTTP/1.1: bytes to the machine, callouts to the service."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import cast

from inferway.picker import answers
from inferway.picker.machine import CalloutMachine, Command, Malformed
from inferway.picker.peers import PickPeers, peer_of
from inferway.picker.replies import Chosen, Later, Reply, Told
from inferway.scheduling.events import Doubted

# A connection that closes this soon after an answer most often belongs to a client that left.
DOUBT_WINDOW_SECONDS = 1.0
# What proxies ask to see that the picker does not hang; held callouts may take long.
PROBE_TARGET = b"/healthz"
_ALIVE = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


class CalloutProtocol(asyncio.Protocol):
    """One connection of a proxy."""

    def __init__(self, server: PickPeers) -> None:
        self._server = server
        self._machine = CalloutMachine(server.service.declared)
        self._transport: asyncio.Transport | None = None
        self._proxy = ""
        self._waiting: deque[Command] = deque()
        self._held = False
        self._cancel: Callable[[], None] | None = None
        self._bodiless = False
        self._last_pick = ""
        self._last_at = 0.0
        self._time = server.time

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._proxy = peer_of(self._transport)
        self._server.connected(self, self._proxy)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._waiting.clear()
        if self._cancel is not None:
            # The proxy closes a callout as soon as its client is gone.
            self._cancel()
            self._cancel = None
        if self._last_pick and self._time() - self._last_at < DOUBT_WINDOW_SECONDS:
            self._server.settle(Doubted(self._last_pick))
        self._server.disconnected(self, self._proxy)

    def data_received(self, data: bytes) -> None:
        for command in self._machine.handle(data):
            if self._held:
                self._waiting.append(command)
            else:
                self._run(command)

    @property
    def open(self) -> int:
        """Whether a question waits; how requests end is told elsewhere."""
        return int(self._held)

    @property
    def picks(self) -> Iterable[str]:
        """Ends are told by access logs."""
        return ()

    def close_when_idle(self) -> None:
        """Closes, after the answer that is under way."""
        if self._transport is not None and not self._held:
            self._transport.close()

    def _run(self, command: Command) -> None:
        if isinstance(command, Malformed):
            if self._transport is not None:
                refused = self._server.service.malformed(command)
                self._transport.write(answers.final(refused.answer, b"", close=True))
                self._transport.close()
            return
        if command.target == PROBE_TARGET:
            if self._transport is not None:
                self._transport.write(_ALIVE)
            return
        self._bodiless = command.method == b"HEAD"
        reply = self._server.service.answer(command, self._proxy)
        if isinstance(reply, Later):
            self._held = True
            if reply.start(self._resume):
                self._cancel = reply.cancel
                return
            self._held = False
            reply = reply.otherwise
        self._write(reply)

    def _write(self, reply: Reply) -> None:
        pick = reply.pick if isinstance(reply, Chosen) else ""
        if self._transport is None:
            if pick:
                self._server.settle(Doubted(pick))
            return
        if isinstance(reply, Chosen):
            data = answers.chosen(
                reply.addresses,
                pick,
                reply.request_id,
                reply.splice,
                (*reply.headers, *reply.response_headers),
                reply.restore,
            )
        elif isinstance(reply, Told):
            data = answers.told(reply.body, reply.request_id)
        else:
            data = answers.final(reply.answer, reply.request_id)
        if self._bodiless:
            # An answer to HEAD says how long its body would be and has none.
            data = data[: data.index(b"\r\n\r\n") + 4]
        self._transport.write(data)
        self._last_pick = pick
        self._last_at = self._time()
        if self._server.draining:
            self._transport.close()

    def _resume(self, reply: Reply) -> None:
        self._held = False
        self._cancel = None
        self._write(reply)
        while self._waiting and not self._held:
            self._run(self._waiting.popleft())
