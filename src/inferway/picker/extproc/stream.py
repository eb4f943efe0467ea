"""One ext_proc stream: messages to the machine, its commands to the service and to the wire.

Writes at once what is small. A large body is sent by a task of its own, so that the answer is read
meanwhile: a server may answer before it has read all, and then waits itself until it is read.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

from inferway.picker.extproc import wire
from inferway.picker.extproc.commands import (
    Ask,
    Close,
    Command,
    Echo,
    Leave,
    Send,
    Settle,
)
from inferway.picker.extproc.machine import ExtProcMachine
from inferway.picker.machine import Callout
from inferway.picker.replies import Later, Reply
from inferway.scheduling.events import Event

_log = logging.getLogger(__name__)

# What the books say instead of a proxy's name: each stream tells of its own end.
PROXY = "ext_proc"
# A proxy that sends nothing of a request that it has begun; Envoy's own limit for idle streams.
REQUEST_IDLE_SECONDS = 300.0
# A proxy that sends nothing of an answer; the longest that the books believe in a request.
ANSWER_IDLE_SECONDS = 3600.0
# A body up to this size is written before anything is read. Envoy's window of a stream has 16 MiB,
# older ones' 256 MiB, so that such a write ends although nobody reads the body itself.
INLINE_BYTES_MAX = 1024 * 1024
# Bytes of an answer that wait behind a large request body that is still being written.
BACKLOG_BYTES_MAX = 4 * 1024 * 1024

Asker = Callable[[Callout, str], Reply | Later]


class ExtProcStream:
    """One request of a proxy. ``group`` runs what goes on beside the reading."""

    def __init__(
        self,
        machine: ExtProcMachine,
        ask: Asker,
        settle: Callable[[Event], None],
        context: Any,
        group: asyncio.TaskGroup,
    ) -> None:
        self._machine = machine
        self._ask = ask
        self._settle = settle
        self._context = context
        self._group = group
        self._time = asyncio.get_running_loop().time
        self._leave: Callable[[], None] | None = None
        self._replied: asyncio.Future[Reply] | None = None
        self._reading: asyncio.Task[Any] | None = None
        self._outbox: deque[Send | Echo] = deque()
        self._backlog = 0
        self._writer: asyncio.Task[None] | None = None
        self._drained = asyncio.Event()
        self._failure: str | None = None

    async def run(self) -> None:
        """Serves the stream to its end. What was reserved is given back on every way out."""
        try:
            while self._failure is None:
                commands = await self._next()
                if commands is None:
                    break
                await self._perform(commands)
            if self._writer is not None:
                await self._writer
        except grpc.aio.BaseError:
            # The proxy is gone in the middle of a write.
            pass
        finally:
            self._end()
        if self._failure:
            await self._context.abort(grpc.StatusCode.UNAVAILABLE, self._failure)

    async def _next(self) -> list[Command] | None:
        """What comes next, a message or the reply that is awaited; None: the stream has ended."""
        machine = self._machine
        seconds = REQUEST_IDLE_SECONDS if machine.collecting else ANSWER_IDLE_SECONDS
        if self._replied is None and self._reading is None:
            try:
                async with asyncio.timeout(seconds):
                    message = await self._context.read()
            except TimeoutError:
                return machine.overdue()
            return None if message is grpc.aio.EOF else machine.handle(message, self._time())
        if self._reading is None:
            self._reading = self._group.create_task(self._read(), name="ext_proc read")
        waited: list[asyncio.Future[Any]] = [self._reading]
        if self._replied is not None:
            waited.append(self._replied)
        await asyncio.wait(waited, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if self._replied is not None and self._replied.done():
            reply, self._replied, self._leave = self._replied.result(), None, None
            return machine.decided(reply, self._time())
        if not self._reading.done():
            return machine.overdue()
        message, self._reading = self._reading.result(), None
        return None if message is grpc.aio.EOF else machine.handle(message, self._time())

    async def _read(self) -> Any:
        """A read beside other things: its failure is the stream's end."""
        try:
            return await self._context.read()
        except Exception as error:
            _log.debug("ext_proc read", extra={"data": {"error": str(error)}})
            return grpc.aio.EOF

    async def _perform(self, commands: list[Command]) -> None:
        sending: list[Send | Echo] = []
        for command in commands:
            if isinstance(command, Ask):
                reply = self._asked(command.call)
                if reply is not None:
                    await self._perform(self._machine.decided(reply, self._time()))
            elif isinstance(command, Send | Echo):
                sending.append(command)
            elif isinstance(command, Settle):
                self._settle(command.event)
            elif isinstance(command, Leave):
                self._left()
            elif isinstance(command, Close):
                self._failure = command.failure
        if sending:
            await self._send(sending)
        self._machine.flushed()

    def _asked(self, call: Callout) -> Reply | None:
        """The reply, or None if it comes later."""
        reply = self._ask(call, PROXY)
        if not isinstance(reply, Later):
            return reply
        self._replied = asyncio.get_running_loop().create_future()
        if reply.start(self._resume):
            self._leave = reply.cancel
            return None
        self._replied = None
        return reply.otherwise

    def _resume(self, reply: Reply) -> None:
        """The reply is there; after the stream's end only what it reserved is given back."""
        if self._replied is not None and not self._replied.done():
            self._replied.set_result(reply)
            return
        for command in self._machine.decided(reply, self._time()):
            if isinstance(command, Settle):
                self._settle(command.event)

    def _left(self) -> None:
        replied, self._replied = self._replied, None
        leave, self._leave = self._leave, None
        if replied is not None and replied.done():
            self._resume(replied.result())
        elif leave is not None:
            leave()

    # -- writing ---------------------------------------------------------------------------

    async def _send(self, sending: list[Send | Echo]) -> None:
        size = sum(len(one.body) for one in sending if isinstance(one, Echo))
        if self._writer is None and size <= INLINE_BYTES_MAX:
            for one in sending:
                await self._write(one)
            return
        self._outbox.extend(sending)
        if self._writer is None:
            self._writer = self._group.create_task(self._write_all(), name="ext_proc write")
            return
        self._backlog += size
        while self._backlog > BACKLOG_BYTES_MAX and not self._writer.done():
            self._drained.clear()
            await self._drained.wait()

    async def _write_all(self) -> None:
        """Empties the outbox; a proxy that is gone ends it."""
        try:
            while self._outbox:
                await self._write(self._outbox.popleft())
        except Exception as error:
            # Whatever it is, it is this stream's alone.
            _log.debug("ext_proc write", extra={"data": {"error": str(error)}})
            self._outbox.clear()
        finally:
            self._writer = None
            self._backlog = 0
            self._drained.set()

    async def _write(self, one: Send | Echo) -> None:
        write = self._context.write
        if isinstance(one, Send):
            await write(one.message)
            return
        for message in wire.streamed(one.kind, one.body, end=one.end, first=one.first):
            await write(message)

    def _end(self) -> None:
        for command in self._machine.ended(self._time()):
            if isinstance(command, Settle):
                self._settle(command.event)
            elif isinstance(command, Leave):
                self._left()
        self._left()
        for task in (self._reading, self._writer):
            if task is not None:
                task.cancel()
