"""Options and fixtures of the gateway's tests."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite golden outputs")


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    # The option is known only when pytest is started with this folder.
    return bool(request.config.getoption("--update-golden", default=False))
