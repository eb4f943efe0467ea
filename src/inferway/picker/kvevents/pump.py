"""Subscriptions to the KV events of a pool's servers: the sockets around ``session``.

A server that is gone is left, one that comes back under its address is subscribed to again; ZeroMQ
connects again by itself, and what was lost meanwhile shows as a gap.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import zmq
import zmq.asyncio

from inferway.base.clock import Clock
from inferway.picker.kvevents.session import Apply, Command, Live, Replayed, Session, Time
from inferway.scheduling.events import BlockEvent
from inferway.scheduling.snapshot import Endpoint, KvEvents

_log = logging.getLogger(__name__)

# Messages that wait in our socket; one is a step of an engine, so these are minutes.
RECEIVE_MESSAGES_MAX = 10_000
MESSAGE_BYTES_MAX = 16 * 1024 * 1024
# How often a session that waits for a replay is told the time.
TICK_SECONDS = 0.5
# Messages applied before others get their turn.
MESSAGES_AT_ONCE = 64


@dataclass(slots=True)
class _Source:
    endpoint: Endpoint
    session: Session
    task: asyncio.Task[None]


class KvSubscriber:
    """The sources of one pool. ``apply`` takes an address and events."""

    def __init__(self, apply: Callable[[str, Sequence[BlockEvent]], None], clock: Clock) -> None:
        self._apply = apply
        self._now = clock.monotonic
        self._context: zmq.asyncio.Context | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._sources: dict[str, _Source] = {}
        self._wanted: dict[str, Endpoint] = {}

    @property
    def sessions(self) -> dict[str, Session]:
        """By address."""
        return {address: source.session for address, source in self._sources.items()}

    def set_endpoints(self, endpoints: Iterable[Endpoint]) -> None:
        """Listens to those of them that publish, and to no others."""
        self._wanted = {e.address: e for e in endpoints if e.kv_events is not None}
        for address in list(self._sources):
            source = self._sources[address]
            wanted = self._wanted.get(address)
            if (
                wanted is None
                or wanted.name != source.endpoint.name
                or wanted.kv_events != source.endpoint.kv_events
            ):
                source.task.cancel()
                del self._sources[address]
        if self._tasks is None:
            return
        for address, endpoint in self._wanted.items():
            if address not in self._sources:
                assert endpoint.kv_events is not None
                session = Session(replays=endpoint.kv_events.replay_port > 0)
                work = self._listen(address, endpoint.kv_events, session)
                task = self._tasks.create_task(work, name=f"KV events of {address}")
                self._sources[address] = _Source(endpoint, session, task)

    async def run(self) -> None:
        """Works until cancelled. Where no server publishes nothing is opened."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                self.set_endpoints(list(self._wanted.values()))
                await asyncio.Event().wait()
        finally:
            self._tasks = None
            self._sources.clear()
            if self._context is not None:
                self._context.destroy(linger=0)
                self._context = None

    async def _listen(self, address: str, where: KvEvents, session: Session) -> None:
        host = address.rpartition(":")[0]
        while True:
            try:
                await self._follow(address, host, where, session)
            except zmq.ZMQError as error:
                _log.warning(
                    "KV events can not be followed",
                    extra={"data": {"endpoint": address, "error": str(error)}},
                )
                await asyncio.sleep(TICK_SECONDS)

    async def _follow(self, address: str, host: str, where: KvEvents, session: Session) -> None:
        if self._context is None:
            self._context = zmq.asyncio.Context()
        live = self._socket(zmq.SUB, host, where.port)
        live.setsockopt(zmq.SUBSCRIBE, where.topic.encode())
        replay: zmq.asyncio.Socket | None = None
        poller = zmq.asyncio.Poller()
        poller.register(live, zmq.POLLIN)
        try:
            while True:
                await poller.poll(TICK_SECONDS * 1e3 if session.replaying else None)
                commands = await _take(live, Live, session, self._now())
                if replay is not None:
                    commands += await _take(replay, Replayed, session, self._now())
                commands += session.handle(Time(), self._now())
                for command in commands:
                    if isinstance(command, Apply):
                        self._apply(address, command.events)
                        continue
                    if replay is None:
                        replay = self._socket(zmq.DEALER, host, where.replay_port)
                        poller.register(replay, zmq.POLLIN)
                    # Without a peer the message waits in the socket, and the session's time runs.
                    await replay.send_multipart([b"", command.start.to_bytes(8, "big")])
        finally:
            live.close(linger=0)
            if replay is not None:
                replay.close(linger=0)

    def _socket(self, kind: int, host: str, port: int) -> zmq.asyncio.Socket:
        assert self._context is not None
        socket = self._context.socket(kind)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVHWM, RECEIVE_MESSAGES_MAX)
        socket.setsockopt(zmq.MAXMSGSIZE, MESSAGE_BYTES_MAX)
        if host.startswith("["):
            socket.setsockopt(zmq.IPV6, 1)
        socket.connect(f"tcp://{host}:{port}")
        return socket


async def _take(
    socket: zmq.asyncio.Socket, kind: type[Live] | type[Replayed], session: Session, now: float
) -> list[Command]:
    """What follows from the messages that are here."""
    commands: list[Command] = []
    for _ in range(MESSAGES_AT_ONCE):
        try:
            frames = await socket.recv_multipart(zmq.DONTWAIT)
        except zmq.Again:
            break
        commands += session.handle(kind(frames), now)
    return commands
