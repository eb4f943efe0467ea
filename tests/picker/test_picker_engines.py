"""Metric pages of the engines as they come, and engines that a configuration describes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferway.picker import metrics_text
from inferway.picker.engines import with_settings
from inferway.picker.scrape import ScrapeOptions
from inferway.scheduling.config import load
from inferway.scheduling.events import Scrape
from inferway.scheduling.plugins.registry import plugin_types

PAGES = Path(__file__).parent / "testdata" / "metrics"
TABLE = {
    "vllm-0.6": Scrape(
        3, 2, 0.25, 32_000, 2, frozenset({"a", "b"}), frozenset({"c"})
    ),
    # The old name is there too, and means less.
    "vllm-0.10": Scrape(1, 4, 0.5, 32_000),
    "vllm-0.32": Scrape(2, 4, 0.6, 32_000),
    "sglang": Scrape(1, 5, 0.4, 32_000),
    "trtllm-serve": Scrape(7, 8, 0.125, 32_000),
    "triton-tensorrt-llm": Scrape(2, 4, 0.75, 25_600),
    "triton": Scrape(6, 2),
}  # fmt: skip


@pytest.mark.parametrize("name", list(TABLE))
def test_pages_of_engines(name: str) -> None:
    names = metrics_text.ENGINES[re.sub(r"-0\..*", "", name)]
    text = (PAGES / f"{name}.txt").read_bytes()
    assert metrics_text.read(text, names) == TABLE[name]


def test_there_is_a_page_of_every_engine() -> None:
    assert {path.stem for path in PAGES.glob("*.txt")} == set(TABLE)
    assert {re.sub(r"-0\..*", "", name) for name in TABLE} == set(metrics_text.ENGINES)


def settings(**parameters: Any) -> ScrapeOptions:
    document = {
        "apiVersion": "llm-d.ai/v1alpha1",
        "kind": "EndpointPickerConfig",
        "plugins": [
            {"type": "core-metrics-extractor", "parameters": parameters},
            {"type": "metrics-data-source", "parameters": {"path": "/m", "port": 9}},
            {"type": "queue-scorer"},
        ],
        "dataLayer": {
            "sources": [
                {
                    "pluginRef": "metrics-data-source",
                    "extractors": [{"pluginRef": "core-metrics-extractor"}],
                }
            ]
        },
        "schedulingProfiles": [{"name": "d", "plugins": [{"pluginRef": "queue-scorer"}]}],
    }
    return with_settings(ScrapeOptions(), load(document, plugin_types()).data)


def test_engines_of_a_configuration() -> None:
    options = settings(
        engineLabelKey="engine",
        defaultEngine="mine",
        engineConfigs=[
            {
                "name": "mine",
                "queuedRequestsSpec": "queue{kind=all}",
                "runningRequestsSpec": "busy",
                "kvUsageSpec": "use",
                "customMetrics": [{"attributeKey": "power", "metricSpec": "watts{gpu=0}"}],
            },
            {"name": "vllm", "queuedRequestsSpec": "other"},
        ],
    )
    assert options.engine_labels[0] == "engine"
    assert (options.default_engine, options.path, options.port) == ("mine", "/m", 9)
    page = b'queue{kind="some"} 9\nqueue{kind="all"} 2\nbusy 3\nuse 0.5\nwatts{gpu="0"} 70\n'
    assert metrics_text.read(page, options.engines["mine"]) == Scrape(
        2, 3, 0.5, attributes={"power": 70.0}
    )
    vllm = options.engines["vllm"]
    assert vllm.waiting == (metrics_text.spec("other"),)
    assert vllm.running == metrics_text.ENGINES["vllm"].running


@pytest.mark.parametrize("text", ["", "{", "{a=b}", "name{", "a{b", "name{x=1,}", " n { k = v } "])
def test_any_text_is_a_selector(text: str) -> None:
    one = metrics_text.spec(text)
    assert metrics_text.read(b"name 1\n", metrics_text.Names((one,), (one,), ())) in (
        None,
        Scrape(1.0, 1.0),
    )


pages = st.sampled_from([path.read_bytes() for path in sorted(PAGES.glob("*.txt"))])


@pytest.mark.fuzz
@given(pages, st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 40), st.binary(max_size=8))))
def test_broken_pages_are_read_or_not(page: bytes, cuts: list[tuple[int, int, bytes]]) -> None:
    for at, length, noise in cuts:
        page = page[:at] + noise + page[at + length :]
    for names in metrics_text.ENGINES.values():
        found = metrics_text.read(page, names)
        if found is not None:
            assert 0.0 <= found.kv_use <= 1.0
            assert found.kv_tokens >= 0
