"""The few series of a model server's metrics that scheduling reads, found without parsing the rest.

Knows the text exposition format and the names that engines use, newest first. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from inferway.scheduling.events import Scrape

_LABEL = re.compile(rb'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')
_SELECTOR = re.compile(r"^([^{]+?)(?:\{(.*)\})?$")
# Metric names of engines are read from people's flags; a comma list inside braces is split on this.
_PAIR = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*"?([^",]*)"?\s*')
# A server that says more has lost its way.
KV_TOKENS_MAX = 10**12
NO_ATTRIBUTES: Mapping[str, float] = {}


@dataclass(frozen=True, slots=True)
class Spec:
    """One series: a name and labels that must be equal."""

    name: bytes
    labels: Mapping[bytes, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Names:
    """What to look for; the first spec of a list that has a series counts."""

    waiting: tuple[Spec, ...]
    running: tuple[Spec, ...]
    kv_use: tuple[Spec, ...]
    lora: tuple[Spec, ...] = ()
    cache: tuple[Spec, ...] = ()
    # Labels of the cache series: tokens of a block, number of blocks.
    block_size: bytes = b"block_size"
    blocks: bytes = b"num_gpu_blocks"
    # The same two as series of their own.
    block_size_value: tuple[Spec, ...] = ()
    blocks_value: tuple[Spec, ...] = ()
    # Further metrics that a configuration wants, by the name that it gives them.
    attributes: Mapping[str, Spec] = field(default_factory=dict)
    # Where the page is, unless a flag says it.
    path: str = ""


def spec(text: str) -> Spec:
    """``name`` or ``name{label=value,...}``, quotes optional, as the published flags take it."""
    match = _SELECTOR.match(text.strip())
    if match is None:
        # No metric has such a name, so it is found nowhere.
        return Spec(text.encode())
    pairs = _PAIR.findall(match[2] or "")
    return Spec(match[1].strip().encode(), {k.encode(): v.encode() for k, v in pairs})


def _specs(*names: str) -> tuple[Spec, ...]:
    return tuple(spec(name) for name in names)


ENGINES: Mapping[str, Names] = {
    "vllm": Names(
        waiting=_specs("vllm:num_requests_waiting"),
        running=_specs("vllm:num_requests_running"),
        kv_use=_specs("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
        lora=_specs("vllm:lora_requests_info"),
        cache=_specs("vllm:cache_config_info"),
    ),
    "sglang": Names(
        waiting=_specs("sglang:num_queue_reqs"),
        running=_specs("sglang:num_running_reqs"),
        kv_use=_specs("sglang:token_usage"),
        cache=_specs("sglang:cache_config_info"),
        block_size=b"page_size",
        blocks=b"num_pages",
    ),
    "trtllm-serve": Names(
        waiting=_specs("trtllm_num_requests_waiting"),
        running=_specs("trtllm_num_requests_running"),
        kv_use=_specs("trtllm_kv_cache_utilization"),
        block_size_value=_specs("trtllm_kv_cache_tokens_per_block"),
        blocks_value=_specs("trtllm_kv_cache_max_blocks"),
        path="/prometheus/metrics",
    ),
    "triton-tensorrt-llm": Names(
        waiting=_specs("nv_trt_llm_request_metrics{request_type=waiting}"),
        running=_specs("nv_trt_llm_request_metrics{request_type=scheduled}"),
        kv_use=_specs("nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=fraction}"),
        block_size_value=_specs(
            "nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=tokens_per}"
        ),
        blocks_value=_specs("nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=max}"),
    ),
    "triton": Names(
        waiting=_specs("nv_inference_pending_request_count"),
        running=_specs("nv_inference_exec_count"),
        kv_use=(),
    ),
}


def read(text: bytes, names: Names) -> Scrape | None:
    """The signals of one exposition; None if it has neither queue nor running requests.

    Servers with several engines show one series each: requests are summed, KV use is averaged.
    """
    waiting = _values(text, names.waiting)
    running = _values(text, names.running)
    if waiting is None and running is None:
        return None
    use = _values(text, names.kv_use)
    max_loras, running_adapters, waiting_adapters = _lora(text, names.lora)
    return Scrape(
        waiting=sum(waiting or ()),
        running=sum(running or ()),
        kv_use=min(max(sum(use) / len(use), 0.0), 1.0) if use else 0.0,
        kv_tokens=_kv_tokens(text, names),
        max_loras=max_loras,
        running_adapters=running_adapters,
        waiting_adapters=waiting_adapters,
        attributes=_attributes(text, names.attributes) if names.attributes else NO_ATTRIBUTES,
    )


def _attributes(text: bytes, wanted: Mapping[str, Spec]) -> dict[str, float]:
    found = {}
    for name, one in wanted.items():
        values = _values(text, (one,))
        if values:
            found[name] = values[0]
    return found


def _values(text: bytes, specs: tuple[Spec, ...]) -> list[float] | None:
    for one in specs:
        found = [value for _, value in _series(text, one)]
        if found:
            return found
    return None


def _lora(text: bytes, specs: tuple[Spec, ...]) -> tuple[int, frozenset[str], frozenset[str]]:
    """The series with the newest time counts; its two lists overlap and may hold blanks."""
    best: Mapping[bytes, bytes] | None = None
    newest = float("-inf")
    for one in specs:
        for labels, value in _series(text, one):
            if value >= newest:
                best, newest = labels, value
    if best is None:
        return 0, frozenset(), frozenset()
    return (
        _int(best.get(b"max_lora", b"")),
        _names(best.get(b"running_lora_adapters", b"")),
        _names(best.get(b"waiting_lora_adapters", b"")),
    )


def _names(text: bytes) -> frozenset[str]:
    return frozenset(
        part.strip().decode(errors="replace") for part in text.split(b",") if part.strip()
    )


def _kv_tokens(text: bytes, names: Names) -> int:
    total = 0
    for one in names.cache:
        for labels, _ in _series(text, one):
            total += _int(labels.get(names.block_size, b"")) * _int(labels.get(names.blocks, b""))
    if not total and names.block_size_value:
        size = _values(text, names.block_size_value)
        blocks = _values(text, names.blocks_value)
        if size and blocks and 0 < size[0] * sum(blocks) < KV_TOKENS_MAX:
            total = int(size[0] * sum(blocks))
    return total


def _int(digits: bytes) -> int:
    return int(digits) if digits.isdigit() and len(digits) < 12 else 0


def _series(text: bytes, wanted: Spec) -> Iterator[tuple[Mapping[bytes, bytes], float]]:
    """Series of one name whose labels match, with values that are numbers."""
    name = wanted.name
    if not name:
        return
    start = 0
    while (start := text.find(name, start)) >= 0:
        at, start = start, start + len(name)
        if at > 0 and text[at - 1 : at] != b"\n":
            continue
        end = text.find(b"\n", at)
        line = text[at + len(name) : end if end >= 0 else len(text)]
        labels: dict[bytes, bytes] = {}
        rest = line
        if line[:1] == b"{":
            labels = dict(_LABEL.findall(line))
            rest = line[line.rfind(b"}") + 1 :]
        elif line[:1] not in (b" ", b"\t"):
            continue
        if any(labels.get(key) != value for key, value in wanted.labels.items()):
            continue
        try:
            value = float(rest.split()[0])
        except (ValueError, IndexError):
            continue
        if value == value and abs(value) != float("inf"):
            yield labels, value
