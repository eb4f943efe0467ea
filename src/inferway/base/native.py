"""Where Envoy finds the native pick filter, if this installation has it."""

from __future__ import annotations

from pathlib import Path

# Its name in Envoy's configuration; Envoy loads lib<name>.so.
MODULE = "inferway_pick"
LIBRARY = f"lib{MODULE}.so"
# Envoy looks for modules in the folder that this variable of its environment names.
SEARCH_PATH_VARIABLE = "ENVOY_DYNAMIC_MODULES_SEARCH_PATH"
MISSING = "it was not built, because no C compiler was there when Inferway was installed"


def module_folder() -> str:
    """The folder of the library, or nothing."""
    folder = Path(__file__).resolve().parent.parent / "_native"
    return str(folder) if (folder / LIBRARY).is_file() else ""
