"""The command line: Go's ways of writing flags, the published flags, and refusals."""

from __future__ import annotations

from pathlib import Path

import pytest

from inferway.base.errors import UsageError
from inferway.picker import config_file, flags
from inferway.picker.main import main
from inferway.picker.metrics_text import ENGINES, Spec
from inferway.picker.pools import scrape_options
from inferway.scheduling.policy import CostPolicy


def test_all_forms_of_a_flag() -> None:
    argv = ["--pool-name", "p", "-pick-port=1", "--v", "4", "-metrics-port", "2"]
    options = flags.parse(argv, {})
    assert options.text("pool-name") == "p"
    assert [options.number(n) for n in ("pick-port", "v", "metrics-port")] == [1, 4, 2]


def test_the_published_chart_writes_booleans_as_two_words() -> None:
    argv = [
        "--pool-name",
        "vllm",
        "--pool-namespace",
        "default",
        "--pool-group",
        "inference.networking.k8s.io",
        "--zap-encoder",
        "json",
        "--config-file",
        "/config/default-plugins.yaml",
        "--tracing",
        "false",
        "--metrics-endpoint-auth=false",
        "--ha-enable-leader-election",
        "-v",
        "1",
    ]
    options = flags.parse(argv, {})
    assert options.flag("tracing") is False
    assert options.flag("ha-enable-leader-election") is True
    assert options.number("v") == 1
    assert set(options.without_effect) == {
        "zap-encoder",
        "tracing",
        "metrics-endpoint-auth",
        "ha-enable-leader-election",
    }


def test_environment_comes_after_flags() -> None:
    env = {"NAMESPACE": "n", "INFERWAY_POD_IP": "127.1.2.3", "INFERWAY_PICK_SOCKET": "/x"}
    options = flags.parse(["--pool-name=p"], env)
    assert options.text("pool-namespace") == "n"
    assert options.text("bind-address") == "127.1.2.3"
    assert options.text("pick-socket") == "/x"
    options = flags.parse(["--pool-name=p", "--pool-namespace=m"], env)
    assert options.text("pool-namespace") == "m"


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["--pol-name", "p"], "INFERWAY0401", "Did you mean --pool-name?"),
        (["--nonsense-zzz"], "INFERWAY0401", "--help"),
        (["pool"], "INFERWAY0402", "'pool'"),
        (["--pool-name"], "INFERWAY0403", "needs a value"),
        (["--pick-port", "x"], "INFERWAY0403", "'x' is not a number"),
        (["--pick-port", "99999"], "INFERWAY0403", "99999"),
        (["--tracing=perhaps"], "INFERWAY0403", "perhaps"),
        (["--refresh-metrics-interval", "5"], "INFERWAY0403", "duration"),
        (["--pool-name=p", "--endpoints=a:1,b"], "INFERWAY0403", "'b' is not host:port"),
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
    assert all(f"--{flag.name}" in printed for flag in flags.FLAGS)


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
