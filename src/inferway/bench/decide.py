"""``make bench-decide``: decisions as a picker makes them, compiled where it would run compiled.

INFERWAY_COMPILED=off python -m inferway.bench.decide    # the interpreter's figures
"""

from __future__ import annotations

import importlib
import os
import sys

from inferway.base import compiled


def main() -> int:
    """Chooses the code before anything imports it, and measures."""
    why = compiled.use(os.environ)
    measuring = importlib.import_module("inferway.bench.decisions")
    code: int = measuring.main(f"interpreted: {why}" if why else "compiled")
    return code


if __name__ == "__main__":
    sys.exit(main())
