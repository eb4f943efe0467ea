"""vLLM's KV events as they come over the wire. Pure; hostile bytes are a count and never an error.

A batch is msgpack: ``[time, events]`` or ``[time, events, data parallel rank]``. An event is an
array that begins with its type (older vLLM, SGLang), or a map with a key ``type`` (newer vLLM), and
versions differ in the fields at the end, so arrays are read by position as far as they go and maps
by name. Hashes are integers or bytes. Blocks on other media than the GPU, and of other cache groups
than the first, are no prefix that a prompt can use at once, and are passed over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from inferway.scheduling.events import BlockEvent, BlocksCleared, BlocksRemoved, BlocksStored

# A batch is one step of an engine: at most some ten thousand tokens.
PAYLOAD_BYTES_MAX = 16 * 1024 * 1024
_STORED = (
    "block_hashes",
    "parent_block_hash",
    "token_ids",
    "block_size",
    "lora_id",
    "medium",
    "lora_name",
    "extra_keys",
    "group_idx",
)
_REMOVED = ("block_hashes", "medium", "group_idx")
_FIELDS: Mapping[str, Sequence[str]] = {
    "BlockStored": _STORED,
    "BlockRemoved": _REMOVED,
    "AllBlocksCleared": (),
}
# Blocks of an adapter whose name is not told, or with a salt or pictures in their hash: they are
# noted, so that their removal is understood, under a name that no request has.
_OTHER = "\0"

_decoder = msgspec.msgpack.Decoder()


class Batch(msgspec.Struct, frozen=True):
    """The events of one message, and how many in it were not understood."""

    events: Sequence[BlockEvent]
    skipped: int = 0


def decode(payload: bytes) -> Batch | None:
    """The events of a message; None if it is no batch."""
    if len(payload) > PAYLOAD_BYTES_MAX:
        return None
    try:
        raw = _decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError, TypeError):
        return None
    if not isinstance(raw, list) or len(raw) < 2 or not isinstance(raw[1], list):
        return None
    events: list[BlockEvent] = []
    skipped = 0
    for one in raw[1]:
        fields = _fields(one)
        event = None if fields is None else _event(*fields)
        if event is not None:
            events.append(event)
        elif fields is None or not _elsewhere(fields[1]):
            skipped += 1
    return Batch(events, skipped)


def _fields(raw: Any) -> tuple[str, Mapping[str, Any]] | None:
    """The type of an event and its fields by name."""
    if isinstance(raw, list) and raw and isinstance(raw[0], str):
        names = _FIELDS.get(raw[0])
        return None if names is None else (raw[0], dict(zip(names, raw[1:], strict=False)))
    kind = raw.get("type") if isinstance(raw, dict) else None
    return (kind, raw) if isinstance(kind, str) and kind in _FIELDS else None


def _elsewhere(fields: Mapping[str, Any]) -> bool:
    """Whether an event is about another medium or another group of layers."""
    return fields.get("medium") not in (None, "GPU") or fields.get("group_idx") not in (None, 0)


def _event(kind: str, fields: Mapping[str, Any]) -> BlockEvent | None:
    if kind == "AllBlocksCleared":
        return BlocksCleared()
    hashes = _hashes(fields.get("block_hashes"))
    if hashes is None or _elsewhere(fields):
        return None
    if kind == "BlockRemoved":
        return BlocksRemoved(hashes)
    parent = fields.get("parent_block_hash")
    parents = _hashes([parent] if parent is not None else [])
    tokens = _integers(fields.get("token_ids"))
    size = fields.get("block_size")
    if parents is None or tokens is None or not isinstance(size, int) or isinstance(size, bool):
        return None
    return BlocksStored(hashes, parents[0] if parents else None, tokens, size, _adapter(fields))


def _adapter(fields: Mapping[str, Any]) -> str:
    name = fields.get("lora_name")
    if not isinstance(name, str) or not name:
        if fields.get("lora_id") is not None:
            return _OTHER
        name = ""
    extra = fields.get("extra_keys")
    for keys in extra if isinstance(extra, list) else ():
        # Newer servers name the adapter here too.
        if isinstance(keys, list) and any(key not in (None, name) for key in keys):
            return _OTHER
    return name


def _hashes(raw: Any) -> list[int] | None:
    if not isinstance(raw, list):
        return None
    found = []
    for one in raw:
        if isinstance(one, bytes) and one:
            # The last bytes of a SHA-256 name a block as well as all of them.
            found.append(int.from_bytes(one[-8:], "big"))
        elif isinstance(one, int) and not isinstance(one, bool):
            found.append(one)
        else:
            return None
    return found


def _integers(raw: Any) -> list[int] | None:
    if not isinstance(raw, list) or not all(type(one) is int for one in raw):
        return None
    return raw
