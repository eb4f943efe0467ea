"""``inferway images``: the table with its sources, and what becomes of one image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from inferway.base.errors import UsageError
from inferway.cli import images as command
from inferway.cli.images import Question
from inferway.local.node.imagekeeper import ImageSettings, write_settings


class Place:
    """A state folder, a user's configuration, and the command on both."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.state = folder / "state"
        (self.state / "node").mkdir(parents=True)
        self.own = self.state / "node/images.yaml"
        self.user = folder / "config/inferway/images.yaml"
        self.user.parent.mkdir(parents=True)
        self.env = {"XDG_CONFIG_HOME": str(folder / "config")}
        self._capsys = capsys

    def ask(self, *words: str, output: str = "text", file: str | None = None) -> tuple[int, str]:
        """Exit code and standard output."""
        image, *args = words or (None,)
        question = Question(str(self.state), file, image, tuple(args))
        code = command.run(question, output, self.env)
        out, self.said = self._capsys.readouterr()
        return code, out


@pytest.fixture
def place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Place:
    return Place(tmp_path, capsys)


def test_the_table_in_its_order(place: Place) -> None:
    place.own.write_text("images:\n- match: [example/one, 'example/two:*']\n  run: [first, -v]")
    place.user.write_text("images:\n- match: [example/one]\n  run: [second]\n  network: host")
    code, text = place.ask()
    lines = [line.split() for line in text.splitlines()]
    assert code == 0
    assert lines[0] == ["PATTERN", "RUNS", "NETWORK", "SOURCE"]
    assert lines[1] == ["example/one", "first", "-v", "pod", f"{place.own}:2"]
    assert lines[2] == ["example/two:*"]
    assert lines[3] == ["example/one", "second", "host", f"{place.user}:2"]
    assert lines[4][-2:] == ["built", "in"]
    assert text.endswith(f"Your own entries: {place.own}\n")


@pytest.mark.parametrize(("output", "read"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_the_table_for_programs(place: Place, output: str, read: Any) -> None:
    place.own.write_text("images:\n- match: [example/one]\n  run: [first]")
    code, text = place.ask(output=output)
    value = read(text)
    assert (code, value["problems"], value["engine"]) == (0, [], "simulator")
    first = value["entries"][0]
    assert (first["match"], first["source"], first["line"]) == (["example/one"], str(place.own), 2)


def test_an_image(place: Place) -> None:
    write_settings(
        place.state / "node", ImageSettings(python="/py/bin/python", simulator_programs="/sim")
    )
    code, text = place.ask("vllm/vllm-openai:v0.10.2", "--model", "Q")
    assert code == 0
    assert text.splitlines() == [
        "image    vllm/vllm-openai:v0.10.2",
        "pattern  vllm/vllm-*",
        "source   built in",
        "runs     /py/bin/python -m inferway simulator --model Q",
        "network  pod",
        "env      PATH=/sim:$PATH",
    ]
    code, text = place.ask("vllm/vllm-openai:v0.10.2", output="json")
    value = json.loads(text)
    assert value["argv"] == ["/py/bin/python", "-m", "inferway", "simulator"]
    assert value["env"] == {"PATH": "/sim:$PATH"}


def test_an_image_with_real_vllm(place: Place) -> None:
    settings = ImageSettings(engine="vllm", python="/py", vllm_programs="/engine")
    write_settings(place.state / "node", settings)
    code, text = place.ask("vllm/vllm-openai", output="yaml")
    assert (code, yaml.safe_load(text)["argv"]) == (0, ["/engine/vllm", "serve"])


def test_an_image_without_an_entry_says_what_to_add(place: Place) -> None:
    code, text = place.ask("example/app:1")
    assert code == 1
    assert "problem  ErrImagePull: no local program stands for this image" in text
    assert f'{place.own}: images: [{{match: ["example/app"], run: [PROGRAM, ARGUMENT]}}]' in text
    code, text = place.ask("not an image", output="json")
    assert (code, json.loads(text)["problem"]["reason"]) == (1, "InvalidImageName")


def test_an_image_that_needs_a_command(place: Place) -> None:
    code, text = place.ask("python:3.12")
    assert (code, "runs     " in text) == (0, True)
    place.own.write_text("images: [{match: [bare]}]")
    code, text = place.ask("bare")
    assert (code, "give the container a command or args" in text) == (1, True)


def test_wrong_files(place: Place) -> None:
    place.user.write_text("images:\n- match: [a]\n  runs: [b]")
    code, text = place.ask()
    assert (code, "built in" in text) == (1, True)
    assert f"{place.user}: line 3: images[0].runs: unknown field runs" in place.said
    with pytest.raises(UsageError, match="INFERWAY0201"):
        place.ask(file=str(place.state / "none"))
    with pytest.raises(UsageError, match="INFERWAY0202"):
        place.ask(file=str(place.user))
    with pytest.raises(UsageError, match="INFERWAY0116"):
        place.ask("")


def test_settings_that_are_damaged_are_those_of_a_first_start(place: Place) -> None:
    (place.state / "node/image-settings.json").write_text('{"engine": "none"}')
    code, text = place.ask("busybox", output="json")
    assert (code, json.loads(text)["argv"]) == (0, ["sh"])


def test_an_image_that_a_container_engine_runs(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.own.write_text("images: [{match: [example/app], runtime: podman}]")
    monkeypatch.setenv("PATH", str(tmp_path))
    code, text = place.ask("example/app:1")
    assert (code, "podman is not installed [INFERWAY0209]" in text) == (1, True)
    with pytest.raises(UsageError, match="INFERWAY0209"):
        command.require_runtime("podman", {})
    program = tmp_path / "podman"
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)
    code, text = place.ask("example/app:1", "-v", output="json")
    assert (code, json.loads(text)["argv"]) == (0, [str(program), "run", "example/app:1", "-v"])
    command.require_runtime("podman", {})
    assert "the image itself (podman)" in place.ask()[1]
