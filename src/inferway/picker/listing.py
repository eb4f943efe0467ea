"""The models of a pool as one ``/v1/models`` answer: the union of what its servers say.

Entries are the servers' own bytes. An adapter that only some servers have loaded is listed, since
a request for it is routed to those.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

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

    @property
    def text(self) -> bytes:
        """The union, base models first, then by name."""
        if self._text is None:
            self._text = union(self._said.values())
        return self._text

    def __bool__(self) -> bool:
        """Whether any server has said anything."""
        return bool(self._said)


def union(texts: Iterable[bytes]) -> bytes:
    """One answer of several. Of entries with the same name the first stays."""
    found: dict[str, tuple[bool, str, msgspec.Raw]] = {}
    for text in texts:
        for raw in _decode(text).data[:ENTRIES_MAX]:
            entry = _decode_entry(raw)
            found.setdefault(entry.id, (bool(entry.parent), entry.id, raw))
    data = [raw for _, _, raw in sorted(found.values(), key=lambda entry: entry[:2])]
    return msgspec.json.encode({"object": "list", "data": data})
