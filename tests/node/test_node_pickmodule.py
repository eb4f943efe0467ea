"""What the node finds out about the native pick filter, with stand-ins and the real Envoy."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from inferway.base.native import module_folder
from inferway.local.node import pickmodule
from inferway.local.node.pickmodule import PickModule, detect

MATCHED = "echo 'Dynamic module ABI version v0.2.0 matched.' >&2"


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(pickmodule, "module_folder", lambda: "/modules")
    return "/modules"


def program(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


async def test_envoy_that_takes_it(tmp_path: Path, folder: str) -> None:
    found = await detect(program(tmp_path / "envoy", MATCHED), os.environ)
    assert (found, found.annotation) == (PickModule(folder), "native")


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo one >&2; echo 'no such module' >&2; exit 1", "Envoy refuses it: no such module"),
        ("exit 0", "it was made for another version of Envoy"),
    ],
)
async def test_envoy_that_does_not(tmp_path: Path, folder: str, script: str, reason: str) -> None:
    found = await detect(program(tmp_path / "envoy", script), os.environ)
    assert found == PickModule("", reason)
    assert found.annotation == f"none: {reason}"


async def test_no_envoy_and_one_that_does_not_start(tmp_path: Path, folder: str) -> None:
    assert (await detect(None, os.environ)).reason == "there is no Envoy"
    found = await detect(str(tmp_path / "missing"), os.environ)
    assert found.reason == "Envoy does not start: No such file or directory"


async def test_switched_off_or_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    found = await detect("/bin/true", {"INFERWAY_PICK_MODULE": "off"})
    assert found.reason == "switched off by INFERWAY_PICK_MODULE"
    monkeypatch.setattr(pickmodule, "module_folder", lambda: "")
    assert "no C compiler" in (await detect("/bin/true", {})).reason


@pytest.mark.slow
@pytest.mark.skipif(not module_folder(), reason="the native pick filter is not built")
async def test_real_envoy_takes_the_real_module() -> None:
    import envoy

    real = Path(envoy.__file__).parent / "_bin" / "envoy"
    assert (await detect(str(real), os.environ)).annotation == "native"
