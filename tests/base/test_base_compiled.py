"""Compiled modules run only where they are a copy of the sources, and then do the same."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from inferway.base import compiled

ROOT = Path(__file__).resolve().parent.parent.parent
BUILDER = ROOT / "tools" / "build_compiled.py"
# What a picker does from the bytes of a question to those of its answer.
HOT_TESTS = ("tests/scheduling", "tests/picker")


def write(folder: Path, manifest: object) -> None:
    (folder / compiled.MANIFEST).write_text(json.dumps(manifest))


def whole() -> dict[str, object]:
    return {"suffix": compiled.SUFFIX, "sources": compiled.digests()}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({}, ""),
        ({"problem": "no C compiler was found"}, "no C compiler was found"),
        ({"suffix": ".cpython-39.so"}, "another Python"),
        ({"sources": {"inferway.scheduling.pool": "0"}}, "sources have changed"),
        ({"sources": {**compiled.digests(), compiled.MODULES[0]: "0"}}, "sources have changed"),
    ],
)
def test_only_a_copy_of_these_sources_for_this_python(
    change: dict[str, object], why: str, tmp_path: Path
) -> None:
    write(tmp_path, whole() | change)
    found = compiled.problem(tmp_path)
    assert why in found
    assert bool(found) == bool(why)


def test_nothing_is_there(tmp_path: Path) -> None:
    assert "make compiled" in compiled.use({}, tmp_path)
    (tmp_path / compiled.MANIFEST).write_text("{")
    assert "can not be read" in compiled.use({}, tmp_path)


def test_switched_off(tmp_path: Path) -> None:
    write(tmp_path, whole())
    assert "INFERWAY_COMPILED" in compiled.use({"INFERWAY_COMPILED": "off"}, tmp_path)


def test_a_library_that_can_not_be_loaded_leaves_everything_as_it_is(tmp_path: Path) -> None:
    write(tmp_path, whole())
    (tmp_path / f"{compiled.LIBRARY}{compiled.SUFFIX}").write_bytes(b"no library")
    script = (
        "import sys; from pathlib import Path; from inferway.base import compiled\n"
        "print(compiled.use({}, Path(sys.argv[1])))\n"
        "import inferway.scheduling.pool as pool; print(pool.__file__)"
    )
    words = [sys.executable, "-c", script, str(tmp_path)]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    assert "can not be loaded" in said[0]
    assert said[1].endswith("pool.py")


def test_the_table_is_sorted_and_names_each_once() -> None:
    assert list(compiled.MODULES) == sorted(set(compiled.MODULES))


@pytest.mark.parametrize("module", compiled.MODULES)
def test_no_class_that_would_compile_to_another_one(module: str) -> None:
    """mypyc drops the keywords of a class statement, which a msgspec struct has for its sense."""
    for node in ast.walk(ast.parse(compiled.source(module).read_text())):
        if isinstance(node, ast.ClassDef):
            assert not node.keywords, f"{module}.{node.name}: keep it in a module of its own"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_compiled_modules_pass_the_tests_of_their_sources() -> None:
    if importlib.util.find_spec("mypyc") is None:
        pytest.skip("mypyc is not installed")
    subprocess.run([sys.executable, str(BUILDER)], check=True, timeout=300)
    problem = compiled.problem()
    if "Debian" in problem:
        pytest.skip(problem)
    assert not problem
    words = [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", *HOT_TESTS]
    done = subprocess.run(
        words,
        cwd=ROOT,
        env={**os.environ, compiled.SWITCH_VARIABLE: "on"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-1000:]
