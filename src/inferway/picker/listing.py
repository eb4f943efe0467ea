"""The models of a pool as one ``/v1/models`` answer: the union of what its servers say.

Entries are the servers' own bytes. An adapter that only some servers have loaded is listed, since
a request for it is routed to those. A name that a rewrite has a rule for is listed as the first of
its targets that is served, under that name.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from inferway.scheduling.rewrite import RewriteTable

# More entries than this on one server is an error of its.
ENTRIES_MAX = 10_000


class _Entry(msgspec.Struct):
    id: str
    parent: str | None = None


class _Models(msgspec.Struct):
    data: list[msgspec.Raw]


_decode = msgspec.json.Decoder(_Models).decode
_decode_entry = msgspec.json.Decoder(_Entry).decode


class Listing:
    """What each server last said; ``text`` is the answer to a client."""

    def __init__(self) -> None:
        self._said: dict[str, bytes] = {}
        self._text: bytes | None = None
        self._table: RewriteTable | None = None

    def put(self, address: str, text: bytes) -> None:
        """A server's answer, which has been understood before."""
        if self._said.get(address) != text:
            self._said[address] = text
            self._text = None

    def keep(self, addresses: set[str]) -> None:
        """Forgets all other servers."""
        for address in [address for address in self._said if address not in addresses]:
            del self._said[address]
            self._text = None

    def text(self, table: RewriteTable | None = None) -> bytes:
        """The union, base models first, then by name; with the names that rewrites add."""
        if self._text is None or table is not self._table:
            self._text, self._table = union(self._said.values(), table), table
        return self._text

    def __bool__(self) -> bool:
        """Whether any server has said anything."""
        return bool(self._said)


def union(texts: Iterable[bytes], table: RewriteTable | None = None) -> bytes:
    """One answer of several. Of entries with the same name the first stays."""
    found: dict[str, tuple[bool, str, msgspec.Raw]] = {}
    for text in texts:
        for raw in _decode(text).data[:ENTRIES_MAX]:
            entry = _decode_entry(raw)
            found.setdefault(entry.id, (bool(entry.parent), entry.id, raw))
    for alias, rule in table.exact.items() if table is not None else ():
        served = next((t.model for t in rule.targets if t.model in found), None)
        if served is not None and alias not in found:
            adapter, _, raw = found[served]
            found[alias] = (adapter, alias, _renamed(raw, alias))
    data = [raw for _, _, raw in sorted(found.values(), key=lambda entry: entry[:2])]
    return msgspec.json.encode({"object": "list", "data": data})


def _renamed(raw: msgspec.Raw, name: str) -> msgspec.Raw:
    """A target's entry under another name: what is at its root, and whose child it is, stays."""
    entry: dict[str, Any] = msgspec.json.decode(raw)
    return msgspec.Raw(msgspec.json.encode(entry | {"id": name}))
