"""Peak memory of each model beside ONNX Runtime: process start to first output, each in a process of its own.

    python benchmarks/memory.py MODELS_DIR [--models a,b] [--devices pocl-3.1,intel] [--json FILE] [--markdown FILE]

`cold` compiles the model (the compilers' own processes are not counted), `warm` loads the program that the
cold start left in the store, `program` a program file with its weights inside, without the model.  Shown is
the most that a process held (VmHWM), and of the last what is its own (anonymous) when it is done: the rest
are pages of files, which the system takes back when it needs them: weights, and drivers' libraries.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mace_cl.benchmark.pairs import Engine
from mace_cl.errors import MaceClError
from mace_cl.tools.benchmark import Machine


def held(name: str, request: dict[str, Any]) -> dict[str, int]:
    """The memory of an engine's process after its first run."""
    with Engine(name) as engine:
        found: dict[str, int] = engine.load(request)["memory"]
        return found


def measure(model: Path, devices: list[str], threads: int) -> dict[str, dict[str, int]]:
    base = {
        "model": str(model), "program": None, "device": None, "store": None, "jobs": None, "threads": threads,
        "shapes": {},
    }  # fmt: skip
    found = {"ort": held("ort", base)}
    for device in devices:
        with tempfile.TemporaryDirectory() as work:
            os.environ["MACE_CL_STORE_DIR"] = str(Path(work) / "store")
            own = {**base, "device": device}
            found[f"{device} cold"] = held("mace-cl", own)
            found[f"{device} warm"] = held("mace-cl", own)
            program = str(Path(work) / "program.bin")
            command = [sys.executable, "-m", "mace_cl", "compile", str(model), "-o", program, "--bake", "-q"]
            subprocess.run([*command, "--device", device], check=True, stdout=subprocess.DEVNULL)
            found[f"{device} program"] = held("mace-cl", {**own, "model": program})
    return found


def table(results: dict[str, dict[str, dict[str, int]]]) -> str:
    columns = [name for name in next(iter(results.values())) if name != "ort"]
    lines = [f"| model | ORT | {' | '.join(columns)} | least own memory |", "|---|" + "---:|" * (len(columns) + 2)]
    for model, found in results.items():
        ort = found["ort"]["peak"]
        cells = [f"{found[name]['peak'] / 2**20:.0f} ({found[name]['peak'] / ort:.2f})" for name in columns]
        own = min(found[name].get("anonymous", 0) for name in columns)
        lines.append(
            f"| {model} | {ort / 2**20:.0f} | {' | '.join(cells)} | "
            f"{own / 2**20:.0f} (ORT {found['ort'].get('anonymous', 0) / 2**20:.0f}) |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", help="names without .onnx, separated by commas; default all")
    parser.add_argument("--devices", default="pocl-3.1,intel")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    arguments = parser.parse_args()
    wanted = arguments.models.split(",") if arguments.models else None
    results: dict[str, dict[str, dict[str, int]]] = {}
    for model in sorted(arguments.folder.glob("*.onnx")):
        if wanted is not None and model.stem not in wanted:
            continue
        try:
            results[model.stem] = measure(model, arguments.devices.split(","), arguments.threads)
        except MaceClError as error:
            print(f"{model.stem}: {error}", file=sys.stderr)
            continue
        print(table({model.stem: results[model.stem]}).splitlines()[-1], flush=True)
        if arguments.json:
            document = {"machine": asdict(Machine.here()), "bytes": results}
            arguments.json.write_text(json.dumps(document, indent=1) + "\n")
        if arguments.markdown:
            arguments.markdown.write_text(f"MiB at most (share of ORT's).\n\n{table(results)}")


if __name__ == "__main__":
    main()
