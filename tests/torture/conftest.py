"""How many damaged files each torture test makes."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--damaged-files", type=int, default=200, help="damaged files for each torture test (default 200)")


@pytest.fixture(scope="session")
def damaged_files(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--damaged-files", default=200))
