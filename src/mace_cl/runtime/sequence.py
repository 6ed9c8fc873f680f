"""Kernels in sequence: many launches as one, on devices whose work-groups run at the same time.

Between two launches a CPU's OpenCL runtime puts its threads to sleep and wakes them again, which takes longer
than a small kernel.  Here the kernels of a unit become functions of one kernel, ``sequence``, that runs any
stretch of launches in order.  Its work-groups share out the work-items of each launch: every thread has a part of
them, and takes what is left of the others' parts when its own is done; nobody begins a launch before all
work-items of the one before are done.

A group waits only for work-items that another group has begun.  So the sequence ends in any order in which
whole groups run, also one after the other, but it needs that a group which has begun goes on.
"""

from __future__ import annotations

import hashlib
import platform
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mace_cl.device import quirk_for
from mace_cl.device.device import Device
from mace_cl.errors import BuildError
from mace_cl.schedule import MOST_SHARES, Schedule, Size3

__all__ = ["arguments", "counters", "entry", "grid", "shares_for", "source", "table"]

_LINE = 16
"""Counters that threads of their own write to are that many ints apart: a cache line of 64 bytes."""

_GROUPS = 4
"""Work-groups for each part, so that every thread gets one however a driver deals them out."""

_FIXED = 4
"""Numbers that stand before the arguments in a row of the table."""

_HEAD = re.compile(r"__kernel __attribute__\(\((reqd_work_group_size\(1, 1, 1\)[^\n]*)\)\)\nvoid (\w+)\(([^)]*)\)")


def shares_for(device: Device) -> int:
    """In how many shares launches run in sequence on ``device``; 0 where each is an enqueue.

    Other processors than x86-64 see other threads' writes in another order, which was not tried.
    """
    if not quirk_for(device).sequences or device.kind == "gpu" or platform.machine() not in ("x86_64", "AMD64"):
        return 0
    return min(max(1, device.compute_units), MOST_SHARES)


def entry(schedule: Schedule) -> str:
    """Name of the ``__kernel`` function: a hash of the kernels' names, by which a binary of others is told."""
    names = " ".join([str(schedule.shares), *(kernel.name for kernel in schedule.kernels)])
    return f"sequence_{hashlib.sha256(names.encode()).hexdigest()[:16]}"


def source(schedule: Schedule, kernels: Sequence[int]) -> str:
    """OpenCL C: the kernels as functions, those of a kind as one, and the one that calls them.

    A row of ``table`` is a launch: the kernel's index in the schedule, how many work-items, how many of them in the
    first and in the second dimension, then for each argument twice its offset in bytes, plus one if it lies in the
    constants.

    Raises:
        BuildError: a kernel's text is none that a template makes.
    """
    from mace_cl.runtime.alike import alike  # a warm start does without

    attributes, functions, cases = "", [], []
    for one in alike({index: schedule.kernels[index] for index in kernels}):
        found = _HEAD.search(one.text)
        if found is None or found[2] != one.name:
            raise BuildError(f"the text of kernel {one.name} does not begin as one of mace-cl's; compile the model")
        integers = ", ".join(f"const int {name}" for name in ("id0", "id1", "id2", *one.numbers))
        text = one.text.replace(
            found[0],
            # what PoCL's compiler makes of them out of line takes 1.5 times as long
            f"static inline __attribute__((always_inline))\nvoid {one.name}({integers}, {found[3]})",
        )
        attributes = found[1]
        functions.append(re.sub(r"get_global_id\(([012])\)", r"id\1", text))
        pointers = [f"({_type(argument)})ARGUMENT({place})" for place, argument in enumerate(found[3].split(", "))]
        given = ", ".join([*one.numbers, *pointers])
        cases += [
            *(f"        case {index}:" for index in one.kernels),
            "        {",
            *(f"          const int {name} = {_of(one.kernels, numbers)};" for name, numbers in one.numbers.items()),
            "          for (int item; (item = NEXT) < end; ++mine)",
            f"            {one.name}(item % columns, item / columns % rows, item / columns / rows, {given});",
            "          break;",
            "        }",
        ]
    return "".join(functions) + _SEQUENCE.format(
        entry=entry(schedule), attributes=attributes, parameters=_PARAMETERS, cases="\n".join(cases),
        parts=schedule.shares, last=schedule.shares - 1, line=_LINE, fixed=_FIXED,
        per=_LINE * (schedule.shares + 1), done=_LINE * schedule.shares,
    )  # fmt: skip


