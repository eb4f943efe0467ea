"""What one ext_proc conversation asks its pump to do."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from inferway.picker.machine import Callout
from inferway.scheduling.events import Event


class Send(msgspec.Struct, frozen=True, gc=False):
    """One message to the proxy."""

    message: Any


class Echo(msgspec.Struct, frozen=True, gc=False):
    """A body to the proxy, in as many messages as it takes; ``first`` is a message to begin with.

    ``kind`` is ``request_body`` or ``response_body``.
    """

    kind: str
    body: bytes
    end: bool
    first: Any | None = None


class Ask(msgspec.Struct, frozen=True, gc=False):
    """Which endpoint? The reply is to be given to ``decided``, whenever it comes."""

    call: Callout


class Leave(msgspec.Struct, frozen=True, gc=False):
    """Nobody waits for the reply any more."""


class Settle(msgspec.Struct, frozen=True, gc=False):
    """What became of a request that was chosen for."""

    event: Event


class Close(msgspec.Struct, frozen=True, gc=False):
    """The conversation is over; ``failure`` is why the proxy is to do as its failure mode says."""

    failure: str = ""


Command: TypeAlias = Send | Echo | Ask | Leave | Settle | Close
