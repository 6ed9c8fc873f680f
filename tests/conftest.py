"""What all tests share: the device under test, and a home of their own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mace_cl.device import Device, find

if TYPE_CHECKING:
    from real import Networks
    from support import Start

_MARKED_FOLDERS = ("opencl", "conformance", "frameworks", "torture")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", metavar="SPEC", help="run device tests on this device: an index, a kind or a name")
    parser.addoption("--models", metavar="DIR", type=Path, help="compare each ONNX model in DIR with ONNX Runtime")
    parser.addoption("--agreement", metavar="FILE", type=Path, help="write what published networks gave (agreement.py)")
    parser.addoption("--update-golden", action="store_true", help="write the expected texts of golden tests anew")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    tests = Path(__file__).parent
    for item in items:
        folder = item.path.relative_to(tests).parts[0]
        if folder in _MARKED_FOLDERS:
            item.add_marker(folder)


@pytest.fixture(scope="session", autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep the user's settings and compiled programs out of the tests, and the tests out of them."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("MACE_CL_")]:
            patch.delenv(name)
        patch.setenv("XDG_CONFIG_HOME", str(home / "config"))
        patch.setenv("MACE_CL_STORE_DIR", str(home / "store"))
        yield home


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> Device:
    """The device under test: that of ``--device``, else the best one. None at all is an error, not a skip."""
    spec = request.config.getoption("--device")
    return find(spec, alone=spec is not None)


@pytest.fixture(scope="session")
def context(device: Device) -> Any:
    """An OpenCL context on the device under test."""
    import pyopencl

    return pyopencl.Context([device.handle])  # type: ignore[list-item]


@pytest.fixture(scope="session")
def start(device: Device, context: Any) -> Start:
    """`support.start` on the device under test."""
    from support import start

    return partial(start, device, context)


@pytest.fixture(scope="session")
def start_whole(device: Device, context: Any) -> Start:
    """As `start`; what would run on the host is an error."""
    from support import start

    return partial(start, device, context, runtime="gpu")


@pytest.fixture(scope="module")
def networks(request: pytest.FixtureRequest, start: Start) -> Iterator[Networks]:
    """The published networks on the device under test."""
    from real import Networks

    found = Networks(start)
    yield found
    found.close()
    path = request.config.getoption("--agreement")
    if path is not None:
        found.write(path)
