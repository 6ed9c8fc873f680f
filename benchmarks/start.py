"""Process start to first output beside peers: cold and warm, each start in a process of its own, interleaved.

    python benchmarks/start.py model.onnx … [--devices pocl-3.1,intel] [--peers ort,openvino] [--json FILE]

A warm start of mace-cl loads `mace-cl-compiled-program.bin` with its weights inside; one of ONNX Runtime the
optimised model that it saved in its own format, one of OpenVINO the model from its cache.  Each process
imports NumPy, makes its input and runs once; the clock starts before the process does, and both read
CLOCK_MONOTONIC.  `python` is the interpreter alone, `numpy` with that import: the floor of every engine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mace_cl.tools.benchmark import Machine

HEAD = "import sys, time; sys.path[:] = {path!r}\n"
TAIL = "\nprint('\\n@', time.monotonic(), flush=True); import os; os._exit(0)"
INPUT = "import numpy as np\nfeed = lambda p: {{n: np.zeros(s, d) for n, d, s in p}}\n"
CODES = {
    "python": "",
    "numpy": "import numpy",
    "mace-cl": (
        INPUT + "from mace_cl import Runtime\nfrom mace_cl.device import find\n"
        "r = Runtime({program!r}, device=find({device!r}, alone=True))\n"
        "r.run({{p.name: np.zeros(p.shape, p.dtype) for p in r.inputs}})"
    ),
    "ort": (
        INPUT + "import onnxruntime as o\nq = o.SessionOptions(); q.intra_op_num_threads = {threads}\n"
        "q.graph_optimization_level = o.GraphOptimizationLevel.ORT_DISABLE_ALL\n"
        "s = o.InferenceSession({ort!r}, q, providers=['CPUExecutionProvider'])\n"
        "s.run(None, {{i.name: np.zeros(i.shape, {{'tensor(float)': 'f4', 'tensor(int64)': 'i8'}}[i.type]) "
        "for i in s.get_inputs()}})"
    ),
    "openvino": (
        INPUT + "import openvino as v\nc = v.Core(); c.set_property({{'CACHE_DIR': {cache!r}}})\n"
        "m = c.compile_model({model!r}, 'CPU', {{'PERFORMANCE_HINT': 'LATENCY', 'INFERENCE_NUM_THREADS': {threads}, "
        "'NUM_STREAMS': 1, 'INFERENCE_PRECISION_HINT': 'f32'}})\n"
        "r = m.create_infer_request()\n"
        "r.infer({{i.any_name: np.zeros(tuple(i.shape), i.element_type.to_dtype()) for i in m.inputs}})"
    ),
}
ORT_CACHE = (
    "import onnxruntime as o; q = o.SessionOptions(); q.optimized_model_filepath = {ort!r}; "
    "q.add_session_config_entry('session.save_model_format', 'ORT'); o.InferenceSession({model!r}, q)"
)


def seconds(code: str, names: dict[str, Any]) -> float:
    text = (HEAD + code + TAIL).format(path=sys.path, **names)
    before = time.monotonic()
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, env=names["env"])
    if done.returncode:
        raise SystemExit(f"a start failed: {done.stderr[-2000:]}")
    return float(done.stdout.rpartition("@")[2]) - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--devices", default="pocl-3.1,intel")
    parser.add_argument("--peers", default="ort,openvino")
    parser.add_argument("--starts", type=int, default=10)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--work", type=Path, help="where programs and caches are kept; default: a temporary directory")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results: dict[str, Any] = {"machine": asdict(Machine.here()), "starts": arguments.starts, "seconds": {}}
    with tempfile.TemporaryDirectory() as made:
        work = arguments.work or Path(made)
        for model in arguments.models:
            results["seconds"][model.stem] = measure(model, work, arguments)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


def measure(model: Path, work: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    folder = work / model.stem
    folder.mkdir(parents=True, exist_ok=True)
    base = {
        "model": str(model.absolute()), "threads": arguments.threads, "ort": str(folder / "model.ort"),
        "cache": str(folder / "openvino"), "program": "", "device": None,
        "env": {**os.environ, "MACE_CL_STORE_DIR": str(folder / "store"), "ORT_DISABLE_TELEMETRY": "1"},
    }  # fmt: skip
    rows = {"python": base, "numpy": base}
    for device in arguments.devices.split(","):
        program = folder / f"{device}.bin"
        rows[f"mace-cl {device}"] = {**base, "program": str(program), "device": device}
        if not program.exists():
            command = [sys.executable, "-m", "mace_cl", "compile", str(model), "-o", str(program), "--bake", "-q"]
            subprocess.run([*command, "--device", device], check=True, env=base["env"], stdout=subprocess.DEVNULL)
    rows |= dict.fromkeys(arguments.peers.split(","), base)
    if "ort" in rows and not Path(base["ort"]).exists():
        seconds(ORT_CACHE, base)
    found: dict[str, list[float]] = {name: [] for name in rows}
    for number in range(arguments.starts + 1):
        for name, names in rows.items():
            took = seconds(CODES[name.partition(" ")[0]], names)
            if number:  # the first round fills caches
                found[name].append(took)
    print(f"{model.stem}, ms: median (least … most) of {arguments.starts} starts")
    for name, times in found.items():
        row = [statistics.median(times), min(times), max(times)]
        print("  {:20s} {:6.0f} ({:.0f} … {:.0f})".format(name, *(1e3 * value for value in row)), flush=True)
    return found


if __name__ == "__main__":
    main()
