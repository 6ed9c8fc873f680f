"""The OpenCL C text of each kernel family, for reading and so that no change to it goes unseen.

``pytest tests/golden --update-golden`` writes the texts anew; read the difference before you commit it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from problems import PROBLEMS, TRAITS

FOLDER = Path(__file__).parent / "kernels"

FOR_GPUS = {
    "conv2d_3x3": {"tile": 2, "blocks": 1, "channels_first": 0, "group": 64, "image": 1},
    "conv2d_rows": {"tile": 2, "blocks": 1, "channels_first": 0, "group": 64, "across": 16, "local": 2, "image": 0},
    "winograd_input": {"each": 1},
}
"""Parameters that no CPU has: weights as an image, local memory, a work-item for each tile."""


@pytest.mark.parametrize("name", PROBLEMS)
def test_text(name: str, request: pytest.FixtureRequest) -> None:
    check(name, name, PROBLEMS[name].default(TRAITS), request)


@pytest.mark.parametrize("name", FOR_GPUS)
def test_text_for_gpus(name: str, request: pytest.FixtureRequest) -> None:
    check(f"{name}_gpu", name, FOR_GPUS[name], request)


def check(stem: str, name: str, parameters: dict[str, int], request: pytest.FixtureRequest) -> None:
    problem = PROBLEMS[name]
    rendered = problem.render(name, parameters)
    head = f"// {problem.family} {parameters}, grid {rendered.global_size} of {rendered.local_size}\n"
    path = FOLDER / f"{stem}.cl"
    if request.config.getoption("--update-golden"):
        path.write_text(head + rendered.source, encoding="utf-8")
    assert path.exists(), "there is no expected text yet; write it with --update-golden"
    assert head + rendered.source == path.read_text(encoding="utf-8")


def test_no_text_is_left_over() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == {*PROBLEMS, *(f"{name}_gpu" for name in FOR_GPUS)}
