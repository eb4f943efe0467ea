"""Helm for the tests of the charts, and the renderer of the manifests."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def helm_program() -> str:
    """The helm of build/tools, else the machine's own."""
    built = ROOT / "build" / "tools" / "helm"
    found = str(built) if built.exists() else shutil.which("helm")
    if found is None:
        pytest.skip("helm is not here; `make build/tools/helm` brings one")
    return found


@pytest.fixture(scope="session")
def renderer() -> ModuleType:
    """tools/render_manifests.py as a module."""
    sys.path.append(str(ROOT / "tools"))
    spec = importlib.util.spec_from_file_location(
        "render_manifests", ROOT / "tools" / "render_manifests.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
