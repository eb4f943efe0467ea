"""What every test shares: real programs, and properties that do not depend on the machine's load.

kubectl and helm come from build/tools and are fetched where they are missing.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / "build" / "tools"


# An example that takes long on a busy machine is no finding; whole tests have a time limit.
settings.register_profile("inferway", deadline=None)
settings.load_profile("inferway")


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
