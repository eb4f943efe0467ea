"""The page of plugins is what the table of plugins says."""

from __future__ import annotations

import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def test_the_page_is_fresh() -> None:
    spec = importlib.util.spec_from_file_location(
        "generate_plugin_reference", ROOT / "tools" / "generate_plugin_reference.py"
    )
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert tool.PAGE.read_text() == tool.page(), "run: make reference"
