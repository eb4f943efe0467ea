"""Images, videos and sounds of a request, found in its raw JSON; and who has encoded them before.

``mm-embeddings-cache-producer`` and ``mm-embeddings-cache-scorer``. An item is known by a hash of
its address or its data; what it shows is never looked at.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping

from xxhash import xxh3_64_intdigest

from inferway.scheduling.plugins.base import Context, MediaProducer, Placed, Scorer
from inferway.scheduling.plugins.types import (
    Data,
    Kind,
    Making,
    Need,
    Parameter,
    PluginType,
    Signal,
    named,
)

# More items than an engine takes in one prompt.
ITEMS_MAX = 1024
CACHE_MEBIBYTES = 4096
ITEM_MEBIBYTES = 2

# A part's key, then either its address as text or an object with the address or the data in it.
_PART = re.compile(
    rb'"(?:image_url|video_url|audio_url|input_audio)"\s*:\s*'
    rb'(?:\{(?:[^{}"]|"(?!(?:url|data)")[^"\\]*")*?"(?:url|data)"\s*:\s*)?"'
)
_TEXT = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)


def media_items(context: Context) -> tuple[int, ...]:
    """Hashes of the request's items, each once, in order; found once for a request."""
    known: tuple[int, ...] | None = context.memo.get("media")
    if known is None:
        known = context.memo["media"] = find_items(context.request.prompt)
    return known


def find_items(prompt: memoryview | bytes) -> tuple[int, ...]:
    """Hashes of the items in the raw JSON of messages or input."""
    found: dict[int, None] = {}
    position = 0
    while len(found) < ITEMS_MAX:
        part = _PART.search(prompt, position)
        if part is None:
            break
        text = _TEXT.match(prompt, part.end())
        assert text is not None
        found[xxh3_64_intdigest(memoryview(prompt)[text.start() : text.end()])] = None
        position = text.end()
    return tuple(found)


class MmEmbeddingsCacheProducer(MediaProducer):
    """Items that were routed to a server, the newest ones up to the size of its cache."""

    def __init__(self, making: Making) -> None:
        size: int = making.parameters["cacheSizeInMBPerServer"]
        self._items_max = max((size if size > 0 else CACHE_MEBIBYTES) // ITEM_MEBIBYTES, 1)
        self._seen: dict[int, OrderedDict[int, None]] = {}

    def match(self, context: Context) -> tuple[Mapping[int, int], int]:
        items = media_items(context)
        if not items:
            return {}, 0
        counts = {slot: sum([item in seen for item in items]) for slot, seen in self._seen.items()}
        return counts, len(items)

    def placed(self, placed: Placed) -> None:
        items = media_items(placed.context)
        if not items:
            return
        for slots in placed.picked.values():
            for slot in slots[:1]:
                seen = self._seen.setdefault(slot, OrderedDict())
                for item in items:
                    seen[item] = None
                    seen.move_to_end(item)
                while len(seen) > self._items_max:
                    seen.popitem(last=False)

    def drop(self, slot: int) -> None:
        self._seen.pop(slot, None)


class MmEmbeddingsCacheScorer(Scorer):
    """Items that the server has / items of the request."""

    def __init__(self, making: Making) -> None:
        source = making.sources[Data.MEDIA]
        assert isinstance(source, MediaProducer)
        self._source = source

    def score(self, context: Context, slots: list[int]) -> list[float]:
        counts, total = self._source.match(context)
        return [counts.get(slot, 0) / total if total else 0.0 for slot in slots]


PRODUCER_TYPE = PluginType(
    "mm-embeddings-cache-producer",
    Kind.PRODUCER,
    MmEmbeddingsCacheProducer,
    {
        "cacheSizeInMBPerServer": Parameter(
            int, CACHE_MEBIBYTES, help="Mebibytes of a server's encoder cache, 2 for each item."
        ),
        "cacheSizeInMB": Parameter(int, 0, unused=True),
    },
    does="Images, videos and sounds that were routed to the server before.",
    signals=(Signal.PROMPT,),
    gives=Data.MEDIA,
)
SCORER_TYPE = PluginType(
    "mm-embeddings-cache-scorer",
    Kind.SCORER,
    MmEmbeddingsCacheScorer,
    {"producerName": named(Data.MEDIA)},
    does="Items of the request that the server has had / all of them; none: 0.",
    signals=(Signal.PROMPT,),
    needs=(Need(Data.MEDIA, "producerName"),),
)
