"""Finding real devices, each question in a process of its own: the loader reads its drivers once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyopencl
import pytest

from mace_cl.device import Device, block_for

DESCRIBE = """
import dataclasses, json, os, sys
from mace_cl.device import choose, discover, find
def show(device):
    values = {field.name: getattr(device, field.name) for field in dataclasses.fields(device) if field.name != "handle"}
    return {**values, "digest": device.signature.digest()}
"""


def in_child(code: str, **environment: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", DESCRIBE + code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_device_is_described(device: Device) -> None:
    assert device.usable
    assert device.can_compile
    assert device.vector_width >= 1
    assert device.base_align >= 16
    assert device.global_bytes >= device.max_alloc_bytes > 0
    assert device.address_bits in (32, 64)
    assert block_for(device) in (4, 8, 16)


def test_device_runs_a_kernel(device: Device) -> None:
    assert device.handle is not None
    context = pyopencl.Context([device.handle])
    queue = pyopencl.CommandQueue(context)
    source = "__kernel void twice(__global float *x) { x[get_global_id(0)] *= 2; }"
    program = pyopencl.Program(context, source).build(cache_dir=False)  # type: ignore[arg-type]
    values = np.arange(64, dtype=np.float32)
    buffer = pyopencl.Buffer(context, pyopencl.mem_flags.READ_WRITE | pyopencl.mem_flags.COPY_HOST_PTR, hostbuf=values)
    pyopencl.Kernel(program, "twice")(queue, (64,), (1,), buffer)
    result = np.empty_like(values)
    pyopencl.enqueue_copy(queue, result, buffer)
    np.testing.assert_array_equal(result, 2 * values)


def test_identity_is_the_same_in_another_process(device: Device) -> None:
    found = in_child(f"print(json.dumps(show(find({device.runtime!r}))))")
    assert found["digest"] == device.signature.digest()


def test_listing_has_the_device_and_choose_agrees(device: Device) -> None:
    show_all = "found = discover(); print(json.dumps([[show(d) for d in found], show(choose({!r}, found))]))"
    listed, chosen = in_child(show_all.format(device.runtime))
    assert [entry["index"] for entry in listed] == list(range(len(listed)))
    assert chosen["digest"] == device.signature.digest()
    assert sum(entry["digest"] == chosen["digest"] for entry in listed) == 1
    assert all(entry["reason"] for entry in listed)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_alone_loads_no_other_driver(device: Device) -> None:
    before = "import pyopencl; environment = dict(os.environ);"
    find_it = f"device = find({device.runtime!r}, alone=True); pyopencl.Context([device.handle]);"
    report = "print(json.dumps([open('/proc/self/maps').read(), dict(os.environ) == environment]))"
    maps, unchanged = in_child(before + find_it + report)
    paths = {line.split()[-1] for line in maps.splitlines() if "/" in line}
    names = ("libintelocl.so", "libpocl", "liboclgrind-rt", "libnvidia-opencl", "librusticl")
    files = {os.path.basename(path) for path in paths}
    loaded = {file for file in files if file.startswith(names) and not file.startswith("libpocl-devices")}
    assert len(loaded) == 1
    assert unchanged


def test_pocl_without_a_linker_is_listed_as_such(device: Device, tmp_path: Path) -> None:
    listed = in_child("print(json.dumps([show(d) for d in discover()]))", PATH=str(tmp_path))
    usable = [entry for entry in listed if entry["usable"]]
    assert usable
    for entry in usable:
        assert entry["can_compile"] != entry["runtime"].startswith("pocl")
        assert ("binutils" in entry["reason"]) == entry["runtime"].startswith("pocl")


def test_no_system_drivers(device: Device, tmp_path: Path) -> None:
    """Drivers that pip installed are found without any that the system has."""
    listed = in_child("print(json.dumps([show(d) for d in discover()]))", OCL_ICD_VENDORS=str(tmp_path))
    everything = in_child("print(json.dumps([show(d) for d in discover()]))")
    assert {entry["digest"] for entry in listed} <= {entry["digest"] for entry in everything}
