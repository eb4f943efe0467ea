"""What the tests of the charts share: the real helm, and the renderer of the manifests."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def helm_program(helm: Path) -> str:
    """The real helm."""
    return str(helm)


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
