"""A picker whose proxies, servers and time are a test's: every way in which a request can end.

The picker is the real one, without sockets: connections get transports that keep what was written,
streams of ext_proc get a context of queues, and the loop's time moves when the test says so. What a
proxy has seen is the model: it counts a request on the first address of each answer.
"""

from __future__ import annotations

import asyncio
import json
import re
import struct
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import grpc
from envoy.data.accesslog.v3 import accesslog_pb2
from envoy.service.accesslog.v3 import als_pb2
from extproc_messages import answer_body, answer_headers, body, headers
from test_picker_frames import CANCEL, DONE, frame, question

from inferway.base.clock import ManualClock
from inferway.picker import flags
from inferway.picker.callout import CalloutProtocol
from inferway.picker.channel import ChannelProtocol
from inferway.picker.extproc.machine import ExtProcMachine, Settings
from inferway.picker.extproc.room import Room
from inferway.picker.extproc.stream import PROXY, ExtProcStream
from inferway.picker.feedback import FeedbackService
from inferway.picker.frames import GREETING
from inferway.picker.peers import PROXY_GONE_SECONDS
from inferway.picker.run import Picker
from inferway.scheduling.accounting import DOUBT_SECONDS, LEAK_SECONDS
from inferway.scheduling.events import Finished, ModelCard, Tick
from inferway.scheduling.policy import CostPolicy
from inferway.scheduling.snapshot import Endpoint

ADDRESSES = ("10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80")
HTTP_HEAD = "POST /pick/ns/p/v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n"
ROUTE = 1
# Turns of the loop after which nothing is left to do without more time.
TURNS = 12

T = TypeVar("T")


def asked(model: str, *, stream: bool) -> bytes:
    return json.dumps({"model": model, "prompt": "a b c", "stream": stream}).encode()


class Loop(asyncio.SelectorEventLoop):
    """A loop whose time stands until it is moved."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock(monotonic=1000.0)

    def time(self) -> float:
        return self.clock.monotonic()

    def call(self, step: Callable[[], T]) -> T:
        """Runs a step inside the loop, and what it leaves to do at once."""

        async def run() -> T:
            found = step()
            for _ in range(TURNS):
                turn = self.create_future()
                self.call_soon(turn.set_result, None)
                await turn
            return found

        return self.run_until_complete(run())


class Transport:
    """Keeps what is written; closing is told to the test."""

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.written = bytearray()
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    def get_extra_info(self, name: str) -> Any:
        return (self.peer, 1) if name == "peername" else None


class Context:
    """One ext_proc stream's two ends."""

    def __init__(self) -> None:
        self.inbox: asyncio.Queue[Any] = asyncio.Queue()
        self.written: list[Any] = []

    async def read(self) -> Any:
        return await self.inbox.get()

    async def write(self, message: Any) -> None:
        self.written.append(message)

    async def abort(self, code: Any, details: str) -> None:
        self.written.append(None)


class Tasks:
    """As much of a TaskGroup as a stream needs."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.tasks: list[asyncio.Task[Any]] = []

    def create_task(self, work: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
        task = self._loop.create_task(work, name=name)
        self.tasks.append(task)
        return task


@dataclass(eq=False)
class Open:
    """A request as its proxy knows it."""

    address: str
    proxy: str
    deadline: float
    pick: str = ""


@dataclass(eq=False)
class Connection:
    """One connection of a proxy, or one stream. ``open`` is by the proxy's own number."""

    kind: str
    proxy: str
    protocol: Any = None
    transport: Any = None
    read: int = 0
    count: int = 0
    waiting: set[int] = field(default_factory=set)
    open: dict[int, Open] = field(default_factory=dict)
    last_answer: float = -1e9
    last: Open | None = None


