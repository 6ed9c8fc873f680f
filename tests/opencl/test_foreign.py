"""What drivers on this machine give as program binaries is recognised, and described as it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyopencl
import pytest

from foreign_samples import mace_counted, mace_programs, mace_protobuf, spirv
from mace_cl.device import Device
from mace_cl.foreign import Description, recognise
from mace_cl.foreign.mace_store import read, write

SOURCE = """
__kernel void twice(__global float *x) { x[get_global_id(0)] *= 2; }
__kernel void shift(__global float *x, int by) { x[get_global_id(0)] += by; }
"""

KINDS = {"pocl": "pocl", "intel": "intel-cpu", "rusticl": "rusticl", "nvidia": "ptx"}


@pytest.fixture(scope="module")
def binary(context: Any) -> bytes:
    """The driver's binary of ``SOURCE``, after each kernel has run once."""
    program = pyopencl.Program(context, SOURCE).build(cache_dir=False)  # type: ignore[arg-type]
    queue = pyopencl.CommandQueue(context)
    buffer = pyopencl.Buffer(context, pyopencl.mem_flags.READ_WRITE, 256)
    pyopencl.Kernel(program, "twice")(queue, (64,), (1,), buffer)
    pyopencl.Kernel(program, "shift")(queue, (64,), (1,), buffer, np.int32(1))
    queue.finish()
    found = program.get_info(pyopencl.program_info.BINARIES)
    return bytes(found[0])


def inside(seen: Description) -> Iterator[Description]:
    """A description and those of all parts."""
    todo = [seen]
    while todo:
        one = todo.pop()
        yield one
        todo += [part.content for part in one.parts if part.content]


def test_a_driver_s_binary(device: Device, binary: bytes) -> None:
    runtime = device.runtime.partition("-")[0]
    if runtime not in KINDS:
        pytest.skip(f"the binaries of {runtime} have no format that is known")
    seen = recognise(binary)
    assert (seen.kind, seen.length) == (KINDS[runtime], len(binary))
    assert not [one.problems for one in inside(seen) if one.problems]
    named = {name for one in inside(seen) for name in _names(one)}
    assert named >= {"twice", "shift"}


def _names(seen: Description) -> set[str]:
    found = seen.fact("kernels") or seen.fact("entry points") or seen.fact("functions")
    return {name.partition(" ")[0] for name in found} if isinstance(found, tuple) else set()


def test_pocl_s_binary_in_full(device: Device, binary: bytes) -> None:
    if not device.runtime.startswith("pocl"):
        pytest.skip("another runtime")
    seen = recognise(binary)
    assert (seen.fact("kernel count"), seen.fact("kernels")) == (2, ("twice", "shift"))
    kinds = [part.content.kind for part in seen.parts if part.content]
    # one library for each kernel, and one more for each local size that it ran with
    assert kinds[0] == "llvm-bitcode"
    assert len(kinds) >= 3
    assert set(kinds[1:]) == {"elf"}
    bitcode = seen.parts[0].content
    assert bitcode is not None
    version = device.platform_version.partition("LLVM ")[2].split(".")[0]
    assert str(bitcode.fact("producer")).startswith(f"LLVM{version}.")
    arguments = {part.name: dict(part.facts)["arguments"] for part in seen.parts if part.name.startswith("kernel ")}
    assert arguments == {"kernel twice": 1, "kernel shift": 2}


def test_a_file_of_mace_with_this_driver_s_binaries(device: Device, binary: bytes) -> None:
    for make in (mace_protobuf, mace_counted):
        data = make(mace_programs(binary))
        seen = recognise(data)
        assert seen.fact("program bytes") == 3 * len(binary)
        assert [part.content.kind for part in seen.parts if part.content] == [recognise(binary).kind] * 3
        assert write(read(data)) == data


def test_the_sample_of_spirv_is_one(device: Device, context: Any) -> None:
    if "cl_khr_il_program" not in device.extensions:
        pytest.skip(f"{device.runtime} takes no SPIR-V")
    assert pyopencl.Program(context, spirv()).build().get_info(pyopencl.program_info.KERNEL_NAMES) == "twice"
