"""What every test shares: real programs, and properties that do not depend on the machine's load.

kubectl and helm come from build/tools and are fetched where they are missing. With
INFERWAY_COMPILED=on the compiled modules are what is tested, in place of their sources.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

from inferway.base import compiled

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / "build" / "tools"


# An example that takes long on a busy machine is no finding; whole tests have a time limit.
settings.register_profile("inferway", deadline=None)
settings.load_profile("inferway")


# Before any test file imports one of them.
if os.environ.get(compiled.SWITCH_VARIABLE) == "on":
    why = compiled.use(os.environ)
    if why:
        pytest.exit(f"the compiled modules can not be tested: {why}", returncode=2)


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
