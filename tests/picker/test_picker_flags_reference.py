"""The generated page of flags is fresh."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]


def generator() -> ModuleType:
    path = ROOT / "tools" / "generate_picker_flags.py"
    spec = importlib.util.spec_from_file_location("generate_picker_flags", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_says_what_the_table_says() -> None:
    module = generator()
    assert module.PAGE.read_text() == module.page(), "run: make reference"
