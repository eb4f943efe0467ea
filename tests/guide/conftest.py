"""Where the guide and its pieces are."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"

# The harness that starts stacks stands with the tests of the stack.
sys.path.append(str(ROOT / "tests" / "stack"))


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder of the project, in which a reader of the tutorial stands."""
    return ROOT


@pytest.fixture(scope="session")
def published() -> str:
    """The guide's own text."""
    texts = sorted((SHARED / "guide").glob("*.txt"))
    if not texts:
        pytest.skip("the published guide is not here: ../shared/guide/*.txt")
    return texts[0].read_text()


@pytest.fixture(scope="session")
def inference_crds() -> Path:
    """The official CRD bundle of the guide's step 2, as a folder."""
    folder = SHARED / "crds" / "inference-v1.1.0"
    if not folder.is_dir():
        pytest.skip("the official CRD bundle is not here: ../shared/crds/inference-v1.1.0")
    return folder
