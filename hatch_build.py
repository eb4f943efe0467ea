"""The package's build: compiles Envoy's native pick filter where there is a C compiler."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

LIBRARY = Path("src/inferway/_native/libinferway_pick.so")


class NativeFilter(BuildHookInterface[Any]):
    """A wheel with the library is for this kind of machine; one without it is for all."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        subprocess.run([sys.executable, str(root / "tools" / "build_native.py")], check=True)
        if version != "editable" and (root / LIBRARY).exists():
            build_data["artifacts"].append(str(LIBRARY))
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-linux_{platform.machine()}"
