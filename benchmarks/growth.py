"""How cost grows with the work: input size, batch, depth; build time and file size with the number of kernels.

    python benchmarks/growth.py --device pocl-3.1 [--json FILE] [--plots DIR] [--only size,batch,depth,kernels]

Networks are chains of 3×3 convolutions made here from a seed.  Latency is measured beside ONNX Runtime in
turns.  `exponent` is the slope of log(cost) over log(work) from the first point to the last, by least
squares; 1 is linear.  Work is pixels, images, layers or kernels.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mace_cl.benchmark.pairs import Engine, in_turns
from mace_cl.benchmark.svg import lines
from mace_cl.tools.benchmark import Machine

Points = list[dict[str, float]]


def chain(side: int, batch: int, channels: list[int], slope: float = 0.0) -> onnx.ModelProto:
    """3×3 convolutions through the given numbers of channels, each with a leaky ReLU, and a mean.

    The slope below zero is ``slope`` times the layer's number: kernels with other slopes are not alike.
    """
    rng = np.random.default_rng(0)
    nodes, weights, name = [], [], "x"
    for number, (before, after) in enumerate(pairwise(channels)):
        array = (rng.standard_normal((after, before, 3, 3)) / (3 * before**0.5)).astype(np.float32)
        weights.append(numpy_helper.from_array(array, f"w{number}"))
        nodes.append(helper.make_node("Conv", [name, f"w{number}"], [f"c{number}"], pads=[1, 1, 1, 1]))
        activation = {"op_type": "LeakyRelu", "alpha": slope * (number + 1)} if slope else {"op_type": "Relu"}
        nodes.append(helper.make_node(inputs=[f"c{number}"], outputs=[f"r{number}"], **activation))
        name = f"r{number}"
    nodes.append(helper.make_node("GlobalAveragePool", [name], ["y"]))
    shape = [batch, channels[0], side, side]
    graph = helper.make_graph(
        nodes, "chain", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, channels[-1], 1, 1])], weights,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def measure(model: onnx.ModelProto, folder: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Latency of ours and of ONNX Runtime, build time and size of the program."""
    path, program = folder / "model.onnx", folder / "program.bin"
    onnx.save(model, path)
    program.unlink(missing_ok=True)
    request = {
        "model": str(path), "program": str(program), "device": arguments.device, "store": None, "jobs": None,
        "threads": arguments.threads, "outputs": True, "shapes": {},
    }  # fmt: skip
    with ExitStack() as stack:
        ours, peer = stack.enter_context(Engine("mace-cl")), stack.enter_context(Engine("ort"))
        said = ours.load(request)
        peer.load(request)
        (pair,) = list(in_turns(ours, [peer], arguments.rounds))[-1].values()
    return {
        "latency": pair.ours.minimum, "ort": pair.theirs.minimum, "compile": said["timings"]["compile"],
        "prepare": sum(said["timings"][stage] for stage in ("compiler", "read", "optimise", "plan")),
        "bytes": float(program.stat().st_size),
        "code_bytes": float(program.stat().st_size - said["constants"]),
        "difference": pair.difference or 0.0,
    }  # fmt: skip


def exponent(points: Points, key: str) -> float:
    """Least squares of log(cost) over log(work)."""
    x, y = ([math.log(point[name]) for point in points] for name in ("work", key))
    return float(np.polyfit(x, y, 1)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", required=True)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--only", default="size,batch,depth,kernels")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plots", type=Path)
    arguments = parser.parse_args()
    cases: dict[str, list[tuple[float, onnx.ModelProto]]] = {
        "size": [(side * side, chain(side, 1, [3, 16, 32, 32])) for side in (128, 256, 512, 1024)],
        "batch": [(batch, chain(64, batch, [3, 32, 64, 64])) for batch in (1, 2, 4, 8, 16, 32)],
        "depth": [(layers, chain(56, 1, [32] * (layers + 1))) for layers in (4, 8, 16, 32, 64)],
        "kernels": [
            (count, chain(28, 1, [8 + 4 * number for number in range(count + 1)], 0.01)) for count in (4, 8, 16, 32)
        ],
    }
    document: dict[str, Any] = {"machine": asdict(Machine.here()), "device": arguments.device, "series": {}}
    with tempfile.TemporaryDirectory() as work:
        os.environ["MACE_CL_STORE_DIR"] = str(Path(work) / "store")
        # nor may the driver's own cache answer
        os.environ.update({name: str(Path(work) / "driver") for name in ("POCL_CACHE_DIR", "CUDA_CACHE_PATH")})
        for name in arguments.only.split(","):
            points = [{"work": amount, **measure(model, Path(work), arguments)} for amount, model in cases[name]]
            keys = ("compile", "code_bytes") if name == "kernels" else ("latency", "ort")
            found = {key: round(exponent(points, key), 3) for key in keys}
            document["series"][name] = {"points": points, "exponents": found}
            print(name, found, flush=True)
            for point in points:
                print("   ", {key: float(f"{value:.4g}") for key, value in point.items()}, flush=True)
            if arguments.plots:
                save(name, points, keys, arguments)
    if arguments.json:
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")


def save(name: str, points: Points, keys: tuple[str, ...], arguments: argparse.Namespace) -> None:
    works = {"size": "pixels", "batch": "images", "depth": "layers", "kernels": "kernels"}
    labels = {"latency": f"mace-cl, ms ({arguments.device})", "ort": "ONNX Runtime, ms", "compile": "build time, s",
              "code_bytes": "program file without weights, MiB"}  # fmt: skip
    scale = {"latency": 1e3, "ort": 1e3, "compile": 1.0, "code_bytes": 2.0**-20}
    series = {labels[key]: [(point["work"], point[key] * scale[key]) for point in points] for key in keys}
    linear = points[0][keys[0]] * scale[keys[0]] / points[0]["work"]
    series["linear"] = [(point["work"], linear * point["work"]) for point in (points[0], points[-1])]
    arguments.plots.mkdir(parents=True, exist_ok=True)
    path = arguments.plots / f"growth-{name}-{arguments.device}.svg"
    path.write_text(lines(f"cost against {works[name]}", series, works[name], ", ".join(labels[key] for key in keys)))


if __name__ == "__main__":
    main()
