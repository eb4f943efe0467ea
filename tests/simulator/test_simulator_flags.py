"""The command line of ``vllm serve``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from inferway.base.errors import UsageError
from inferway.simulator import flags
from inferway.simulator.options import LoraModule, Options

GUIDE = [
    "--model", "Qwen/Qwen2.5-1.5B-Instruct", "--port", "8000", "--enable-lora", "--max-loras", "4",
    "--lora-modules",
    '{"name": "food-review-0", "path": "S/Q", "base_model_name": "Qwen/Qwen2.5-1.5B"}',
    '{"name": "food-review-1", "path": "S/Q", "base_model_name": "Qwen/Qwen2.5-1.5B"}',
]  # fmt: skip


def parse(*arguments: str, **env: str) -> Options:
    return flags.parse(list(arguments), env)


def test_the_guides_command_line() -> None:
    options = flags.parse(
        GUIDE,
        {"PORT": "8000", "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "true", "VLLM_CPU_KVCACHE_SPACE": "4"},
    )
    assert options.model == "Qwen/Qwen2.5-1.5B-Instruct"
    assert options.served_names == ("Qwen/Qwen2.5-1.5B-Instruct",)
    assert (options.host, options.port) == ("0.0.0.0", 8000)
    assert options.runtime_lora
    assert options.engine.adapters_device_max == 4
    assert [module.name for module in options.lora_modules] == ["food-review-0", "food-review-1"]
    assert options.engine.blocks == 9362
    assert options.warnings == ()


@pytest.mark.parametrize(
    "arguments",
    [
        ("m", "--max-model-len", "4096"),
        ("serve", "m", "--max_model_len=4096"),
        ("--model=m", "--max-model-len=4K"),
    ],
)
def test_forms_of_the_same_thing(arguments: tuple[str, ...]) -> None:
    options = parse(*arguments)
    assert (options.model, options.max_model_len) == ("m", 4096)


@pytest.mark.parametrize(
    ("text", "number"), [("7", 7), ("2k", 2000), ("2K", 2048), ("1.5k", 1500), ("1M", 1024**2)]
)
def test_sizes(text: str, number: int) -> None:
    assert flags.size(text) == number


@pytest.mark.parametrize(
    ("values", "modules"),
    [
        (["a=b"], [LoraModule("a", "b")]),
        (["a=b", "c=d"], [LoraModule("a", "b"), LoraModule("c", "d")]),
        (['{"name": "a", "path": "b"}'], [LoraModule("a", "b")]),
        (['[{"name": "a", "path": "b"}, {"name": "c", "path": "d"}]'],
         [LoraModule("a", "b"), LoraModule("c", "d")]),
        (["a=b", '{"name": "c", "path": "d", "base_model_name": "e"}'],
         [LoraModule("a", "b"), LoraModule("c", "d", "e")]),
    ],
)  # fmt: skip
def test_lora_modules(values: list[str], modules: list[LoraModule]) -> None:
    options = parse("m", "--enable-lora", "--lora-modules", *values)
    assert list(options.lora_modules) == modules


@pytest.mark.parametrize(
    "arguments",
    [
        ("--swap-space", "4"),
        ("--swap-space=4", "--dtype", "bfloat16", "-tp", "2", "-O3"),
        ("--disable-log-requests", "--no-enable-log-requests", "--enforce-eager"),
        ("--compilation-config.level", "3", "--kv-transfer-config", '{"a": 1}'),
        ("--allowed-origins", '["a", "b"]', "--trust-remote-code"),
    ],
)
def test_flags_without_effect_are_accepted_with_one_warning(arguments: tuple[str, ...]) -> None:
    options = parse("m", *arguments, "--port", "9")
    assert options.port == 9
    (warning,) = options.warnings
    assert warning.startswith("accepted without effect: -")


def test_unknown_flags_are_refused_with_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parse("m", "--max-modl-len", "5")
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert "unrecognized arguments: --max-modl-len" in error
    assert "did you mean --max-model-len?" in error


@pytest.mark.parametrize(
    ("arguments", "env", "code", "words"),
    [
        (["--port", "70000"], {}, "INFERWAY0501", "70000"),
        (["--block-size", "0"], {}, "INFERWAY0501", "--block-size"),
        (["--max-num-batched-tokens", "1"], {}, "INFERWAY0501", "max_num_seqs"),
        (["--config", "/not/there"], {}, "INFERWAY0502", "/not/there"),
        (["--lora-modules", "a=b"], {}, "INFERWAY0503", "LoRA"),
        (["--enable-lora", "--lora-modules", "{"], {}, "INFERWAY0503", "lora-modules"),
        (["--enable-lora", "--lora-modules", '{"name": "a"}'], {}, "INFERWAY0503", "path"),
        (["--enable-lora", "--lora-modules", "a=b", "a=c"], {}, "INFERWAY0503", "twice"),
        (["--max-loras", "4", "--max-cpu-loras", "2"], {}, "INFERWAY0503", "max_cpu_loras"),
        (["--profile", "warp"], {}, "INFERWAY0504", "warp"),
        (["--time-scale", "-1"], {}, "INFERWAY0504", "time scale"),
        ([], {"INFERWAY_SIMULATOR_TIME_SCALE": "fast"}, "INFERWAY0504", "time scale"),
        (["--max-model-len", "1M"], {}, "INFERWAY0505", "KV cache"),
        ([], {"VLLM_CPU_KVCACHE_SPACE": "much"}, "INFERWAY0505", "much"),
    ],
)
def test_values_that_cannot_be(
    arguments: list[str], env: dict[str, str], code: str, words: str
) -> None:
    with pytest.raises(UsageError) as caught:
        flags.parse(["m", *arguments], env)
    assert caught.value.code == code
    assert words in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("host", "env", "expected"),
    [
        (None, {}, "0.0.0.0"),
        (None, {"INFERWAY_POD_IP": "127.77.1.1"}, "0.0.0.0"),
        (None, {"INFERWAY_POD_IP": "127.77.1.1", "INFERWAY_LOCALHOST": "127.77.1.1"},
         "127.77.1.1"),
        ("0.0.0.0", {"INFERWAY_POD_IP": "127.77.1.1", "INFERWAY_LOCALHOST": "127.77.1.1"},
         "127.77.1.1"),
        ("localhost", {"INFERWAY_LOCALHOST": "127.77.1.1"}, "127.77.1.1"),
        ("127.0.0.9", {"INFERWAY_LOCALHOST": "127.77.1.1"}, "127.0.0.9"),
    ],
)  # fmt: skip
def test_where_it_listens(host: str | None, env: dict[str, str], expected: str) -> None:
    arguments = ["m", *(["--host", host] if host else [])]
    assert flags.parse(arguments, env).host == expected


def test_a_file_gives_flags_that_the_command_line_overrides(tmp_path: Path) -> None:
    path = tmp_path / "serve.yaml"
    path.write_text(
        "model: from-file\nport: 7\nmax_num_seqs: 9\nenable-lora: true\n"
        "enable-prefix-caching: false\nlora-modules: [a=b, {name: c, path: d}]\n"
    )
    options = parse("--config", str(path), "--port", "8")
    assert (options.model, options.port) == ("from-file", 8)
    assert options.engine.sequences_max == 9
    assert not options.engine.prefix_caching
    assert [module.name for module in options.lora_modules] == ["a", "c"]
    assert parse("m", "--config", str(path)).model == "m"
    path.write_text("- a\n")
    with pytest.raises(UsageError, match="INFERWAY0502"):
        parse("m", "--config", str(path))


def test_profiles(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"base_seconds": 2.0}))
    assert parse("m", "--profile", str(path)).profile.base_seconds == 2.0
    assert parse("m", INFERWAY_SIMULATOR_PROFILE="instant").profile.name == "instant"
    assert parse("m", INFERWAY_SIMULATOR_TIME_SCALE="0").profile.name == "instant"
    assert parse("m", "--time-scale", "2").profile.base_seconds == pytest.approx(0.002)
    path.write_text(json.dumps({"base_secnds": 2.0}))
    with pytest.raises(UsageError, match="base_secnds"):
        parse("m", "--profile", str(path))
