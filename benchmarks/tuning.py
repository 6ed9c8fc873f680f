"""Tuned against untuned: tune a model for a while, then run both programs in turns.

    python benchmarks/tuning.py MODEL… --device pocl --budget 60

Stores of its own are used and removed.  Prints one row of a Markdown table per model; ``--json FILE`` appends a line
for each with all that was measured.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from statistics import median

from mace_cl.device import find
from mace_cl.engine import Runtime, tune_model
from mace_cl.runtime.golden import golden_inputs

_RUN_SECONDS = 8.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--device")
    parser.add_argument("--budget", type=float, default=60.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    device = find(options.device, alone=True)
    for model in options.models:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["MACE_CL_STORE_DIR"] = f"{folder}/untuned"
            untuned = Runtime(model, device=device)
            os.environ["MACE_CL_STORE_DIR"] = f"{folder}/tuned"
            summary = tune_model(model, options.budget, device=device)
            tuned = Runtime(model, device=device)
            inputs = golden_inputs(untuned.inputs)
            times: list[tuple[float, float]] = []
            begin = time.perf_counter()
            while len(times) < 20 or time.perf_counter() - begin < _RUN_SECONDS:
                pair = []
                for runtime in (untuned, tuned) if len(times) % 2 else (tuned, untuned):
                    runtime.run(inputs)  # the caches are its own again
                    before = time.perf_counter()
                    runtime.run(inputs)
                    pair.append(time.perf_counter() - before)
                times.append((pair[0], pair[1]) if len(times) % 2 else (pair[1], pair[0]))
            before_, after = (median(one) for one in zip(*times, strict=True))
            ratio = median(second / first for first, second in times)
            verdicts = Counter(summary.verdicts)
            print(
                f"| {model.stem} | {device.runtime} | {before_ * 1e3:.2f} | {after * 1e3:.2f} | {ratio:.3f} "
                f"| {summary.measured} | {summary.won} | {verdicts['noise']} | {summary.after / summary.before:.3f} |",
                flush=True,
            )
            if options.json:
                with options.json.open("a", encoding="utf-8") as file:
                    said = {
                        "model": model.stem, "device": device.name, "runtime": device.runtime, "budget": options.budget,
                        "untuned": before_, "tuned": after, "ratio": ratio, "pairs": len(times),
                        "summary": asdict(summary),
                    }  # fmt: skip
                    if (log := Path(folder, "tuned", "tuning.jsonl")).exists():
                        said["records"] = [json.loads(line) for line in log.read_text().splitlines()]
                    file.write(json.dumps(said) + "\n")
            untuned.close()
            tuned.close()


if __name__ == "__main__":
    main()
