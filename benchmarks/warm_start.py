"""Warm starts of MobileNet-v2, process start to first output, of several checkouts of mace-cl in turn.

    git worktree add /tmp/before 13623bd
    python benchmarks/warm_start.py /tmp/before . --device pocl-3.0 --starts 15

Each checkout compiles the demonstration's model into a program of its own, weights inside, and starts
from it in new processes; the checkouts take turns, so that what else the machine does meets all alike.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from mace_cl.demo.models import mobilenet_v2

_COMPILE = """
import sys
import mace_cl
mace_cl.compile(sys.argv[3], sys.argv[1], device=sys.argv[2], bake=True)
"""
_START = """
import json, sys, time
import numpy as np
from mace_cl import Runtime
runtime = Runtime(sys.argv[1], device=sys.argv[2])
runtime.run({"input": np.ones((1, 3, 224, 224), np.float32)})
now = time.monotonic()
assert runtime.decision.code == "hit", runtime.decision
print(json.dumps([now, dict(runtime.timings)]), flush=True)
"""


def main() -> int:
    """Print the median of each checkout, and what it differs by from the first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", nargs="+", type=Path, metavar="CHECKOUT")
    parser.add_argument("--device", default="pocl-3.0", metavar="SPEC")
    parser.add_argument("--starts", type=int, default=15, metavar="N")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder, "mobilenet-v2.onnx")
        model.write_bytes(mobilenet_v2())
        homes = [Path(folder, str(number)) for number in range(len(options.checkouts))]
        for home, checkout in zip(homes, options.checkouts, strict=True):
            home.mkdir()
            _python(checkout, home, _COMPILE, options.device, str(model))
            for _ in range(2):  # the first proves the binaries, and all files are then in memory
                _start(checkout, home, options.device)
        rounds = [
            [_start(checkout, home, options.device) for home, checkout in zip(homes, options.checkouts, strict=True)]
            for _ in range(options.starts)
        ]
    for number, checkout in enumerate(options.checkouts):
        seconds = [starts[number][0] for starts in rounds]
        apart = median(starts[number][0] - starts[0][0] for starts in rounds)
        print(
            f"{checkout}: median {median(seconds) * 1e3:.1f} ms, least {min(seconds) * 1e3:.1f} ms, "
            f"{apart * 1e3:+.1f} ms to the first (median of {len(rounds)} pairs)"
        )
        steps = {name: median(starts[number][1][name] for starts in rounds) for name in rounds[0][number][1]}
        print("   ", ", ".join(f"{name} {seconds * 1e3:.1f}" for name, seconds in steps.items()))
    return 0


def _start(checkout: Path, home: Path, device: str) -> tuple[float, dict[str, float]]:
    before = time.monotonic()
    end, steps = json.loads(_python(checkout, home, _START, device))
    return end - before, steps


def _python(checkout: Path, home: Path, code: str, *arguments: str) -> str:
    environment = {
        **os.environ,
        "PYTHONPATH": str(checkout.resolve() / "src"),
        "MACE_CL_STORE_DIR": str(home / "store"),
    }
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has its bytecode
    command = [sys.executable, "-W", "ignore", "-c", code, str(home / "program.bin"), *arguments]
    return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    sys.exit(main())
