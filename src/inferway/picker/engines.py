"""Which metrics servers are read for, as flags and ``core-metrics-extractor`` say. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from inferway.picker.metrics_text import ENGINES, Names, Spec, spec
from inferway.picker.scrape import ENGINE_LABELS, METRICS_PATH, ScrapeOptions
from inferway.scheduling.settings import DataSettings


def with_settings(options: ScrapeOptions, data: DataSettings) -> ScrapeOptions:
    """The options with what a configuration says; a source of its own wins over the flags."""
    source = data.metrics
    if source is not None:
        p = source.parameters
        options = replace(
            options,
            scheme=p["scheme"] or options.scheme,
            port=p["port"] or options.port,
            path=options.path if p["path"] == METRICS_PATH else p["path"],
            insecure=p.get("insecureSkipVerify", options.insecure),
        )
    extractor = data.extractor
    if extractor is None:
        return options
    p = extractor.parameters
    engines = dict(ENGINES)
    for one in p["engineConfigs"]:
        engines[one["name"]] = engine(one, ENGINES.get(one["name"]))
    return replace(
        options,
        engine_labels=tuple(dict.fromkeys((p["engineLabelKey"], *ENGINE_LABELS))),
        default_engine=p["defaultEngine"],
        engines=engines,
    )


def engine(config: Mapping[str, Any], known: Names | None) -> Names:
    """The names of one entry of ``engineConfigs``; what it leaves out is as the engine is known."""

    def specs(key: str, given: tuple[Spec, ...]) -> tuple[Spec, ...]:
        return (spec(config[key]),) if config.get(key) else given

    base = known or Names((), (), ())
    return replace(
        base,
        waiting=specs("queuedRequestsSpec", base.waiting),
        running=specs("runningRequestsSpec", base.running),
        kv_use=specs("kvUsageSpec", base.kv_use),
        lora=specs("loraSpec", base.lora),
        cache=specs("cacheInfoSpec", base.cache),
        block_size_value=specs("cacheBlockSizeSpec", base.block_size_value),
        block_size=(config.get("cacheBlockSizeLabelName") or "").encode() or base.block_size,
        blocks=(config.get("cacheNumBlocksLabelName") or "").encode() or base.blocks,
        blocks_value=specs("cacheNumBlocksSpec", base.blocks_value),
        attributes={
            one["attributeKey"]: spec(one["metricSpec"])
            for one in config.get("customMetrics") or ()
        },
    )
