"""``python -m inferway`` is the command ``inferway``."""

from __future__ import annotations

import sys

from inferway.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
