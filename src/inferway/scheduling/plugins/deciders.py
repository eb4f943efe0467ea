"""Whether a stage of disaggregated serving runs: ``prefix-based-pd-decider``,
``always-disagg-pd-decider``, ``always-disagg-multimodal-decider``."""

from __future__ import annotations

from inferway.scheduling.plugins.base import Context, Decider, PrefixProducer
from inferway.scheduling.plugins.media import media_items
from inferway.scheduling.plugins.types import (
    Data,
    Kind,
    Making,
    Need,
    Parameter,
    PluginType,
    Signal,
    at_least,
    plain,
)


class PrefixBasedPdDecider(Decider):
    """Prefills elsewhere what is long enough and not cached on the decoding server."""

    def __init__(self, making: Making) -> None:
        source = making.sources[Data.PREFIX]
        assert isinstance(source, PrefixProducer)
        self._source = source
        self._uncached: int = making.parameters["nonCachedTokens"]
        self._prompt: int = making.parameters["promptTokens"]

    def wants(self, context: Context, slot: int | None) -> bool:
        if not self._uncached or slot is None:
            return False
        tokens = context.prompt_tokens
        if tokens < max(self._prompt, self._uncached):
            return False
        match = self._source.match(context)
        cached = match.matched.get(slot, 0) * match.tokens_per_byte
        return tokens - cached >= self._uncached


class AlwaysDisaggPdDecider(Decider):
    """For every request."""

    def wants(self, context: Context, slot: int | None) -> bool:
        return True


class AlwaysDisaggMultimodalDecider(Decider):
    """For requests with images, videos or sounds."""

    def wants(self, context: Context, slot: int | None) -> bool:
        return bool(media_items(context))


TYPES = (
    PluginType(
        "prefix-based-pd-decider",
        Kind.DECIDER,
        PrefixBasedPdDecider,
        {
            "nonCachedTokens": Parameter(
                int, 0, at_least(0), "Uncached tokens that are worth a prefill elsewhere; 0: none."
            ),
            "promptTokens": Parameter(int, 0, at_least(0), "Shorter prompts are not worth it."),
        },
        does="Prompt >= promptTokens, and prompt - cached on the decoder >= nonCachedTokens.",
        signals=(Signal.PROMPT,),
        needs=(Need(Data.PREFIX),),
    ),
    PluginType(
        "always-disagg-pd-decider",
        Kind.DECIDER,
        plain(AlwaysDisaggPdDecider),
        does="Every request.",
    ),
    PluginType(
        "always-disagg-multimodal-decider",
        Kind.DECIDER,
        plain(AlwaysDisaggMultimodalDecider),
        does="Requests with images, videos or sounds.",
        signals=(Signal.PROMPT,),
    ),
)
