"""``/metrics`` has vLLM's families: type, help, labels and buckets, and they move as vLLM's do."""

from __future__ import annotations

import os
from typing import Any

import contract_cases
from contract_differences import METRICS_LEFT_OUT
from contract_target import Target
from contract_wire import get, post
from prometheus_client.parser import text_string_to_metric_families

UPDATE = os.environ.get("INFERWAY_UPDATE_GOLDEN") == "1"
GROUP = "metrics"
# What a build or a device adds to the labels is its own.
BODY = {"model": "tiny-base", "prompt": [5, 6, 7], "max_tokens": 4, "ignore_eos": True}


async def families(target: Target) -> dict[str, Any]:
    """The families of a server: what a scraper may count on."""
    answer = await get(target.url, "/metrics")
    assert answer.header("content-type") == "text/plain; version=1.0.0; charset=utf-8"
    found: dict[str, Any] = {}
    for family in text_string_to_metric_families(answer.body.decode()):
        if family.name.startswith(METRICS_LEFT_OUT) or family.name.endswith("_created"):
            continue
        labels = sorted({" ".join(sorted(sample.labels)) for sample in family.samples})
        shown: dict[str, Any] = {
            "type": family.type,
            "help": family.documentation,
            "labels": labels,
        }
        if family.type == "histogram":
            bounds = (s.labels["le"] for s in family.samples if s.name.endswith("_bucket"))
            shown["buckets"] = " ".join(dict.fromkeys(bounds))
        for label in ("reason", "source", "finished_reason", "sleep_state"):
            values = [s.labels[label] for s in family.samples if label in s.labels]
            if values:
                shown[label] = list(dict.fromkeys(values))
        found[family.name] = shown
    return found


async def value(target: Target, name: str, **labels: str) -> float:
    """The sum of the samples of a name that have these labels."""
    answer = await get(target.url, "/metrics")
    return sum(
        sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


async def test_families(target: Target) -> None:
    await post(target.url, "/v1/completions", BODY)
    await post(target.url, "/v1/completions", {**BODY, "model": "food-review"})
    found = await families(target)
    if UPDATE and target.real:
        contract_cases.write_answers(GROUP, found)
    wanted = contract_cases.answers(GROUP)
    assert list(found) == list(wanted)
    for name, family in wanted.items():
        assert found[name] == family, name


async def test_counters_count_what_a_request_did(target: Target) -> None:
    names = {
        "vllm:prompt_tokens_total": 150,
        "vllm:generation_tokens_total": 4,
        "vllm:request_success_total": 1,
        "vllm:time_to_first_token_seconds_count": 1,
        "vllm:inter_token_latency_seconds_count": 3,
        "vllm:e2e_request_latency_seconds_count": 1,
        "vllm:request_prompt_tokens_sum": 150,
        "vllm:request_generation_tokens_sum": 4,
        "vllm:request_params_max_tokens_sum": 4,
        "vllm:request_params_n_sum": 1,
        "vllm:request_queue_time_seconds_count": 1,
        "vllm:request_prefill_time_seconds_count": 1,
        "vllm:request_num_preemptions_sum": 0,
        "vllm:iteration_tokens_total_sum": 154,
        "vllm:prefix_cache_queries_total": 150,
    }
    before = {name: await value(target, name) for name in names}
    # Tokens that no other test has, so that no cache holds them.
    body = {**BODY, "prompt": [9 + i % 7 for i in range(150)], "cache_salt": os.urandom(8).hex()}
    assert (await post(target.url, "/v1/completions", body)).status == 200
    after = {name: await value(target, name) for name in names}
    assert {name: after[name] - before[name] for name in names} == names


async def test_a_prompt_that_came_before_is_a_hit(target: Target) -> None:
    body = {**BODY, "prompt": [11] * 300, "cache_salt": os.urandom(8).hex()}
    before = await value(target, "vllm:prefix_cache_hits_total")
    by_source = await value(target, "vllm:prompt_tokens_by_source_total", source="local_cache_hit")
    for _ in range(2):
        assert (await post(target.url, "/v1/completions", body)).status == 200
    hits = await value(target, "vllm:prefix_cache_hits_total") - before
    # Whole blocks but for the last token: of 16 here, of 128 in vLLM on a CPU.
    assert hits in (288, 256)
    told = await value(target, "vllm:prompt_tokens_by_source_total", source="local_cache_hit")
    assert told - by_source == hits


async def test_adapters_are_shown_while_they_run(target: Target) -> None:
    await post(target.url, "/v1/completions", {**BODY, "model": "food-review"})
    answer = await get(target.url, "/metrics")
    shown = {
        (sample.labels["running_lora_adapters"], sample.labels["max_lora"])
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
        if sample.name == "vllm:lora_requests_info"
    }
    assert ("food-review", "2") in shown
