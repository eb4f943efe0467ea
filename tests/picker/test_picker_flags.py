"""The command line: Go's ways of writing flags, the published flags, and refusals."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from inferway.base.errors import UsageError
from inferway.picker import config_file, flags
from inferway.picker.flag_table import FLAGS
from inferway.picker.main import main
from inferway.picker.metrics_text import ENGINES, Spec
from inferway.picker.pools import scrape_options
from inferway.scheduling.policy import CostPolicy


def test_all_forms_of_a_flag() -> None:
    argv = ["--pool-name", "p", "-pick-port=1", "--v", "4", "-metrics-port", "2"]
    options = flags.parse(argv, {})
    assert options.text("pool-name") == "p"
    assert [options.number(n) for n in ("pick-port", "v", "metrics-port")] == [1, 4, 2]


# What the published charts render, by chart and case: arguments, what they must come to, and which
# flags have no effect here.
V11 = [
    *("--pool-name", "vllm", "--pool-namespace", "default"),
    *("--pool-group", "inference.networking.k8s.io", "--zap-encoder", "json"),
    *("--config-file", "/config/default-plugins.yaml"),
]
TRITON = [
    *("--total-queued-requests-metric", "nv_trt_llm_request_metrics{request_type=waiting}"),
    "--kv-cache-usage-percentage-metric",
    "nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=fraction}",
    *("--lora-info-metric", ""),
]
V15 = [
    *("--pool-name", "vllm", "--pool-namespace", "default", "--zap-encoder", "json"),
    *("--config-file", "/config/default-plugins.yaml"),
]
STANDALONE = [
    *("--endpoint-selector", "app=vllm,tier in (a,b)", "--endpoint-target-ports", "8000,8001"),
    *("--zap-encoder", "json", "--config-file", "/config/default-plugins.yaml"),
]
CHARTS: dict[str, tuple[list[str], dict[str, object], set[str]]] = {
    "v1.1": (
        [*V11, "--v", "1", "--tracing", "false", "--metrics-endpoint-auth=false"],
        {"tracing": False, "metrics-endpoint-auth": False, "v": "1", "secure-serving": True},
        {"zap-encoder"},
    ),
    "v1.1 with two replicas": (
        [*V11, "--ha-enable-leader-election", "--v", "1", "--tracing", "true"],
        {"ha-enable-leader-election": True, "tracing": True, "metrics-endpoint-auth": True},
        {"zap-encoder", "ha-enable-leader-election"},
    ),
    "v1.1 with the older pool": (
        [*V11[:4], "--pool-group", "inference.networking.x-k8s.io", *V11[6:]],
        {"pool-group": "inference.networking.x-k8s.io"},
        {"zap-encoder"},
    ),
    "v1.1 for triton": ([*V11, *TRITON], {"lora-info-metric": ""}, {"zap-encoder"}),
    "v1.5": (
        [*V15, "--tracing=false", "--v=1", "--secure-serving=false"],
        {"secure-serving": False, "v": "1"},
        {"zap-encoder"},
    ),
    "v1.5 for sglang, quotes left in": (
        [*V15, '--total-queued-requests-metric="sglang:num_queue_reqs"'],
        {"total-queued-requests-metric": "sglang:num_queue_reqs"},
        {"zap-encoder"},
    ),
    "v1.5 scrapes by flags": (
        [*V15, "--model-server-metrics-scheme=https", "--model-server-metrics-path=/m"],
        {"model-server-metrics-path": "/m"},
        {"zap-encoder"},
    ),
    "v1.5 standalone": (STANDALONE, {"endpoint-target-ports": "8000,8001"}, {"zap-encoder"}),
    "llm-d": (
        [
            *("--allow-experimental-plugins", *STANDALONE, "--tracing=false"),
            *("--metrics-endpoint-auth=false", "--drain-timeout", "60s", "--enable-cert-reload"),
            *("--grpc-max-recv-msg-size", "10MiB", "--emit-endpoint-scores", "--v", "4"),
        ],
        {"allow-experimental-plugins": True, "grpc-max-recv-msg-size": str(10 << 20)},
        {"zap-encoder", "emit-endpoint-scores"},
    ),
    "llm-d with a pool": (
        [
            *V15,
            "--tracing=false",
            "--ha-enable-leader-election=true",
            "--refresh-metrics-interval=1s",
        ],
        {},
        {"zap-encoder", "ha-enable-leader-election", "refresh-metrics-interval"},
    ),
}


@pytest.mark.parametrize("chart", CHARTS)
def test_arguments_of_published_charts(chart: str) -> None:
    argv, wanted, without = CHARTS[chart]
    options = flags.parse(argv, {"NAMESPACE": "here", "POD_NAME": "router-epp-6d4c-x2v9p"})
    for name, value in wanted.items():
        seen = options.flag(name) if isinstance(value, bool) else options.text(name)
        assert seen == value, name
    assert set(options.without_effect) == without
    assert all(options.without_effect.values())
    assert len(options.pools) == 1


def flag_names(*published: str) -> set[str]:
    return {flag.name for flag in FLAGS if set(flag.of) & set(published)}


def test_every_flag_of_the_published_pickers_is_known() -> None:
    zap = {"devel", "encoder", "log-level", "stacktrace-level", "time-encoding"}
    both = {
        *("grpc-port", "grpc-health-port", "metrics-port", "metrics-endpoint-auth", "enable-pprof"),
        *("pool-name", "pool-group", "pool-namespace", "v", "secure-serving", "health-checking"),
        *("cert-path", "config-file", "config-text", "refresh-metrics-interval", "tracing"),
        *("refresh-prometheus-metrics-interval", "metrics-staleness-threshold"),
        *("ha-enable-leader-election", *(f"zap-{name}" for name in zap)),
    }
    v11 = {
        *("total-queued-requests-metric", "kv-cache-usage-percentage-metric", "lora-info-metric"),
        *("cache-info-metric", "model-server-metrics-port", "model-server-metrics-path"),
        *("model-server-metrics-scheme", "model-server-metrics-https-insecure-skip-verify"),
    }
    llm_d = {
        *("endpoint-selector", "endpoint-target-ports", "disable-endpoint-subset-filter"),
        *("emit-endpoint-scores", "allow-experimental-plugins", "drain-timeout"),
        *("grpc-max-recv-msg-size", "grpc-max-send-msg-size", "enable-cert-reload"),
        *("tls-min-version", "tls-cipher-suites", "metrics-client-ca-file", "metrics-cert-dir"),
        "enable-grpc-stream-metrics",
    }
    assert both | v11 <= flag_names("v1.1")
    assert both | llm_d <= flag_names("llm-d")
    assert not [flag.name for flag in FLAGS if flag.of and not flag.help]


SPECS = {
    "one": (["--pool-name", "p"], [("here", "p", "inference.networking.k8s.io")]),
    "namespaces in names": (
        ["--pool-name=p,n/q"],
        [(n, p, "inference.networking.k8s.io") for n, p in (("here", "p"), ("n", "q"))],
    ),
    "repeated, of two groups": (
        [
            *("--pool-name", "p", "--pool-name", "q", "--pool-namespace", "a,b"),
            "--pool-group=inference.networking.k8s.io,inference.networking.x-k8s.io",
        ],
        [
            ("a", "p", "inference.networking.k8s.io"),
            ("b", "q", "inference.networking.x-k8s.io"),
        ],
    ),
}


@pytest.mark.parametrize("case", SPECS)
def test_pools_of_one_process(case: str) -> None:
    argv, wanted = SPECS[case]
    options = flags.parse(argv, {"NAMESPACE": "here"})
    assert [(p.namespace, p.name, p.group) for p in options.pools] == wanted
    assert options.needs_cluster


def test_servers_without_an_inference_pool() -> None:
    env = {"NAMESPACE": "here", "POD_NAME": "router-epp-6d4c-x2v9p"}
    argv = ["--endpoint-selector=app=v", "--endpoint-target-ports=1,2,1"]
    pool = flags.parse(argv, env).pools[0]
    assert (pool.name, pool.selector, pool.ports) == ("router-epp", "app=v", (1, 2))
    assert pool.in_cluster
    pool = flags.parse(["--endpoints=127.0.0.1:1,[::1]:2"], {}).pools[0]
    assert (pool.name, pool.endpoints) == ("endpoints", ("127.0.0.1:1", "[::1]:2"))
    assert not pool.in_cluster
    pool = flags.parse(["--pool-name=n/p", "--endpoints=a:1"], {}).pools[0]
    assert (pool.namespace, pool.name) == ("n", "p")
    options = flags.parse(["--pool-name=p", "--endpoints-file=/x"], {})
    assert (options.pools[0].file, options.pools[0].watch_file) == ("/x", True)
    assert not options.needs_cluster


def test_a_configuration_may_name_the_file_of_servers() -> None:
    text = """
        {apiVersion: llm-d.ai/v1alpha1, kind: EndpointPickerConfig,
         plugins: [{type: file-discovery, name: f, parameters: {path: /e.yaml, watchFile: true}}],
         dataLayer: {discovery: %s}}"""
    for ref in ("{endpoints: {pluginRef: f}}", "{pluginRef: f}"):
        argv = ["--config-text", text % ref]
        options = config_file.with_discovery(flags.parse(argv, {}), {})
        assert (options.pools[0].name, options.pools[0].file) == ("endpoints", "/e.yaml")
        assert options.pools[0].watch_file
        named = config_file.with_discovery(flags.parse([*argv, "--pool-name=p"], {}), {})
        assert (named.pools[0].name, named.pools[0].file) == ("p", "/e.yaml")
        with pytest.raises(UsageError) as caught:
            config_file.with_discovery(flags.parse([*argv, "--endpoints=a:1"], {}), {})
        assert caught.value.code == "INFERWAY0405"
    with pytest.raises(UsageError) as caught:
        config_file.with_discovery(flags.parse(["--config-text", "{plugins: []}"], {}), {})
    assert caught.value.code == "INFERWAY0404"


def test_thresholds_from_the_environment() -> None:
    text = "{apiVersion: inference.networking.x-k8s.io/v1alpha1, kind: EndpointPickerConfig%s}"
    env = {"SD_QUEUE_DEPTH_THRESHOLD": "7", "SD_METRICS_STALENESS_THRESHOLD": "1s"}
    argv = ["--pool-name=p", "--config-text"]
    loaded = config_file.configuration(flags.parse([*argv, text % ""], env))
    assert loaded is not None
    seen = loaded.flow.detector.parameters
    assert (seen["queueDepthThreshold"], seen["kvCacheUtilThreshold"]) == (7, 0.8)
    # What the configuration says counts.
    own = text % ", saturationDetector: {queueDepthThreshold: 3}"
    loaded = config_file.configuration(flags.parse([*argv, own], env))
    assert loaded is not None
    assert loaded.flow.detector.parameters["queueDepthThreshold"] == 3
    with pytest.raises(UsageError) as caught:
        flags.parse(["--pool-name=p"], {"SD_KV_CACHE_UTIL_THRESHOLD": "most"})
    assert "SD_KV_CACHE_UTIL_THRESHOLD" in str(caught.value)


@pytest.mark.parametrize(
    ("argv", "level"),
    [
        ([], None),
        (["--v=3"], None),
        (["-v", "5"], logging.DEBUG),
        (["--zap-log-level=debug"], logging.DEBUG),
        (["--zap-log-level", "error", "--v=4"], logging.ERROR),
        (["--zap-log-level=5"], logging.DEBUG),
    ],
)
def test_verbosity(argv: list[str], level: int | None) -> None:
    assert flags.parse(["--pool-name=p", *argv], {}).log_level == level


def test_environment_comes_after_flags() -> None:
    env = {"NAMESPACE": "n", "INFERWAY_POD_IP": "127.1.2.3", "INFERWAY_PICK_SOCKET": "/x"}
    options = flags.parse(["--pool-name=p"], env)
    assert options.pools[0].namespace == "n"
    assert options.text("bind-address") == "127.1.2.3"
    assert options.text("pick-socket") == "/x"
    options = flags.parse(["--pool-name=p", "--pool-namespace=m"], env)
    assert options.pools[0].namespace == "m"


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["--pol-name", "p"], "INFERWAY0401", "Did you mean --pool-name?"),
        (["--nonsense-zzz"], "INFERWAY0401", "--help"),
        (["pool"], "INFERWAY0402", "'pool'"),
        (["--pool-name"], "INFERWAY0403", "needs a value"),
        (["---v=1"], "INFERWAY0402", "---v"),
        (["--", "--v=1"], "INFERWAY0402", "'--'"),
        (["--v", "x"], "INFERWAY0403", "'x' is not a number"),
        (["--pick-port", "x"], "INFERWAY0403", "'x' is not a port"),
        (["--pick-port", "99999"], "INFERWAY0403", "99999"),
        (["--tracing=perhaps"], "INFERWAY0403", "perhaps"),
        (["--refresh-metrics-interval", "5"], "INFERWAY0403", "duration"),
        (["--pool-name=p", "--endpoints=a:1,b"], "INFERWAY0403", "'b' is not host:port"),
        (["--grpc-max-recv-msg-size=ten"], "INFERWAY0403", "size"),
        (["--zap-log-level=loud"], "INFERWAY0403", "level"),
        (["--lora-info-metric={a=b}"], "INFERWAY0403", "name{label=value}"),
        (["--endpoints=::1:8000"], "INFERWAY0403", "is not host:port"),
        (["--endpoint-selector=a=b"], "INFERWAY0403", "1 to 8 ports"),
        (["--endpoint-selector=a in b", "--endpoint-target-ports=1"], "INFERWAY0403", "app=vllm"),
        (["--pool-name=p", "--endpoint-selector=a=b"], "INFERWAY0405", "exclude"),
        (["--endpoints=a:1", "--endpoints-file=/x"], "INFERWAY0405", "exclude"),
        (["--pool-name=p,q", "--endpoints=a:1"], "INFERWAY0405", "2 pools"),
        (["--pool-name=p,default/p"], "INFERWAY0405", "default/p twice"),
        (["--pool-name=p", "--pool-namespace=a,b"], "INFERWAY0405", "2 parts"),
        (["--pool-name=" + ",".join(map(str, range(40)))], "INFERWAY0405", "40 pools"),
        (["--pool-name=p", "--metrics-client-ca-file=/c"], "INFERWAY0405", "--metrics-cert-dir"),
        (
            ["--pool-name=p", "--metrics-cert-dir=/c", "--metrics-endpoint-auth=false"],
            "INFERWAY0405",
            "anybody",
        ),
        ([], "INFERWAY0404", "--pool-name"),
        (["--pool-name=p", "--config-file=a", "--config-text=b"], "INFERWAY0405", "exclude"),
    ],
)
def test_refusals(argv: list[str], code: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        flags.parse(argv, {})
    assert caught.value.code == code
    assert words in str(caught.value)


def test_help_names_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"], {}) == 0
    printed = capsys.readouterr().out
    assert all(f"--{flag.name}" in printed for flag in FLAGS)


def test_metric_flags_come_before_the_engines_names() -> None:
    argv = ["--pool-name=p", "--kv-cache-usage-percentage-metric", "my:kv{rank=0}"]
    names = scrape_options(flags.parse(argv, {})).names(ENGINES["vllm"])
    assert names.kv_use[0] == Spec(b"my:kv", {b"rank": b"0"})
    assert names.kv_use[1:] == ENGINES["vllm"].kv_use
    assert names.waiting == ENGINES["vllm"].waiting


def test_configuration_from_text_file_or_none(tmp_path: Path) -> None:
    text = "{apiVersion: llm-d.ai/v1alpha1, kind: EndpointPickerConfig, plugins: []}"
    file = tmp_path / "config.yaml"
    file.write_text(text)
    parse = flags.parse
    assert isinstance(config_file.policy(parse(["--pool-name=p"], {})), CostPolicy)
    for argv in (["--config-text", text], ["--config-file", str(file)]):
        policy = config_file.policy(parse(["--pool-name=p", *argv], {}))
        assert policy.name == "profile default"


@pytest.mark.parametrize("content", [b"a: [", b"\xff\xfe", b"x" * (2 << 20)])
def test_configuration_that_can_not_be_read(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "config.yaml"
    file.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        config_file.policy(flags.parse(["--pool-name=p", "--config-file", str(file)], {}))
    assert caught.value.code == "INFERWAY0407"
    with pytest.raises(UsageError):
        config_file.policy(flags.parse(["--pool-name=p", "--config-file", "/nonexistent"], {}))