class World:
    """The picker and everybody who uses it."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.lives = 0
        self.connections: list[Connection] = []
        # Requests whose proxy can still tell in the access log, by pick id, and those told before.
        self.logged: dict[str, Open] = {}
        self.told: list[str] = []
        # All that the picker must count.
        self.all: set[Open] = set()
        self.proxies: Counter[str] = Counter()
        self.gone_at: dict[str, float] = {}
        self.addresses: list[str] = []
        self.errors: list[Any] = []
        self.loop.set_exception_handler(lambda loop, context: self.errors.append(context))
        self.start()

    @property
    def now(self) -> float:
        return self.loop.time()

    # -- the picker ------------------------------------------------------------------------

    def start(self) -> None:
        """A new picker process; what the old one had open, nobody has."""
        self.lives += 1
        words = ["--pool-name", "p", "--pool-namespace", "ns", "--endpoints", "127.0.0.1:1"]
        options = flags.parse(words, {})
        self.tasks = Tasks(self.loop)

        def make() -> Picker:
            return Picker(options, CostPolicy, self.loop.clock, f"life{self.lives}")

        self.picker = self.loop.call(make)
        self.picker.pool.synced = True
        # Who waits for what the servers list.
        self.asking: list[Callable[[], None]] = []

        def refresh(done: Callable[[], None]) -> bool:
            self.asking.append(done)
            return True

        self.picker.pool.refresh = refresh
        self.feedback = FeedbackService(self.picker.settle)
        # From the first report on, leaks are let go after the long time.
        self.picker.settle(Finished("nobody"))
        self.set_endpoints(self.addresses or list(ADDRESSES))

    def restart(self) -> None:
        """The process dies with its connections."""
        for task in self.tasks.tasks:
            task.cancel()
        self.loop.call(lambda: None)
        for connection in self.connections:
            for one in connection.open.values():
                if one.pick:
                    self.told.append(one.pick)
        self.told += self.logged
        self.connections.clear()
        self.logged.clear()
        self.all.clear()
        self.proxies.clear()
        self.gone_at.clear()
        self.start()

    def set_endpoints(self, addresses: list[str]) -> None:
        self.addresses = addresses
        self.loop.call(lambda: self.picker.first.set_endpoints([Endpoint(a, a) for a in addresses]))
        self.list_models(late=False)
        for one in self.all:
            if one.address not in addresses:
                # A later endpoint at this address is another one.
                one.address = ""
        self.look()

    def list_models(self, *, late: bool) -> None:
        """What the servers tell of themselves; the model "late" is not always among it."""
        cards = [ModelCard("m"), ModelCard("b", "m"), *([ModelCard("late", "m")] * late)]
        for address in self.addresses:
            self.picker.scheduler.observe_models(address, cards)
        waiting, self.asking = self.asking, []
        for done in waiting:
            self.loop.call(done)
        self.look()

    # -- proxies ---------------------------------------------------------------------------

    def connect(self, kind: str, proxy: str) -> None:
        connection = Connection(kind, PROXY if kind == "stream" else proxy)
        if kind == "stream":
            connection.transport = self.loop.call(Context)
        else:
            connection.transport = Transport(proxy)
            made = ChannelProtocol if kind == "channel" else CalloutProtocol
            connection.protocol = self.loop.call(lambda: made(self.picker.callout))
            self.loop.call(lambda: connection.protocol.connection_made(connection.transport))
            self.proxies[proxy] += 1
            self.gone_at.pop(proxy, None)
            if kind == "channel":
                self.send(connection, GREETING)
        self.connections.append(connection)

    def send(self, connection: Connection, data: bytes) -> None:
        self.loop.call(lambda: connection.protocol.data_received(data))
        self.look()

    def ask(self, connection: Connection, model: str, *, stream: bool) -> None:
        connection.count += 1
        number = connection.count
        content = asked(model, stream=stream)
        if connection.kind == "channel":
            connection.waiting.add(number)
            self.send(connection, question(number, content))
        elif connection.kind == "callout":
            if not connection.waiting:
                connection.waiting.add(number)
                self.send(connection, HTTP_HEAD.format(len(content)).encode() + content)
        elif number == 1:
            connection.waiting.add(number)
            self._begin(connection)
            self.hear(connection, headers())
            self.hear(connection, body(content))

    def _begin(self, connection: Connection) -> None:
        room = Room(1 << 20)
        machine = ExtProcMachine(Settings("ns/p"), room)

        def run() -> None:
            stream = ExtProcStream(
                machine,
                self.picker.service.answer,
                self.picker.settle,
                connection.transport,
                cast(asyncio.TaskGroup, self.tasks),
            )
            self.tasks.create_task(stream.run(), name="stream")

        self.loop.call(run)

    def hear(self, connection: Connection, message: Any) -> None:
        self.loop.call(lambda: connection.transport.inbox.put_nowait(message))
        self.look()

    def look(self) -> None:
        """Takes note of what the picker has answered."""
        for connection in self.connections:
            if connection.kind == "channel":
                self._look_channel(connection)
            elif connection.kind == "callout":
                self._look_callout(connection)
            else:
                self._look_stream(connection)

    def _routed(self, connection: Connection, number: int, addresses: str, pick: str = "") -> None:
        one = Open(addresses.split(",")[0], connection.proxy, self.now + LEAK_SECONDS, pick)
        connection.open[number] = one
        connection.last = one
        connection.last_answer = self.now
        self.all.add(one)
        if pick:
            self.logged[pick] = one

    def _look_channel(self, connection: Connection) -> None:
        data = connection.transport.written
        while len(data) >= connection.read + 16:
            length, kind, number = struct.unpack_from("<IB3xQ", data, connection.read)
            rest = bytes(data[connection.read + 16 : connection.read + 16 + length])
            connection.read += 16 + length
            if kind != 4 or number not in connection.waiting:
                continue
            connection.waiting.discard(number)
            if struct.unpack_from("<H", rest)[0] == ROUTE:
                self._routed(connection, number, rest[8:].split(b"\0")[0].decode())

    def _look_callout(self, connection: Connection) -> None:
        text = bytes(connection.transport.written[connection.read :])
        if not text:
            return
        connection.read += len(text)
        connection.waiting.clear()
        connection.last = None
        address = re.search(rb"x-gateway-destination-endpoint: (\S+)", text)
        pick = re.search(rb"x-inferway-pick: (\S+)", text)
        if address and pick:
            self._routed(connection, connection.count, address[1].decode(), pick[1].decode())

    def _look_stream(self, connection: Connection) -> None:
        fresh = connection.transport.written[connection.read :]
        connection.read += len(fresh)
        for message in fresh:
            connection.waiting.clear()
            if message is None:
                continue
            chosen = message.dynamic_metadata.fields.get("envoy.lb")
            if chosen is not None:
                fields = chosen.struct_value.fields
                addresses = fields["x-gateway-destination-endpoint"].string_value
                self._routed(connection, 1, addresses)

    # -- ends ------------------------------------------------------------------------------

    def report(self, connection: Connection, number: int, status: int, served: str) -> None:
        """The proxy tells on the channel; a number may be told twice, or be none."""
        one = connection.open.pop(number, None)
        if one is not None:
            self.all.discard(one)
        attempts = 1 if one is None or served == one.address else 2
        numbers = struct.pack("<HHIIII", status, attempts, 0x20 * (status == 503), 50, 90, 100)
        self.send(connection, frame(DONE, number, numbers + served.encode() + b"\0"))

    def cancel(self, connection: Connection, number: int) -> None:
        connection.waiting.discard(number)
        one = connection.open.pop(number, None)
        if one is not None:
            self.all.discard(one)
        self.send(connection, frame(CANCEL, number))

    def log(self, picks: list[str], status: int, *, odd: bool = False) -> None:
        """A batch of the access log, that may hold what can not be read."""
        message = als_pb2.StreamAccessLogsMessage()
        for pick in picks:
            entry = accesslog_pb2.HTTPAccessLogEntry()
            entry.request.request_headers["x-inferway-pick"] = pick
            entry.response.response_code.value = status
            if odd:
                entry.common_properties.time_to_first_upstream_rx_byte.seconds = -(1 << 62)
                usage = entry.common_properties.metadata.filter_metadata["inferway.usage"]
                usage["prompt_tokens"] = float("nan")
                usage["completion_tokens"] = "many"
            message.http_logs.log_entry.append(entry)
            one = self.logged.pop(pick, None)
            if one is not None:
                self.all.discard(one)
            self.told.append(pick)
        self.loop.call(lambda: self.feedback.take(message))
        self.look()

    def answer(self, connection: Connection, status: int) -> None:
        """The server's answer passes the picker on a stream, up to its end."""
        one = connection.open.pop(1, None)
        if one is not None:
            self.all.discard(one)
        self.hear(connection, answer_headers(status))
        self.hear(connection, answer_body(b"{}", end=True))

    def lose(self, connection: Connection) -> None:
        """The connection, or the stream, ends."""
        self.connections.remove(connection)
        if connection.kind == "stream":
            for one in connection.open.values():
                self.all.discard(one)
            if connection.count:
                self.hear(connection, grpc.aio.EOF)
            return
        if connection.kind == "channel":
            doubted = list(connection.open.values())
        else:
            recent = self.now - connection.last_answer < 1.0
            doubted = [connection.last] if connection.last is not None and recent else []
        for one in doubted:
            one.deadline = min(one.deadline, self.now + DOUBT_SECONDS)
        self.proxies[connection.proxy] -= 1
        if not self.proxies[connection.proxy]:
            self.gone_at[connection.proxy] = self.now + PROXY_GONE_SECONDS
        self.loop.call(lambda: connection.protocol.connection_lost(None))
        self.look()

    def advance(self, seconds: float) -> None:
        """Time passes; at its end the picker looks for what is overdue."""
        self.loop.clock.advance(seconds)
        self.loop.call(lambda: None)
        for proxy, at in list(self.gone_at.items()):
            if at <= self.now:
                del self.gone_at[proxy]
                self.all = {one for one in self.all if one.proxy != proxy}
        self.look()
        self.picker.settle(Tick())
        self.all = {one for one in self.all if one.deadline > self.now}

    # -- what must hold --------------------------------------------------------------------

    def check(self) -> None:
        """The picker counts what the proxies have open, on each endpoint and in all."""
        scheduler = self.picker.scheduler
        mine = Counter(one.address for one in self.all)
        assert scheduler.in_flight() == {a: mine[a] for a in self.addresses}
        assert len(scheduler.ledger) == len(self.all)
        columns = scheduler.columns
        for slot in columns.live:
            here = [
                r for r in scheduler.ledger if r.slot == slot and r.life == scheduler.life(slot)
            ]
            assert columns.in_flight_tokens[slot] == sum(r.tokens for r in here)
            assert columns.backlog_tokens[slot] >= 0
        telemetry = self.picker.telemetry
        telemetry.count()
        assert sum(s.chosen - s.ended for s in telemetry.table) == len(self.all)
        assert self.errors == []

    def close(self) -> None:
        """Everything ends; what nobody told of ends by its deadline."""
        try:
            self.advance(LEAK_SECONDS)
            self.check()
            for task in self.tasks.tasks:
                task.cancel()
            self.loop.call(lambda: None)
            assert sum(self.picker.scheduler.in_flight().values()) == 0
            assert self.errors == []
        finally:
            self.loop.close()
