"""Every memory access of every kernel family, checked by Oclgrind (https://github.com/jrprice/Oclgrind).

Each launch of the conformance cases gets buffers of exactly the sizes that the schedule says, so that an
access beyond one is an access to nothing.  Oclgrind reports on standard error, hence the processes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.oclgrind,
    pytest.mark.skipif(shutil.which("oclgrind") is None, reason="Oclgrind is not installed (apt install oclgrind)"),
]

TESTS = Path(__file__).parents[1]

HEAD = """
import numpy as np, pyopencl as cl
from mace_cl.device import find
device = find("oclgrind", alone=True)
context = cl.Context([device.handle])
queue = cl.CommandQueue(context)
random = np.random.default_rng(0)
def buffer(size):
    data = random.standard_normal(size // 4, dtype=np.float32)
    return cl.Buffer(context, cl.mem_flags.READ_WRITE | cl.mem_flags.COPY_HOST_PTR, hostbuf=data)
texels = cl.ImageFormat(cl.channel_order.RGBA, cl.channel_type.FLOAT)
def launch(program, name, global_size, local_size, sizes, images=()):
    kernel, buffers = cl.Kernel(program, name), [buffer(size) for size in sizes]
    kept = {
        at: cl.create_image(context, cl.mem_flags.READ_ONLY, texels, shape=(sizes[at] // 16,), buffer=buffers[at])
        for at in images
    }
    kernel.set_args(*(kept.get(at, one) for at, one in enumerate(buffers)))
    cl.enqueue_nd_range_kernel(queue, kernel, global_size, local_size)
    queue.finish()
"""

CHECK = """
import sys
from mace_cl.compiler import prepare, traits_of
from mace_cl.tune.records import Records, place_of
from mace_cl.tune.search import Choices
from mace_cl.runtime.build import build_source
from support import model_of
from conformance.test_channels import CASES as CHANNELS
from conformance.test_fusion import CASES
from conformance.test_ops import FAMILIES
from opencl.test_kernels import WINOGRAD
groups = {**FAMILIES, "channels": CHANNELS, "fusion": CASES, "winograd2": WINOGRAD, "winograd4": WINOGRAD}
name = sys.argv[1]
class Always(Choices):
    def algorithm(self, problem):
        return int(name[-1])
kind = Always if name.startswith("winograd") else Choices
choices = kind(Records(None), traits_of(device), place_of(device))
seen, launches = set(), 0
for opset in sorted({case.opset for case in groups[name]}):
    model = model_of(*(case for case in groups[name] if case.opset == opset))
    schedule = prepare(model.SerializeToString(), device, None, choices=choices).schedule
    kernels = range(len(schedule.kernels))
    program = build_source(context, schedule, kernels) if kernels else None
    for one in schedule.launches:
        kernel, sizes = schedule.kernels[one.kernel], [slot.size for slot in one.args]
        launch(program, kernel.name, one.global_size, one.local_size, sizes)
        seen.add(kernel.family)
        launches += 1
print(launches, *sorted(seen))
"""

FOR_GPUS = """
from mace_cl.lower import direct
from mace_cl.runtime.build import build_source
from opencl.test_groups import DEEP, GPU, shaped
from opencl.test_kernels import WINOGRAD
from support import model_of, start_with
barriers = images = launches = 0
for case in (*DEEP, WINOGRAD[1]):
    for wanted in ({"local": 2, "across": 8, "group": 64}, {"local": 8, "across": 32, "group": 128, "image": 1}):
        algorithm = (lambda problem: 4) if case in WINOGRAD else direct
        executor = start_with(
            device, context, model_of(case), block=4, algorithm=algorithm, choose=shaped(**wanted), traits=GPU
        )
        schedule = executor.schedule
        program = build_source(context, schedule, range(len(schedule.kernels)))
        for one in schedule.launches:
            kernel, sizes = schedule.kernels[one.kernel], [slot.size for slot in one.args]
            launch(program, kernel.name, one.global_size, one.local_size, sizes, kernel.images)
            launches, images = launches + 1, images + len(kernel.images)
            barriers += "barrier" in kernel.source
print(launches, barriers, images)
"""

RACE = """
source = '''
__kernel void race(__global const float *x, __global float *y) {
  __local float near[16];
  const int i = get_local_id(0);
  near[i] = x[get_global_id(0)];
  y[get_global_id(0)] = near[15 - i];
}
'''
launch(cl.Program(context, source).build(cache_dir=False), "race", (16, 1, 1), (16, 1, 1), [64, 64])
"""

EXPECTED = {
    "channels": {"channel_gather"},
    "convolution": {"conv2d", "depthwise", "reorder"},
    "elementwise": {"elementwise"},
    "matmul": {"matmul", "conv2d", "softmax"},
    "movement": {"elementwise", "gather"},
    "normalization": {"instance_norm", "layer_norm", "softmax"},
    "opsets": {"resample", "softmax", "pool2d", "reduce"},
    "pooling": {"pool2d", "reduce"},
    "reduction": {"reduce"},
    "resizing": {"resample"},
    "fusion": {"conv2d", "depthwise", "elementwise", "reduce"},
    "winograd2": {"winograd_input", "winograd_output"},
    "winograd4": {"winograd_input", "winograd_output"},
}
"""The groups of cases, and the kernel families that each must have run."""

PLANTED = """
source = '''
__kernel void beyond(__global const float *x, __global float *y) { y[get_global_id(0)] = x[get_global_id(0) + AHEAD]; }
'''
program = cl.Program(context, source).build(options=["-DAHEAD=" + sys.argv[1]], cache_dir=False)
launch(program, "beyond", (16, 1, 1), (1, 1, 1), [64, 64])
"""


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.mark.parametrize("group", EXPECTED)
def test_no_invalid_access(group: str) -> None:
    done = run(HEAD + CHECK, group)
    assert done.returncode == 0, done.stderr
    launches, *families = done.stdout.split()
    assert int(launches) > 0
    assert set(families) >= EXPECTED[group]
    assert done.stderr == ""


def test_groups_neither_race_nor_reach_beyond(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCLGRIND_DATA_RACES", "1")
    done = run(HEAD + FOR_GPUS)
    assert done.returncode == 0, done.stderr
    launches, barriers, images = map(int, done.stdout.split())
    assert launches > barriers > 10
    assert images > 5
    assert done.stderr == ""


def test_a_race_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCLGRIND_DATA_RACES", "1")
    done = run(HEAD + RACE)
    assert done.returncode == 0, done.stderr
    assert "data race" in done.stderr


@pytest.mark.parametrize(("ahead", "caught"), [("0", False), ("1", True)])
def test_the_check_can_fail(ahead: str, caught: bool) -> None:
    done = run(f"import sys{HEAD}{PLANTED}", ahead)
    assert done.returncode == 0, done.stderr
    assert ("Invalid read of size 4" in done.stderr) == caught
