"""The OpenCL C text of each kernel family, for reading and so that no change to it goes unseen.

``pytest tests/golden --update-golden`` writes the texts anew; read the difference before you commit it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from problems import PROBLEMS, TRAITS

FOLDER = Path(__file__).parent / "kernels"


@pytest.mark.parametrize("name", PROBLEMS)
def test_text(name: str, request: pytest.FixtureRequest) -> None:
    problem = PROBLEMS[name]
    parameters = problem.default(TRAITS)
    rendered = problem.render(name, parameters)
    head = f"// {problem.family} {parameters}, grid {rendered.global_size} of {rendered.local_size}\n"
    path = FOLDER / f"{name}.cl"
    if request.config.getoption("--update-golden"):
        path.write_text(head + rendered.source, encoding="utf-8")
    assert path.exists(), "there is no expected text yet; write it with --update-golden"
    assert head + rendered.source == path.read_text(encoding="utf-8")


def test_no_text_is_left_over() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(PROBLEMS)
