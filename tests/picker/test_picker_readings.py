"""Metrics, model lists, access-log entries and Pods as they come, and what is read from them."""

from __future__ import annotations

from typing import Any

import pytest
from envoy.data.accesslog.v3 import accesslog_pb2
from hypothesis import given
from hypothesis import strategies as st

from inferway.picker import endpoints, entries, metrics_text, models_json
from inferway.scheduling.events import Finished, ModelCard, Scrape

VLLM = metrics_text.ENGINES["vllm"]

NEW = b"""\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m{1}"} 3.0
vllm:num_requests_running{engine="1",model_name="m{1}"} 1.0
vllm:num_requests_waiting{engine="0",model_name="m{1}"} 2.0
vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 99.0
vllm:kv_cache_usage_perc{engine="0"} 0.5
vllm:kv_cache_usage_perc{engine="1"} 0.7
vllm:cache_config_info{block_size="16",engine="0",num_gpu_blocks="1000"} 1.0
vllm:lora_requests_info{max_lora="4",running_lora_adapters="a, b",waiting_lora_adapters=""} 100.0
vllm:lora_requests_info{max_lora="4",running_lora_adapters="c",waiting_lora_adapters="d"} 101.5
"""


def test_current_vllm() -> None:
    assert metrics_text.read(NEW, VLLM) == Scrape(
        waiting=2.0,
        running=4.0,
        kv_use=0.6,
        kv_tokens=16000,
        max_loras=4,
        running_adapters=frozenset({"c"}),
        waiting_adapters=frozenset({"d"}),
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"vllm:num_requests_waiting 1\nvllm:gpu_cache_usage_perc 0.25", Scrape(1.0, 0.0, 0.25)),
        (b"vllm:num_requests_running 2 1700000000\n", Scrape(0.0, 2.0)),
        (b"vllm:num_requests_running NaN\nvllm:num_requests_waiting 1e1\n", Scrape(10.0)),
        (b"vllm:num_requests_running{} 4\nvllm:kv_cache_usage_perc 7\n", Scrape(0.0, 4.0, 1.0)),
    ],
)
def test_older_and_odd_expositions(text: bytes, expected: Scrape) -> None:
    assert metrics_text.read(text, VLLM) == expected


@pytest.mark.parametrize("text", [b"", b"# nothing\n", b"x" * 100, b"vllm:num_requests_waiting\n"])
def test_no_signals(text: bytes) -> None:
    assert metrics_text.read(text, VLLM) is None


def test_other_engines() -> None:
    sglang = b"sglang:num_queue_reqs 1\nsglang:num_running_reqs 2\nsglang:token_usage 0.5\n"
    assert metrics_text.read(sglang, metrics_text.ENGINES["sglang"]) == Scrape(1.0, 2.0, 0.5)
    triton = (
        b'nv_trt_llm_request_metrics{model="m",request_type="waiting"} 1\n'
        b'nv_trt_llm_request_metrics{model="m",request_type="scheduled"} 3\n'
        b'nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="used"} 9\n'
        b'nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="fraction"} 0.5\n'
    )
    names = metrics_text.ENGINES["triton-tensorrt-llm"]
    assert metrics_text.read(triton, names) == Scrape(1.0, 3.0, 0.5)


pieces = st.sampled_from(
    [
        b"vllm:num_requests_waiting",
        b"vllm:lora_requests_info",
        b"vllm:cache_config_info",
        b'{block_size="16",num_gpu_blocks="x"}',
        b'{max_lora="9999999999999"',
        b"}",
        b" 1",
        b" 1e400",
        b"\n",
        b'"',
        b"\xff",
    ]
)


@given(st.lists(pieces | st.binary(max_size=4), max_size=30))
def test_any_text_is_read_or_not(parts: list[bytes]) -> None:
    text = b"".join(parts)
    assert isinstance(metrics_text.read(text, VLLM), Scrape | None)
    assert isinstance(models_json.read(text), tuple | None)


