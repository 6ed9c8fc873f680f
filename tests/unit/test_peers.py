"""docs/peers.md: every test that it names is there; and one of them."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def named() -> list[tuple[str, str]]:
    text = (ROOT / "docs" / "peers.md").read_text(encoding="utf-8")
    return re.findall(r"`(tests/[\w/]+\.py)::([\w:]+)`", text)


def test_every_named_test_exists() -> None:
    assert len(named()) > 20
    for file, name in named():
        tree: ast.AST = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        for part in name.split("::"):
            found = [
                node
                for node in ast.iter_child_nodes(tree)
                if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name == part
            ]
            assert found, f"{file} has no {name}"
            tree = found[0]


def test_the_check_can_fail() -> None:
    assert re.findall(r"`(tests/[\w/]+\.py)::([\w:]+)`", "`tests/a/b.py::A::test_c`") == [("tests/a/b.py", "A::test_c")]


@pytest.mark.parametrize(
    "name", ["kernels/conv2d.py", "ops/pooling.py", "bind.py", "device/quirks.py", "lower/memory.py"]
)
def test_the_engines_fingerprint_changes_with_its_code(tmp_path: Path, name: str) -> None:
    """Elsewhere an edited kernel, an included file or a newer engine went unnoticed, and the old binary ran on."""
    shutil.copytree(ROOT / "src" / "mace_cl", tmp_path / "mace_cl", ignore=shutil.ignore_patterns("__pycache__"))

    def fingerprint() -> str:
        code = "from mace_cl.identity import engine_fingerprint; print(engine_fingerprint())"
        command = [sys.executable, "-B", "-c", code]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    before = fingerprint()
    with (tmp_path / "mace_cl" / name).open("a") as file:
        file.write("\n")
    assert fingerprint() != before
