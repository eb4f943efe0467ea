"""What the service answers to a callout, now or later; each transport words it in its own way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from inferway.picker.answers import FinalAnswer
from inferway.picker.apis import Style


class Chosen(msgspec.Struct, frozen=True, gc=False):
    """The best endpoints in order, comma separated, and the id of this choice.

    ``splice`` says what the proxy is to cut out of the body and what to put there, or is empty.
    ``headers`` are set on the request to the server, ``response_headers`` on the answer.
    ``restore`` is what the answer is to name as its model, as JSON text in ASCII, or empty.
    """

    addresses: str
    pick: str
    request_id: bytes
    splice: bytes = b""
    headers: Sequence[tuple[str, str]] = ()
    response_headers: Sequence[tuple[str, str]] = ()
    restore: str = ""


class Refused(msgspec.Struct, frozen=True, gc=False):
    """What the client is told instead."""

    answer: FinalAnswer
    request_id: bytes


class Told(msgspec.Struct, frozen=True, gc=False):
    """What the client asked for, as JSON: no server is needed for it."""

    body: bytes
    request_id: bytes


Reply: TypeAlias = Chosen | Refused | Told


@dataclass(frozen=True, slots=True)
class Later:
    """No answer yet: call ``start`` with what to do with it; False means that there is no wait.

    ``cancel`` is to be called when nobody is left to be answered.
    """

    start: Callable[[Callable[[Reply], None]], bool]
    otherwise: Reply
    cancel: Callable[[], None] | None = None


def in_style(reply: Reply | Later, style: Style) -> Reply | Later:
    """The same reply, now or later, with its final answer in the words of another API."""

    def restyled(one: Reply) -> Reply:
        if not isinstance(one, Refused):
            return one
        return Refused(msgspec.structs.replace(one.answer, style=style), one.request_id)

    if not isinstance(reply, Later):
        return restyled(reply)
    later = reply

    def start(done: Callable[[Reply], None]) -> bool:
        return later.start(lambda one: done(restyled(one)))

    return Later(start, restyled(later.otherwise), later.cancel)
