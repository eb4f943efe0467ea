"""The pick channel: one connection of each proxy's native filter for all of its requests.

A pump around ``frames``: questions go to the service, answers back in one write for each read,
reports on as events. A proxy that is gone has let go of all that it was asked.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import cast

import msgspec

from inferway.picker import frames
from inferway.picker.frames import Broken, Cancelled, FrameMachine, Question, Report
from inferway.picker.peers import PickPeers, peer_of
from inferway.picker.replies import Chosen, Later, Reply, Told
from inferway.scheduling.events import Doubted, Finished

_log = logging.getLogger(__name__)

# Envoy's response flags that say that no server answered although one was tried: remote reset,
# connection failure, connection termination.
FAILED_FLAGS = 0x10 | 0x20 | 0x40
# Choices whose end a proxy has not told; beyond it the oldest can be told no more. More than a
# proxy can have open.
PICKS_MAX = 1 << 20
# A usage beyond this is not one.
TOKENS_MAX = 1 << 31
# While it holds questions a picker says so this often; a proxy takes one that is silent for five
# seconds for hung.
ALIVE_SECONDS = 1.0


class _Details(msgspec.Struct, gc=False):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None


_decode_usage = msgspec.json.Decoder(_Usage).decode


class ChannelProtocol(asyncio.Protocol):
    """One connection of a proxy."""

    def __init__(self, server: PickPeers) -> None:
        self._server = server
        self._machine = FrameMachine()
        self._transport: asyncio.Transport | None = None
        self._proxy = ""
        # The proxy's names of open requests: what was chosen, or None while it is not.
        self._picks: dict[int, str | None] = {}
        # How to tell what holds them that nobody waits any more.
        self._leave: dict[int, Callable[[], None]] = {}
        self._saying: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._proxy = peer_of(self._transport)
        self._server.connected(self, self._proxy)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        for pick in self._picks.values():
            if pick is not None:
                # It may run on, but nobody will tell how it ends: reports are this connection's.
                self._server.settle(Doubted(pick))
        self._picks.clear()
        for leave in self._leave.values():
            leave()
        self._leave.clear()
        if self._saying is not None:
            self._saying.cancel()
        self._server.disconnected(self, self._proxy)

    def data_received(self, data: bytes) -> None:
        answers: list[bytes] = []
        for message in self._machine.handle(data):
            if isinstance(message, Question):
                answer = self._ask(message)
                if answer:
                    answers.append(answer)
            elif isinstance(message, Report):
                self._report(message)
            elif isinstance(message, Cancelled):
                self._cancel(message.id)
            else:
                self._break(message)
        if answers and self._transport is not None:
            self._transport.write(answers[0] if len(answers) == 1 else b"".join(answers))

    @property
    def open(self) -> int:
        """Questions and requests that have not ended."""
        return len(self._picks)

    @property
    def picks(self) -> Iterable[str]:
        """What was chosen and has not ended."""
        return filter(None, self._picks.values())

    def close_when_idle(self) -> None:
        """Lets the other end look for another picker; what is held here fails over to its mode."""
        if self._transport is not None:
            self._transport.close()

    def _ask(self, question: Question) -> bytes:
        """The answer, or nothing if it comes later."""
        number = question.id
        reply = self._server.service.answer(question.call, self._proxy)
        if isinstance(reply, Later):
            self._picks[number] = None
            if reply.start(partial(self._resume, number)):
                if reply.cancel is not None:
                    self._leave[number] = reply.cancel
                    if self._saying is None:
                        self._say_alive(first=True)
                return b""
            del self._picks[number]
            reply = reply.otherwise
        return self._word(number, reply)

    def _say_alive(self, *, first: bool = False) -> None:
        """Goes on while questions are held."""
        self._saying = None
        if self._transport is None or not self._leave:
            return
        if not first:
            self._transport.write(frames.alive())
        self._saying = asyncio.get_running_loop().call_later(ALIVE_SECONDS, self._say_alive)

    def _word(self, number: int, reply: Reply) -> bytes:
        if isinstance(reply, Chosen):
            if len(self._picks) >= PICKS_MAX:
                self._forget_oldest()
            self._picks[number] = reply.pick
            if reply.headers or reply.response_headers or reply.restore:
                return frames.chosen_with(
                    number,
                    reply.addresses,
                    reply.splice,
                    reply.headers,
                    reply.response_headers,
                    reply.restore,
                )
            return frames.chosen(number, reply.addresses, reply.splice)
        if isinstance(reply, Told):
            return frames.told(number, reply.body, reply.request_id)
        return frames.final(number, reply.answer, reply.request_id)

    def _forget_oldest(self) -> None:
        """Its end can be told no more."""
        number = next(iter(self._picks))
        leave = self._leave.pop(number, None)
        if leave is not None:
            leave()
        pick = self._picks.pop(number)
        if pick is not None:
            self._server.settle(Doubted(pick))

    def _resume(self, number: int, reply: Reply) -> None:
        self._leave.pop(number, None)
        if self._picks.pop(number, "") is None and self._transport is not None:
            self._transport.write(self._word(number, reply))
        elif isinstance(reply, Chosen):
            self._server.settle(Finished(reply.pick))

    def _report(self, report: Report) -> None:
        pick = self._picks.pop(report.id, None)
        if pick is not None:
            self._server.settle(finished(pick, report))

    def _cancel(self, number: int) -> None:
        leave = self._leave.pop(number, None)
        if leave is not None:
            leave()
        pick = self._picks.pop(number, None)
        if pick is not None:
            # It was chosen for, and did not go there.
            self._server.settle(Finished(pick))

    def _break(self, problem: Broken) -> None:
        _log.warning("pick channel closed", extra={"data": {"why": problem.message}})
        self.close_when_idle()


def finished(pick: str, report: Report) -> Finished:
    """The event of a report. A usage that can not be understood counts as none."""
    prompt = completion = 0
    cached: int | None = None
    if report.usage:
        try:
            usage = _decode_usage(report.usage)
        except (msgspec.DecodeError, RecursionError):
            usage = _Usage()
        prompt = _tokens(usage.prompt_tokens) or 0
        completion = _tokens(usage.completion_tokens) or 0
        if usage.prompt_tokens_details is not None:
            cached = _tokens(usage.prompt_tokens_details.cached_tokens)
    return Finished(
        pick,
        report.status,
        report.served.decode(errors="replace"),
        report.attempts or 1,
        bool(report.flags & FAILED_FLAGS),
        report.first * 1e-6 if report.first else None,
        report.last * 1e-6 if report.last else None,
        report.duration * 1e-6 if report.duration else None,
        prompt,
        completion,
        cached,
    )


def _tokens(value: int | None) -> int | None:
    return value if value is not None and 0 <= value < TOKENS_MAX else None
