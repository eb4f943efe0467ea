"""What every test shares: real programs, and properties that do not depend on the machine's load.

kubectl and helm come from build/tools and are fetched where they are missing. With
INFERWAY_COMPILED=on the compiled modules are what is tested, in place of their sources.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from inferway.base import compiled

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / "build" / "tools"


# An example that takes long on a busy machine is no finding; whole tests have a time limit.
# What passes once passes again: looking for new input is what make fuzz is for.
settings.register_profile("inferway", deadline=None, derandomize=True)
# make fuzz sets for how many seconds each test marked fuzz is repeated, with new input each time.
FUZZ_SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))
settings.register_profile(
    "fuzz",
    deadline=None,
    derandomize=False,
    max_examples=200,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("fuzz" if FUZZ_SECONDS else "inferway")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Repeats a test marked fuzz until its time is over; Hypothesis itself knows no time."""
    if not FUZZ_SECONDS or pyfuncitem.get_closest_marker("fuzz") is None:
        return None
    names = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    end = time.monotonic() + FUZZ_SECONDS
    while time.monotonic() < end:
        pyfuncitem.obj(**arguments)
    return True


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
