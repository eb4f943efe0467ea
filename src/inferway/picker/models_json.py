"""What a server says that it serves: its ``/v1/models``. Pure."""

from __future__ import annotations

import msgspec

from inferway.scheduling.events import ModelCard

# More adapters than this on one server is an error of its.
CARDS_MAX = 10_000


class _Card(msgspec.Struct):
    id: str
    parent: str | None = None


class _Models(msgspec.Struct):
    data: list[_Card]


_decode = msgspec.json.Decoder(_Models).decode


def read(text: bytes) -> tuple[ModelCard, ...] | None:
    """Models and adapters by name; None if the answer is not what it should be."""
    try:
        cards = _decode(text).data
    except msgspec.MsgspecError:
        return None
    return tuple(
        sorted(
            (ModelCard(card.id, card.parent or "") for card in cards[:CARDS_MAX]),
            key=lambda card: card.id,
        )
    )
