"""How many files are damaged, and how many processes killed, by each torture test."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--damaged-files", type=int, default=200, help="damaged files for each torture test (default 200)")
    parser.addoption("--kills", type=int, default=12, help="processes killed by each torture test (default 12)")


@pytest.fixture(scope="session")
def damaged_files(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--damaged-files", default=200))


@pytest.fixture(scope="session")
def kills(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--kills", default=12))
