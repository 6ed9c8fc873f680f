"""Weights of more than 2 GiB in a file beside the model: right, in the program file, and mapped where OpenCL runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mace_cl import Runtime
from mace_cl.device import Device
from support import Array, difference, filled

GIB = 1 << 30
DISK, MEMORY = 6 * GIB, 8 * GIB

START = """
import json, sys
import numpy as np
from mace_cl import Runtime

def anonymous():
    lines = open("/proc/self/status").read().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

path, device, rows = sys.argv[1:]
before = anonymous()
with Runtime(path, device=device) as runtime:
    y = runtime.run({"i": np.array(json.loads(rows))})["y"]
    print(json.dumps([runtime.decision.code, anonymous() - before, y.tolist()]))
"""


def available() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))


def saved(folder: Path, kind: str, shape: tuple[int, int], rows: list[int]) -> tuple[Path, Array]:
    """A model that gathers rows of a table and multiplies them; its expected result for ``rows``.

    The table's file is sparse: only these rows are on the disk.
    """
    (folder / "table.bin").touch()
    os.truncate(folder / "table.bin", int(np.prod(shape)) * np.dtype(kind).itemsize)
    table = np.memmap(folder / "table.bin", kind, "r+", shape=shape)
    table[rows] = np.random.default_rng(3).integers(0, 100, (len(rows), shape[1])).astype(kind)
    table.flush()
    weights = filled("weights", (shape[1], 8))
    held = TensorProto(name="table", data_type=helper.np_dtype_to_tensor_dtype(table.dtype), dims=shape,
                       data_location=TensorProto.EXTERNAL)  # fmt: skip
    held.external_data.add(key="location", value="table.bin")
    nodes = [
        helper.make_node("Gather", ["table", "i"], ["g"]),
        helper.make_node("Cast", ["g"], ["c"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["c", "w"], ["y"]),
    ]
    port = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "large", [port("i", TensorProto.INT64, [len(rows)])], [port("y", TensorProto.FLOAT, [len(rows), 8])],
        [held, numpy_helper.from_array(weights, "w")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "large.onnx")
    return folder / "large.onnx", table[rows].astype(np.float32) @ weights


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("kind", "shape", "hosts"),
    [("float32", (270_000, 2048), set()), ("uint8", (2_200_000, 1024), {"Gather"})],
    ids=["bytes", "elements"],
)
def test_more_than_an_int_counts(
    kind: str, shape: tuple[int, int], hosts: set[str], device: Device, tmp_path: Path
) -> None:
    """As bytes, which kernels do not count; as elements, which are the host's to index."""
    if available() < MEMORY or shutil.disk_usage(tmp_path).free < DISK:
        pytest.skip(f"takes {DISK >> 30} GiB of disk and {MEMORY >> 30} GiB of memory")
    rows = [0, 5, shape[0] // 2, shape[0] - 1]
    source, expected = saved(tmp_path, kind, shape, rows)
    program = tmp_path / "large.bin"
    with Runtime(source, program=program, device=device) as runtime:
        assert difference(runtime.run({"i": np.array(rows)})["y"], expected) <= 1e-5
        assert {place.op for place in runtime.where if place.on == "host"} == hosts
    size = int(np.prod(shape)) * np.dtype(kind).itemsize
    assert size > 2 * GIB
    assert program.stat().st_size > size
    (tmp_path / "table.bin").unlink()
    arguments = [sys.executable, "-c", START, str(program), device.runtime, json.dumps(rows)]
    said = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=300)
    code, grown, result = json.loads(said.stdout.splitlines()[-1])
    assert code == "hit"
    assert grown < (size if hosts else 0) + GIB, "ONNX Runtime copies what it is given, OpenCL does not"
    assert difference(np.array(result, np.float32), expected) <= 1e-5
    program.unlink()  # pytest keeps its folders
