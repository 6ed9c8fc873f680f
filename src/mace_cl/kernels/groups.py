"""Work-groups of many work-items, which GPUs need, of kernels that are written for groups of one.

The work-items of a template are independent of each other, so that any grouping answers the same.  A GPU runs the
items of a group side by side, 32 or 64 at a time, and leaves its other lanes idle where a group has fewer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from mace_cl.kernels.base import ALONE, ceil_div
from mace_cl.plan import Rendered, Traits

__all__ = ["ITEMS", "grouped", "shapes", "usual", "with_groups"]

ITEMS = 64
"""Work-items of a group: two warps of NVIDIA's, one wave of AMD's and of Adreno's, four of Mali's."""


def shapes(traits: Traits) -> Iterator[dict[str, int]]:
    """The sizes of work-groups to choose from on a device; the usual one first."""
    most = 1 << max(1, traits.group).bit_length() - 1
    yield from ({"group": items} for items in dict.fromkeys(min(most, items) for items in (ITEMS, 128, 256)))


def usual(traits: Traits) -> int:
    """Work-items of a group where nothing is chosen: `ITEMS`, or as many as the device allows."""
    return next(shapes(traits))["group"]


def with_groups(parameters: Iterable[dict[str, int]], traits: Traits) -> Iterator[dict[str, int]]:
    """The same parameters, on other devices than CPUs with each size of work-groups."""
    for one in parameters:
        yield from [one] if traits.is_cpu else ({**one, **group} for group in shapes(traits))


def grouped(rendered: Rendered, items: int = ITEMS) -> Rendered:
    """The same kernel in groups of at most ``items`` work-items, a power of two; those beyond the grid do nothing.

    A group takes neighbours in the first dimension before those in the second, as they read neighbouring memory.
    A kernel that has groups of its own stays as it is.
    """
    if rendered.local_size != (1, 1, 1):
        return rendered
    local: list[int] = []
    for size in rendered.global_size:
        left = items
        for taken in local:
            left //= taken
        local.append(min(left, 1 << (size - 1).bit_length()))
    total = [ceil_div(size, group) * group for size, group in zip(rendered.global_size, local, strict=True)]
    beyond = [
        f"get_global_id({axis}) >= {size}"
        for axis, (size, padded) in enumerate(zip(rendered.global_size, total, strict=True))
        if size != padded
    ]
    head, attribute, rest = rendered.source.partition(ALONE)
    assert attribute, "a template declares its groups"
    signature, brace, body = rest.partition(") {\n")
    guard = f"  if ({' || '.join(beyond)}) return;\n" if beyond else ""
    shape = f"reqd_work_group_size({local[0]}, {local[1]}, {local[2]})"
    return replace(
        rendered,
        source=head + shape + signature + brace + guard + body,
        global_size=_size(total),
        local_size=_size(local),
    )


def _size(sizes: list[int]) -> tuple[int, int, int]:
    return sizes[0], sizes[1], sizes[2]
