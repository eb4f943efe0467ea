"""Options and fixtures of the gateway's tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
BUILDER = ROOT / "tools" / "build_native.py"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite golden outputs")


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    # The option is known only when pytest is started with this folder.
    return bool(request.config.getoption("--update-golden", default=False))


@pytest.fixture(scope="session")
def pick_module(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of the native pick filter, compiled from these sources."""
    folder = tmp_path_factory.mktemp("native")
    done = subprocess.run(
        [sys.executable, str(BUILDER), str(folder)], capture_output=True, text=True
    )
    if "no C compiler" in done.stderr:
        pytest.skip("no C compiler")
    assert (folder / "libinferway_pick.so").exists(), done.stderr
    return str(folder)


@pytest.fixture(scope="session")
def c_compiler() -> str:
    """The compiler that the builder takes."""
    names = (os.environ.get("CC") or "cc gcc clang").split()
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no C compiler")
    return found
