"""Which server a session belongs to, for the affinity filter and scorer.

Either the client carries the server's name in a header that the answer gave it, or it carries a
session's id, and what that is bound to is remembered here for a while.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from inferway.scheduling.plugins.base import Context, Placed, Plugin, SessionProducer
from inferway.scheduling.plugins.types import (
    Data,
    Making,
    Parameter,
    Parameters,
    PluginType,
    above,
    one_of,
    section,
)

TOKEN_HEADER = "x-session-token"  # noqa: S105 (the name of a header)
ID_HEADER = "x-session-id"
TTL_SECONDS = 300.0
# Sessions of one plugin; the ones unused longest are forgotten first.
SESSIONS_MAX = 100_000
ENCODED, SESSION_ID = "encoded_endpoint_header", "session_id"
AGENT_ATTRIBUTE = "agent-identity"
SESSION_ATTRIBUTE = "SessionIDDataKey"
SESSION_PRODUCER = "session-id-producer"
# Published pickers number the ports of a Pod so.
_RANK = re.compile(r"-rank-\d+$")

_SOURCE: dict[str, Any] = {
    "header": Parameter(str, "", help="Request header that holds it."),
    "attribute": Parameter(str, "", help=f"`{AGENT_ATTRIBUTE}` or `{SESSION_ATTRIBUTE}`."),
    "producer": Parameter(str, "", help="Plugin that makes the attribute."),
}
PARAMETERS: Mapping[str, Parameter] = {
    "strategy": Parameter(str, ENCODED, one_of(ENCODED, SESSION_ID), f"{ENCODED} or {SESSION_ID}."),
    "profileName": Parameter(str, "", help="Profile whose server counts; none: the primary one."),
    "encodedEndpointHeaderConfig": section(
        {"header": Parameter(str, TOKEN_HEADER, help="Header of request and answer.")}
    ),
    "sessionIdConfig": section(
        {
            "sources": Parameter(
                list,
                [],
                help=f"Where the id is, in order; none: the header {ID_HEADER}.",
                items=Parameter(dict, {}, fields=_SOURCE),
            ),
            "evictionTtlSeconds": Parameter(
                float, TTL_SECONDS, above(0), "A session that is unused so long is forgotten."
            ),
            "evictionSweepSeconds": Parameter(float, 10.0, above(0), unused=True),
        }
    ),
}


class SessionAffinity(Plugin):
    """Common to filter and scorer; ``bound`` says where a request belongs."""

    def __init__(self, making: Making) -> None:
        values = making.parameters
        self._profile: str = values["profileName"]
        self._token = ""
        self._ids: list[str | SessionProducer] = []
        if values["strategy"] == ENCODED:
            self._token = values["encodedEndpointHeaderConfig"]["header"].lower()
        else:
            self._ids = _sources(making)
        self._ttl: float = values["sessionIdConfig"]["evictionTtlSeconds"]
        # Session -> slot and when it was used last, unused longest first.
        self._bound: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def bound(self, context: Context, slots: list[int]) -> int | None:
        """The candidate that the request's session belongs to."""
        found = self._named(context, slots) if self._token else self._remembered(context)
        found = found if found in slots else None
        context.memo[self] = found
        return found

    def _named(self, context: Context, slots: list[int]) -> int | None:
        token = context.request.headers.get(self._token, "")
        name, port = decode(token) if token else ("", "")
        if not name:
            return None
        columns = context.snapshot.columns
        for slot in slots:
            if columns.name[slot] == name and (
                not port or columns.address[slot].rpartition(":")[2] == port
            ):
                return slot
        return None

    def _remembered(self, context: Context) -> int | None:
        known = self._bound.get(self._session(context))
        if known is None or context.now - known[1] > self._ttl:
            return None
        return known[0]

    def _session(self, context: Context) -> str:
        for source in self._ids:
            if isinstance(source, str):
                found = context.request.headers.get(source, "")
            else:
                found = source.session(context)
            if found:
                return found
        return ""

    def placed(self, placed: Placed) -> None:
        context = placed.context
        session = self._session(context)
        slot = placed.slot(self._profile)
        if not session or slot is None:
            return
        # While its server is among the candidates the session stays there, whoever was picked.
        kept = context.memo.get(self)
        self._bound[session] = (slot if kept is None else kept, context.now)
        self._bound.move_to_end(session)
        while self._bound:
            _, used = next(iter(self._bound.values()))
            if len(self._bound) <= SESSIONS_MAX and context.now - used <= self._ttl:
                break
            self._bound.popitem(last=False)

    def drop(self, slot: int) -> None:
        for session in [name for name, (where, _) in self._bound.items() if where == slot]:
            del self._bound[session]

    def response_headers(self, placed: Placed) -> Sequence[tuple[str, str]]:
        slot = placed.slot(self._profile) if self._token else None
        if slot is None:
            return ()
        columns = placed.context.snapshot.columns
        return ((self._token, encode(columns.name[slot], columns.address[slot])),)


def encode(name: str, address: str) -> str:
    """The token for a server: base64 of the Pod's name and the port."""
    return base64.b64encode(f"{name}:{address.rpartition(':')[2]}".encode()).decode()


def decode(token: str) -> tuple[str, str]:
    """Pod and port of a token; of the published ``namespace/name`` the Pod. Both may be empty."""
    try:
        text = base64.b64decode(token, validate=True).decode()
    except (binascii.Error, ValueError):
        return "", ""
    if "/" in text:
        return _RANK.sub("", text.rpartition("/")[2]), ""
    name, _, port = text.rpartition(":")
    return name, port


def _sources(making: Making) -> list[str | SessionProducer]:
    """Headers by name and producers. Raises ValueError."""
    found: list[str | SessionProducer] = []
    for index, one in enumerate(making.parameters["sessionIdConfig"]["sources"]):
        place = f"sessionIdConfig.sources[{index}]"
        if bool(one["header"]) == bool(one["attribute"]):
            raise ValueError(f"{place}: needs either a header or an attribute")
        if one["header"]:
            found.append(one["header"].lower())
            continue
        name = one["producer"] or (
            AGENT_ATTRIBUTE if one["attribute"] == AGENT_ATTRIBUTE else SESSION_PRODUCER
        )
        producer = making.named.get(name)
        if not isinstance(producer, SessionProducer):
            raise ValueError(f"{place}.attribute: no plugin {name!r} makes it")
        found.append(producer)
    return found or [ID_HEADER]


def headers(values: Parameters) -> list[str]:
    """The request headers that are read."""
    if values["strategy"] == ENCODED:
        return [values["encodedEndpointHeaderConfig"]["header"]]
    sources = values["sessionIdConfig"]["sources"]
    return [one["header"] for one in sources if one["header"]] or ([] if sources else [ID_HEADER])


def makes_sessions(other: PluginType) -> bool:
    """Which plugins the parameters may name."""
    return other.gives is Data.SESSION