def test_models() -> None:
    text = (
        b'{"object":"list","data":[{"id":"m","object":"model","parent":null,"root":"m"},'
        b'{"id":"a","parent":"m"}]}'
    )
    assert models_json.read(text) == (ModelCard("a", "m"), ModelCard("m"))
    assert models_json.read(b"<html>") is None
    assert models_json.read(b'{"data":[{"name":"x"}]}') is None


def test_access_log_entry() -> None:
    entry = accesslog_pb2.HTTPAccessLogEntry()
    assert entries.finished(entry) is None
    entry.request.request_headers["x-inferway-pick"] = "p-1"
    assert entries.finished(entry) == Finished("p-1")
    common = entry.common_properties
    entry.response.response_code.value = 200
    common.upstream_remote_address.socket_address.address = "fd00::1"
    common.upstream_remote_address.socket_address.port_value = 8000
    common.upstream_request_attempt_count = 2
    common.time_to_first_upstream_rx_byte.FromMilliseconds(250)
    common.time_to_last_upstream_rx_byte.FromMilliseconds(1250)
    common.response_flags.upstream_connection_termination = True
    usage = common.metadata.filter_metadata["inferway.usage"]
    usage["prompt_tokens"] = 12
    usage["completion_tokens"] = "34"
    usage["cached_tokens"] = -1
    assert entries.finished(entry) == Finished(
        "p-1",
        code=200,
        served="[fd00::1]:8000",
        attempts=2,
        failed=True,
        first_byte_seconds=0.25,
        last_byte_seconds=1.25,
        prompt_tokens=12,
        completion_tokens=34,
    )


def pod(name: str, ip: str, *, ready: str = "True", **extra: Any) -> endpoints.Pod:
    metadata = {"name": name, "labels": {"app": "x"}, **extra}
    status = {"podIP": ip, "conditions": [{"type": "Ready", "status": ready, "more": 1}]}
    return endpoints.decode_pod({"metadata": metadata, "status": status, "spec": {}})


POOL = {
    "apiVersion": "inference.networking.k8s.io/v1",
    "metadata": {"name": "p"},
    "spec": {
        "selector": {"matchLabels": {"app": "x"}},
        "targetPorts": [{"number": 8000}, {"number": 8001}],
    },
}


def test_endpoints_are_ready_pods_times_ports() -> None:
    pool = endpoints.decode_pool(POOL)
    assert pool.selector == "app=x"
    pods = [
        pod("b", "10.0.0.2"),
        pod("a", "fd00::1"),
        pod("unready", "10.0.0.3", ready="False"),
        pod("leaving", "10.0.0.4", deletionTimestamp="2026-01-01T00:00:00Z"),
        pod("new", ""),
        pod("other", "10.0.0.5", labels={"app": "y"}),
        pod("one", "10.0.0.6", annotations={"llm-d.ai/active-ports": "8001, x"}),
    ]
    found = endpoints.endpoints_of(pool, pods)
    assert [(e.address, e.name) for e in found] == [
        ("10.0.0.2:8000", "b"),
        ("10.0.0.2:8001", "b"),
        ("10.0.0.6:8001", "one"),
        ("[fd00::1]:8000", "a"),
        ("[fd00::1]:8001", "a"),
    ]


def test_pool_of_the_older_group_and_without_selector() -> None:
    old = {
        "apiVersion": "inference.networking.x-k8s.io/v1alpha2",
        "metadata": {"name": "p"},
        "spec": {"selector": {"app": "x"}, "targetPortNumber": 8000},
    }
    pool = endpoints.decode_pool(old)
    assert [e.address for e in endpoints.endpoints_of(pool, [pod("a", "1.1.1.1")])] == [
        "1.1.1.1:8000"
    ]
    empty = endpoints.decode_pool({"metadata": {"name": "p"}, "spec": {}})
    assert endpoints.endpoints_of(empty, [pod("a", "1.1.1.1")]) == []