_PARAMETERS = """const int first, const int last, const int width, __global const long *restrict table,
    volatile __global int *restrict counters, __global char *arena, __global char *constants"""

# A function of its own: what PoCL inlines into a kernel it compiles once for each way to enqueue it, in loops over
# work-items that take most of the time.
_SEQUENCE = """
#define ARGUMENT(n) ((row[{fixed} + n] & 1 ? constants : arena) + (row[{fixed} + n] >> 1))
#define NEXT (begin + atomic_inc(claimed))
static __attribute__((noinline))
void launches({parameters}) {{
  const int me = atomic_inc(counters) % {parts};
  volatile __global int *now = counters + {line} * 2;
  for (int launch = first; launch < last; ++launch, now += {per}) {{
    __global const long *restrict row = table + launch * width;
    const int count = row[1], columns = row[2], rows = row[3], part = (count + {last}) / {parts};
    int mine = 0;
    for (int other = 0; other < {parts}; ++other) {{
      const int place = (me + other) % {parts};
      const int begin = place * part, end = min(begin + part, count);
      volatile __global int *claimed = now + place * {line};
      switch ((int)row[0]) {{
{cases}
        default:  // a kernel that is not here: nobody waits for it
          mine += count;
      }}
    }}
    mem_fence(CLK_GLOBAL_MEM_FENCE);
    if (mine) atomic_add(now + {done}, mine);
    while (now[{done}] < count) {{}}
    mem_fence(CLK_GLOBAL_MEM_FENCE);
  }}
}}
__kernel __attribute__(({attributes}))
void {entry}({parameters}) {{
  launches(first, last, width, table, counters, arena, constants);
  if (atomic_inc(counters + {line}) == get_num_groups(0) - 1)  // the last group leaves zeros to the next run
    for (int at = 0; at < {line} * 2 + (last - first) * {per}; at += {line}) counters[at] = 0;
}}
"""


def _of(kernels: Sequence[int], numbers: Sequence[int]) -> str:
    """The number of the kernel that the row names."""
    *others, (_, last) = zip(kernels, numbers, strict=True)
    return " : ".join([*(f"row[0] == {index} ? {number}" for index, number in others), str(last)])


def _type(argument: str) -> str:
    """``__global const float *`` of ``__global const float *restrict x``."""
    return argument.partition("*")[0] + "*"


def grid(schedule: Schedule) -> tuple[Size3, Size3]:
    """Global and local size of a sequence."""
    return (_GROUPS * schedule.shares, 1, 1), (1, 1, 1)


def counters(schedule: Schedule) -> int:
    """How many ints, zero at first, a sequence of all launches counts in."""
    return _LINE * (2 + len(schedule.launches) * (schedule.shares + 1))


def arguments(text: str, name: str) -> int:
    """How many arguments the kernel ``name`` takes by its text."""
    begin = text.find(f"void {name}(")
    return text.count(",", begin, text.find(")", begin)) + 1 if begin >= 0 else 0


def table(schedule: Schedule) -> NDArray[np.int64]:
    """All launches as rows, as `source` reads them."""
    rows = np.zeros((len(schedule.launches), _FIXED + max(len(one.args) for one in schedule.launches)), np.int64)
    for row, launch in zip(rows, schedule.launches, strict=True):
        columns, lines, planes = launch.global_size
        row[:_FIXED] = launch.kernel, columns * lines * planes, columns, lines
        row[_FIXED : _FIXED + len(launch.args)] = [
            2 * slot.offset + (slot.space == "constants") for slot in launch.args
        ]
    return rows
