"""``inferway calibrate``: a profile of a real server for the simulated one."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from inferway.bench.calibrate import CalibrateOptions
from inferway.bench.calibrate import run as calibrate


def run(url: str, model: str | None, prompts: int, output: str | None, *, force: bool) -> int:
    """Measures and writes. Raises InferwayError."""
    wanted = url if "://" in url else f"http://{url}"
    # What people read goes to standard error, so that the profile alone can be piped on.
    console = Console(stderr=output is None)
    path = Path(output) if output else None
    return calibrate(CalibrateOptions(wanted, model, prompts, path, force=force), console)
