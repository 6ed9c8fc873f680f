"""Find the kernels that a driver compiles wrongly, by comparing each with its build without optimisation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mace_cl.device.device import Device
from mace_cl.runtime.build import build_source, split
from mace_cl.runtime.executor import Executor
from mace_cl.runtime.golden import STEPS, TOLERANCE, golden_inputs, quantises
from mace_cl.schedule import Schedule

__all__ = ["wrong_kernels"]


def wrong_kernels(
    device: Device,
    context: Any,
    schedule: Schedule,
    executor: Executor,
    constants: NDArray[np.uint8],
    allowed: float = TOLERANCE,
) -> dict[int, int]:
    """The kernels whose result differs from that of their safe build, each with the first launch where it does.

    ``allowed`` is how much of a result's largest magnitude is taken for rounding.

    The safe build (``-cl-opt-disable``) runs the golden inputs; before each launch its arena is copied
    to the executor under suspicion, so that one wrong kernel does not blame those after it.  Where tensors are
    rounded to a grid, a few elements may be a step off without any kernel being wrong.

    Raises:
        BuildError: the safe build fails.
    """
    programs = [(kernels, build_source(context, schedule, kernels, safe=True)) for kernels in split(schedule, 1)]
    wrong: dict[int, int] = {}
    least = STEPS if quantises(schedule) else 1.0
    with Executor(device, context, schedule, programs, constants) as safe:
        safe.upload(golden_inputs(schedule.inputs))
        for number, launch in enumerate(schedule.launches):
            safe.run_host(number)
            executor.copy_arena(safe)
            executor.launch(number)
            safe.launch(number)
            given, wanted = executor.read(launch.args[-1]), safe.read(launch.args[-1])
            scale = max(float(np.abs(wanted[np.isfinite(wanted)]).max(initial=0.0)), 1e-30)
            with np.errstate(invalid="ignore"):
                close = np.abs(given - wanted) <= allowed * scale
            close |= (given == wanted) | (np.isnan(given) & np.isnan(wanted))
            if np.mean(close) < least:
                wrong.setdefault(launch.kernel, number)
    return wrong
