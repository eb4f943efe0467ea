"""Real programs for every test: kubectl and helm from build/tools, fetched where missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / "build" / "tools"


def _tool(name: str) -> Path:
    program = TOOLS / name
    if not program.is_file():
        subprocess.run([sys.executable, str(ROOT / "tools" / "fetch_kubectl.py")], check=True)
    return program


@pytest.fixture(scope="session")
def kubectl() -> Path:
    """A current kubectl."""
    return _tool("kubectl")


@pytest.fixture(scope="session")
def helm() -> Path:
    """A current helm."""
    return _tool("helm")
