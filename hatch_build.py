"""The package's build: compiles the native pick filter and the hot modules where it can."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NATIVE = Path("src/inferway/_native")
TOOLS = ("build_native.py", "build_compiled.py")


class NativeParts(BuildHookInterface[Any]):
    """A wheel with compiled parts is for this kind of machine; one without them is for all."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        for tool in TOOLS:
            # Each says itself what it could not do; Inferway runs without.
            subprocess.run([sys.executable, str(root / "tools" / tool)], check=False)
        if version != "editable" and any((root / NATIVE).rglob("*.so")):
            build_data["artifacts"].append(f"{NATIVE}/**")
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-linux_{platform.machine()}"
