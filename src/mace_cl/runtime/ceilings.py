"""What a device can do at most, measured: multiply-adds in registers, bytes through memory and through caches.

The roofline of Williams, Waterman and Patterson, "Roofline: an insightful visual performance model", 2009.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

from mace_cl.device import block_for
from mace_cl.device.device import Device
from mace_cl.errors import DeviceError

__all__ = ["Ceilings", "measure"]

_CHAINS = (8, 12, 20)
_STEPS = 2048
_FAR_BYTES = 64 << 20
_NEAR_BYTES = 64 << 10
_SHARES = 4
_REPEATS = 15


@dataclass(frozen=True)
class Ceilings:
    """``flops``: fp32 operations per second, a multiply-add counted twice.

    ``far_bytes`` and ``near_bytes``: bytes read and written per second by a copy of more than caches
    hold, and by one that goes over the same 128 KiB again and again.
    """

    flops: float
    far_bytes: float
    near_bytes: float


def measure(device: Device) -> Ceilings:
    """Measure them; takes about a second, and 128 MiB of the device's memory.

    Raises:
        DeviceError: the device can't compile, or failed.
    """
    import pyopencl as cl

    if not device.can_compile:
        raise DeviceError(f"{device.name} ({device.runtime}) {device.reason}, so its ceilings can't be measured")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", cl.CompilerWarning)
            context = cl.Context([device.handle])  # type: ignore[list-item]
            queue = cl.CommandQueue(context, properties=cl.command_queue_properties.PROFILING_ENABLE)
            flops = max(_flops(cl, context, queue, device, chains) for chains in _CHAINS)
            far = min(_FAR_BYTES, device.max_alloc_bytes or _FAR_BYTES)
            return Ceilings(
                flops,
                _copied(cl, context, queue, device, far, 1),
                _copied(cl, context, queue, device, _NEAR_BYTES * _SHARES * max(1, device.compute_units), 256),
            )
    except cl.Error as error:
        raise DeviceError(f"{device.name}: its ceilings could not be measured: {error}") from error


def _flops(cl: Any, context: Any, queue: Any, device: Device, chains: int) -> float:
    """Independent chains of multiply-adds, as many as hide the latency of one."""
    width, (items, group) = block_for(device), _grid(device)
    names = [f"a{index}" for index in range(chains)]
    source = f"""#pragma OPENCL FP_CONTRACT ON
    __kernel void peak(__global float{width}* y) {{
      float{width} x = (float{width})(0.999f) + (float)get_global_id(0) * 1e-9f, z = x * 1e-3f;
      float{width} {", ".join(f"{name} = x * {index}.0f" for index, name in enumerate(names))};
      for (int i = 0; i < {_STEPS}; ++i) {{ {" ".join(f"{name} = {name} * x + z;" for name in names)} }}
      y[get_global_id(0)] = {" + ".join(names)};
    }}"""
    kernel = cl.Kernel(_program(cl, context, source), "peak")
    result = cl.Buffer(context, cl.mem_flags.WRITE_ONLY, items * width * 4)
    kernel.set_args(result)
    return 2.0 * width * chains * _STEPS * items / _seconds(cl, queue, kernel, items, group)


def _copied(cl: Any, context: Any, queue: Any, device: Device, size: int, rounds: int) -> float:
    """Each work-item copies a stretch of its own, ``rounds`` times; the sum keeps rounds from being merged."""
    width = block_for(device)
    items, group = (_SHARES * max(1, device.compute_units), 1) if device.kind == "cpu" else _grid(device)
    each = max(1, size // (4 * width * items))
    step, start = ("1", f"get_global_id(0) * {each}") if device.kind == "cpu" else (str(items), "get_global_id(0)")
    source = f"""__kernel void copy(__global const float{width}* x, __global float{width}* y, float add) {{
      for (int round = 0; round < {rounds}; ++round) {{
        size_t at = {start};
        for (int i = 0; i < {each}; ++i, at += {step}) y[at] = x[at] + add;
        add += 1.0f;
      }}
    }}"""
    import numpy as np

    kernel = cl.Kernel(_program(cl, context, source), "copy")
    total = each * items * width * 4
    buffers = [cl.Buffer(context, cl.mem_flags.READ_WRITE, total) for _ in range(2)]
    for buffer in buffers:
        cl.enqueue_fill_buffer(queue, buffer, np.zeros(1, np.uint32), 0, total)
    kernel.set_args(*buffers, np.float32(0))
    return 2.0 * total * rounds / _seconds(cl, queue, kernel, items, group)


def _program(cl: Any, context: Any, source: str) -> Any:
    return cl.Program(context, source).build(options=["-cl-std=CL1.2", "-cl-mad-enable"], cache_dir=False)


def _grid(device: Device) -> tuple[int, int]:
    """(work-items, work-items of a group): enough that each core gets its share."""
    units = max(1, device.compute_units)
    return (units * 512, 1) if device.kind == "cpu" else (units * 2048, min(64, device.max_work_group))


def _seconds(cl: Any, queue: Any, kernel: Any, items: int, group: int) -> float:
    """The best of several runs, after one that compiles; the clock is the device's."""
    times: list[float] = []
    for _ in range(_REPEATS + 1):
        event = cl.enqueue_nd_range_kernel(queue, kernel, (items,), (group,))
        event.wait()
        times.append((event.profile.end - event.profile.start) * 1e-9)
    return max(min(times[1:]), 1e-9)
