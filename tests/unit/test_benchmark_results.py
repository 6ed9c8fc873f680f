"""The page of the last results is made from them, and whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pages import read_page

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_the_kept_page_is_that_of_the_kept_results(tmp_path: Path) -> None:
    made = tmp_path / "page.html"
    subprocess.run([sys.executable, BENCHMARKS / "page.py", "--output", made], check=True)
    text = made.read_text(encoding="utf-8")
    assert text == (BENCHMARKS / "results" / "page.html").read_text(encoding="utf-8")
    assert {"latency", "start", "memory", "growth"} <= read_page(text).names
