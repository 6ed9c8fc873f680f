"""Latency beside ONNX Runtime, model by model, runtime by runtime.

    python benchmarks/latency.py MODELS_DIR [--models a,b] [--devices pocl-3.1,intel] [--json FILE]

Each engine runs in a process of its own.  The processes take turns in short blocks, so that both meet
the same machine: a ratio comes from blocks that lie next to each other.  Reported are each engine's best
and median latency in ms, the ratio of medians, the median of the block ratios, and the greatest
difference of the outputs relative to the reference's largest magnitude.
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
from pathlib import Path

import numpy as np


def serve(engine: str, model: str, threads: int) -> None:
    """Child: load the engine, then answer each line ``N`` on standard input with N latencies."""
    if engine == "ort":
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        names = [port.name for port in session.get_outputs()]
        kinds = {"tensor(float)": "float32", "tensor(int64)": "int64"}
        feed = inputs(
            {
                port.name: (kinds[port.type], [size if isinstance(size, int) else 1 for size in port.shape])
                for port in session.get_inputs()
            }
        )

        def run() -> dict[str, np.ndarray]:
            return dict(zip(names, session.run(None, feed), strict=True))
    else:
        from mace_cl import Runtime
        from mace_cl.device import find

        runtime = Runtime(model, device=find(engine, alone=True))
        feed = inputs({port.name: (port.dtype, list(port.shape)) for port in runtime.inputs})

        def run() -> dict[str, np.ndarray]:
            return runtime.run(feed)

    for _ in range(3):
        outputs = run()
    handle, place = tempfile.mkstemp(suffix=".npz")
    os.close(handle)
    np.savez(place, **{f"o{index}": value for index, value in enumerate(outputs.values())})
    print(json.dumps({"outputs": place}), flush=True)
    for line in sys.stdin:
        times = []
        for _ in range(int(line)):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
        print(json.dumps(times), flush=True)


def inputs(ports: dict[str, tuple[str, list[int]]]) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {
        name: generator.standard_normal(shape, dtype=np.float32)
        if dtype == "float32"
        else generator.integers(0, 1000, shape)
        for name, (dtype, shape) in ports.items()
    }


class Engine:
    """A child process that serves latencies."""

    def __init__(self, engine: str, model: Path, threads: int) -> None:
        command = [sys.executable, __file__, "--serve", engine, str(model), "--threads", str(threads)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        answer = self._line()
        place = Path(json.loads(answer)["outputs"])
        with np.load(place) as file:
            self.outputs = [file[f"o{index}"] for index in range(len(file.files))]
        place.unlink()

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"an engine died: {self.process.args}")
        return line

    def block(self, count: int) -> list[float]:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        return [float(value) for value in json.loads(self._line())]

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def compare(model: Path, device: str, threads: int, rounds: int) -> dict[str, object]:
    peer, ours = Engine("ort", model, threads), Engine(device, model, threads)
    error = max(
        float(np.abs(mine - theirs).max() / np.abs(theirs).max())
        for mine, theirs in zip(ours.outputs, peer.outputs, strict=True)
    )
    count = max(3, min(40, int(0.15 / statistics.median(peer.block(3)))))
    ours_times: list[float] = []
    peer_times: list[float] = []
    ratios = []
    for _ in range(rounds):
        theirs = peer.block(count)
        time.sleep(0.05)
        mine = ours.block(count)
        time.sleep(0.05)
        ours_times += mine
        peer_times += theirs
        ratios.append(statistics.median(mine) / statistics.median(theirs))
    peer.close()
    ours.close()
    return {
        "model": model.stem, "device": device,
        "ours_ms": {"min": min(ours_times) * 1e3, "median": statistics.median(ours_times) * 1e3},
        "ort_ms": {"min": min(peer_times) * 1e3, "median": statistics.median(peer_times) * 1e3},
        "ratio_of_medians": statistics.median(ours_times) / statistics.median(peer_times),
        "ratio_of_minima": min(ours_times) / min(peer_times),
        "median_block_ratio": statistics.median(ratios), "rounds": rounds, "runs": len(ours_times), "error": error,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--models", help="names without .onnx, separated by commas; default all")
    parser.add_argument("--devices", default="pocl-3.1,intel")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--serve", nargs=2, metavar=("ENGINE", "MODEL"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(*arguments.serve, arguments.threads)
        return
    if arguments.folder is None:
        parser.error("give the folder of the ONNX models")
    wanted = arguments.models.split(",") if arguments.models else None
    models = [path for path in sorted(arguments.folder.glob("*.onnx")) if wanted is None or path.stem in wanted]
    results = []
    head = f"{'ours min':>9s} {'median':>8s} {'ORT min':>9s} {'median':>8s}  ratio  (minima)  error"
    print(f"{'model':24s} {'device':10s} {head}")
    for model in models:
        for device in arguments.devices.split(","):
            result = compare(model, device, arguments.threads, arguments.rounds)
            results.append(result)
            ours, ort = result["ours_ms"], result["ort_ms"]
            assert isinstance(ours, dict)
            assert isinstance(ort, dict)
            print(
                f"{model.stem:24s} {device:10s} {ours['min']:9.2f} {ours['median']:8.2f} {ort['min']:9.2f} "
                f"{ort['median']:8.2f}  {result['median_block_ratio']:5.2f}  {result['ratio_of_minima']:5.2f}   "
                f"{result['error']:.1e}",
                flush=True,
            )
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
