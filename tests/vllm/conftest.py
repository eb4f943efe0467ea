"""One stack with real vLLM for all tests of this folder: the guide's files, two replicas.

Method: `inferway up --engine vllm --empty`, then what the tutorial pastes. The guide's model name
stands for a random model of two layers, which starts in a minute; of its manifest the size of the
KV cache, the probes' first look and the number of replicas are changed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from vllm_stack import VllmStack

ROOT = Path(__file__).resolve().parents[2]
# The harness that starts stacks stands with the tests of the stack.
sys.path.append(str(ROOT / "tests" / "stack"))

WANTED = os.environ.get("INFERWAY_REAL_VLLM") == "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Real servers take minutes and gigabytes, so they run when they are asked for."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.stack)
            if not WANTED:
                item.add_marker(pytest.mark.skip(reason="make test-vllm runs this"))


@pytest.fixture(scope="session")
def stack(
    tmp_path_factory: pytest.TempPathFactory, kubectl: Path, helm: Path
) -> Iterator[VllmStack]:
    """The stack with the guide's Deployment, pool, Gateway and route, ready to answer."""
    from vllm_stack import started

    with started(tmp_path_factory.mktemp("vllm"), kubectl, helm) as running:
        yield running
