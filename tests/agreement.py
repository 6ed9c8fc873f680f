"""``python tests/agreement.py --device pocl-3.0 --device intel``: the table of docs/formats.md, by running the tests.

Each published network of ``../shared/real`` on each device: how far its outputs are from those of the engine that the
reference files come from, and the right answers that the tests `*/test_real*.py` looked for and found.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", action="append", required=True, metavar="SPEC", help="repeatable")
    devices = parser.parse_args().device
    seen, failed = [], 0
    for device in devices:
        with tempfile.TemporaryDirectory() as folder:
            rows = Path(folder) / "rows.json"
            files = sorted(map(str, TESTS.glob("*/test_real*.py")))
            command = ["-q", "-p", "no:cacheprovider", "--device", device, "--agreement", str(rows), *files]
            failed |= subprocess.run([sys.executable, "-m", "pytest", *command], cwd=TESTS.parent).returncode
            seen.append(json.loads(rows.read_text()) if rows.exists() else {})
    print_table(devices, seen)
    return failed


def print_table(devices: list[str], seen: list[dict[str, dict[str, Any]]]) -> None:
    """The rows of each device, by network."""
    print(f"| format | network | samples | {' | '.join(devices)} | right answers found |")
    print(f"|---|---|---:|{'---:|' * len(devices)}---|")
    rows_of = {network: row for each in seen for network, row in each.items()}
    for network, row in sorted(rows_of.items(), key=lambda item: (item[1]["format"], item[0])):
        figures = [figure(each.get(network)) for each in seen]
        print(f"| {' | '.join([row['format'], network, str(row['samples']), *figures, answers(row['answers'])])} |")


def figure(row: dict[str, Any] | None) -> str:
    """The worst difference of the largest element, or the least share within one step."""
    if row is None:
        return "not run"
    return f"{row['steps']:.2%} within a step" if row["steps"] is not None else f"{row['worst']:.1e}"


def answers(found: list[str]) -> str:
    """Each once, with how often."""
    counts = {one: found.count(one) for one in found}
    return ", ".join(one if count == 1 else f"{one} ({count} times)" for one, count in counts.items())


if __name__ == "__main__":
    sys.exit(main())
