"""Sockets of the exchange: who hears this picker, and whom this picker hears.

A picker believes only what comes over a connection that it has made itself, to an address that
Kubernetes or a flag names: nobody else can tell it of reservations. Who connects here is told what
is open: picks, addresses, model names, counts, and hashes of blocks of prompts.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Protocol, cast

import msgspec

from inferway.base.clock import Clock
from inferway.picker.exchange import messages
from inferway.picker.exchange.machine import (
    Announcer,
    Command,
    Disconnect,
    Finish,
    Heard,
    Release,
    Reserve,
)
from inferway.picker.exchange.messages import End, Message
from inferway.scheduling.announced import Announced
from inferway.scheduling.events import Finished

_log = logging.getLogger(__name__)

# What happens in this time goes in one batch.
BATCH_SECONDS = 0.001
# A batch that is this long does not wait; some 300 KB.
BATCH_MAX = 1000
# Who is alive says so this often, and who says nothing for so long is taken to be gone.
ALIVE_SECONDS = 0.5
SILENCE_SECONDS = 3.0
RETRY_SECONDS = 0.25
CONNECT_SECONDS = 2.0
# A picker that does not read what it is told connects again and hears all that is open.
UNSENT_BYTES_MAX = 4 * 1024 * 1024
# A pool has a few pickers; others that connect could only cost memory.
LISTENERS_MAX = 64


class ExchangedPool(Protocol):
    """What the exchange needs of a pool."""

    def reserve_announced(self, announced: Announced, picker: str) -> None:
        """Another picker has sent a request to a server."""
        ...

    def release_announced(self, pick: str) -> None:
        """It is over."""
        ...

    def finish_announced(self, event: Finished) -> None:
        """It is over, and this is how it went."""
        ...

    def open_now(self) -> list[Announced]:
        """Reservations of this picker, oldest first."""
        ...

    def announce_to(self, exchange: Exchange | None) -> None:
        """Tells reservations from now on, or no more."""
        ...

    def meet(self, exchange: Exchange) -> None:
        """There are others: ends of requests are of interest to them, and theirs come here."""
        ...


class Exchange:
    """Both directions for all pools of a process."""

    def __init__(
        self,
        picker: str,
        pools: dict[str, ExchangedPool],
        settle: Callable[[Finished], None],
        clock: Clock,
        lost: Callable[[], None] = lambda: None,
    ) -> None:
        """``settle`` is told of reports that came to another picker, ``lost`` of a picker's end."""
        self.port = 0
        self.announced = 0
        self.heard = Heard(picker)
        self._picker = picker
        self._pools = pools
        self._settle = settle
        self._lost = lost
        self._clock = clock
        self._announcer = Announcer(picker)
        self._listeners: set[_Listener] = set()
        self._flushing: asyncio.TimerHandle | None = None
        self._dialling: dict[str, asyncio.Task[None]] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._server: asyncio.Server | None = None
        self._met = False

    @property
    def listeners(self) -> int:
        """Pickers that hear this one."""
        return len(self._listeners)

    # -- telling ---------------------------------------------------------------------------

    def opened(self, pool: str, announced: Announced) -> None:
        """A request was sent to a server."""
        self._announcer.opened(pool, announced)
        self._soon()

    def closed(self, picks: Iterable[str]) -> None:
        """Requests of this picker are over, and nobody knows how they went."""
        if self._listeners:
            for pick in picks:
                self._announcer.closed(pick)
            self._soon()

    def finished(self, event: Finished) -> None:
        """A request of this picker is over."""
        if self._listeners:
            self._announcer.ended(End.of(event))
            self._soon()

    def ended(self, event: Finished) -> None:
        """A report of another picker's request has come here."""
        self._apply(self.heard.ended_here(event.pick))
        self.finished(event)

    def _soon(self) -> None:
        if self._announcer.pending >= BATCH_MAX:
            self._flush()
        elif self._flushing is None and self._announcer.pending:
            loop = asyncio.get_running_loop()
            self._flushing = loop.call_later(BATCH_SECONDS, self._flush)

    def _flush(self) -> None:
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        batch = self._announcer.batch()
        self.announced += len(batch.opened)
        data = messages.frame(batch)
        for listener in list(self._listeners):
            listener.write(data)

    # -- listening -------------------------------------------------------------------------

    async def listen(self, address: str, port: int) -> None:
        """Raises OSError if the port is taken."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Listener(self), address, port)
        self.port = self._server.sockets[0].getsockname()[1]

    def joined(self, listener: _Listener) -> bytes:
        """Everything that is open, for one who begins to hear; nothing if there are too many."""
        if len(self._listeners) >= LISTENERS_MAX:
            return b""
        if not self._listeners:
            for pool in self._pools.values():
                pool.announce_to(self)
        self._meet()
        self._flush()
        self._listeners.add(listener)
        open_now = {
            name: pool.open_now()[-messages.SNAPSHOT_MAX :] for name, pool in self._pools.items()
        }
        return messages.frame(self._announcer.hello(open_now))

    def _meet(self) -> None:
        if not self._met:
            self._met = True
            for pool in self._pools.values():
                pool.meet(self)

    def left(self, listener: _Listener) -> None:
        """One hears no more."""
        self._listeners.discard(listener)
        if not self._listeners:
            for pool in self._pools.values():
                pool.announce_to(None)

    # -- hearing ---------------------------------------------------------------------------

    def set_peers(self, addresses: Iterable[str]) -> None:
        """Whom to hear: ``host:port`` of the other pickers."""
        assert self._tasks is not None
        wanted = set(addresses)
        for address in self._dialling.keys() - wanted:
            self._dialling.pop(address).cancel()
        for address in wanted - self._dialling.keys():
            self._dialling[address] = self._tasks.create_task(
                self._dial(address), name=f"hear {address}"
            )

    async def run(self, peers: Sequence[str] = ()) -> None:
        """Works until cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
            self.set_peers(peers)
            while True:
                await asyncio.sleep(ALIVE_SECONDS)
                self._apply(self.heard.tick(self._clock.monotonic()))
                if self._listeners:
                    self._flush()

    def close(self) -> None:
        """Tells no more. What is pending goes out first."""
        if self._server is not None:
            self._server.close()
        if self._listeners and self._announcer.pending:
            self._flush()
        for listener in list(self._listeners):
            listener.close()

    async def _dial(self, address: str) -> None:
        """Hears one picker, for as long as it is one."""
        host, _, port = address.rpartition(":")
        while True:
            connection = object()
            try:
                await self._hear(connection, host.strip("[]"), int(port))
            except (OSError, TimeoutError, ValueError, EOFError, msgspec.MsgspecError) as error:
                _log.debug(
                    "another picker is not heard",
                    extra={"data": {"picker": address, "error": repr(error)}},
                )
            finally:
                if self.heard.lost(connection, self._clock.monotonic()):
                    self._lost()
            await asyncio.sleep(RETRY_SECONDS)

    async def _hear(self, connection: object, host: str, port: int) -> None:
        async with asyncio.timeout(CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(messages.GREETING)
            while True:
                async with asyncio.timeout(SILENCE_SECONDS):
                    size = messages.length(await reader.readexactly(4))
                    body = await reader.readexactly(size)
                if not self._take(connection, messages.decode(body)):
                    return
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    def _take(self, connection: object, message: Message) -> bool:
        """Whether the connection is still of use."""
        useful = self._apply(self.heard.handle(connection, message))
        if useful:
            self._meet()
        return useful

    def _apply(self, commands: Iterable[Command]) -> bool:
        for command in commands:
            if isinstance(command, Disconnect):
                _log.debug("another picker left", extra={"data": {"why": command.why}})
                return False
            if isinstance(command, Reserve):
                pool = self._pools.get(command.pool)
                if pool is not None:
                    pool.reserve_announced(command.announced, command.picker)
            elif isinstance(command, Release):
                pool = self._pools.get(command.pool)
                if pool is not None:
                    pool.release_announced(command.pick)
            elif isinstance(command, Finish):
                pool = self._pools.get(command.pool)
                if pool is not None:
                    pool.finish_announced(command.end.event())
            elif command.end.pick.startswith(self._picker):
                self._settle(command.end.event())
        return True


class _Listener(asyncio.Protocol):
    """A connection of another picker that hears this one."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._transport: asyncio.Transport | None = None
        self._greeting = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._exchange.left(self)

    def data_received(self, data: bytes) -> None:
        if self._transport is None or self._greeting == messages.GREETING:
            return
        self._greeting += data[: len(messages.GREETING)]
        if not messages.GREETING.startswith(self._greeting):
            self._transport.abort()
        elif self._greeting == messages.GREETING:
            hello = self._exchange.joined(self)
            if hello:
                self._transport.write(hello)
            else:
                self._transport.abort()

    def write(self, data: bytes) -> None:
        """Sends, or gives up one who does not read."""
        if self._transport is None:
            return
        if self._transport.get_write_buffer_size() > UNSENT_BYTES_MAX:
            self._transport.abort()
        else:
            self._transport.write(data)

    def close(self) -> None:
        """After what was sent."""
        if self._transport is not None:
            self._transport.close()
