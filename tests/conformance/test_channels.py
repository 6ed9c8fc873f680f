"""Chains that only move whole channels: shuffles, slices, splits, concatenations at any channel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from support import Case, Start, case, difference, model_of

SHUFFLE = "r = Reshape(c, five) t = Transpose<perm=[0,2,1,3,4]>(r) s = Reshape(t, four) "
CONVS = "a = Conv(x, w) b = Conv(x, v) "


def shuffle(name: str, channels: int, groups: int, tail: str, size: tuple[int, int] = (6, 5), **more: Any) -> Case:
    """A shuffle of the channels of two convolutions side by side, then ``tail``."""
    half, total = channels // 2, channels
    return case(
        name, f"{CONVS}c = Concat<axis=1>(a, b) {SHUFFLE}{tail}",
        x=(1, 5, *size), w=(half, 5, 1, 1), v=(total - half, 5, 1, 1),
        five=[1, groups, channels // groups, *size], four=[1, channels, *size],
        lo=[0], mid=[half], end=[total], axis=[1], **more,
    )  # fmt: skip


CASES = [
    shuffle("whole", 32, 2, "y = Relu(s)"),
    shuffle("unaligned", 34, 2, "y = Relu(s)"),
    shuffle("three_groups", 24, 3, "y = Relu(s)"),
    shuffle("halves", 58, 2, "p = Slice(s, lo, mid, axis) q = Slice(s, mid, end, axis) y0 = Relu(p) y1 = Exp(q)"),
    shuffle("split", 40, 2, "p, q = Split<axis=1, num_outputs=2>(s) y0 = Relu(p) y1 = Exp(q)"),
    shuffle("used_twice", 18, 2, "y0 = Relu(s) y1 = Exp(s) y2 = Neg(c)"),
    shuffle("is_output", 18, 2, "y = Identity(s)"),
    shuffle("into_convolutions", 42, 2,
            "p = Slice(s, lo, mid, axis) q = Slice(s, mid, end, axis) y0 = Conv(p, k, d) y1 = Conv(q, k, d)",
            k=(33, 21, 1, 1), d=(33,)),
    shuffle("into_residual", 34, 2, "e = Conv(s, k) f = Add(e, h) y = Relu(f)", k=(8, 34, 1, 1), h=(8, 1, 1)),
    shuffle("into_wide_kernel", 18, 2, "y = Conv<pads=[1,1,1,1]>(s, k)", k=(8, 18, 3, 3)),
    shuffle("into_stride", 18, 2, "y = Conv<strides=[2,2]>(s, k)", k=(8, 18, 1, 1)),
    case(
        "even_and_odd",
        CONVS + "c = Concat<axis=1>(a, b) r = Reshape(c, pairs) t = Transpose<perm=[1,0,2]>(r) f = Reshape(t, five) "
        "p = Gather<axis=0>(f, zero) q = Gather<axis=0>(f, one) y0 = Relu(p) y1 = Exp(q)",
        x=(1, 3, 4, 5), w=(10, 3, 1, 1), v=(10, 3, 1, 1), pairs=[10, 2, 20], five=[2, 1, 10, 4, 5], zero=np.array(0),
        one=np.array(1),
    ),
    case(
        "slice_of_blocks", CONVS + "c = Concat<axis=1>(a, b) s = Slice(c, lo, hi, axis) y = Relu(s)",
        x=(1, 3, 4, 4), w=(32, 3, 1, 1), v=(16, 3, 1, 1), lo=[16], hi=[48], axis=[1],
    ),
    case(
        "slice_across", CONVS + "c = Concat<axis=1>(a, b) s = Slice(c, lo, hi, axis) y = Relu(s)",
        x=(1, 3, 4, 4), w=(7, 3, 1, 1), v=(9, 3, 1, 1), lo=[3], hi=[12], axis=[1],
    ),
    case(
        "every_second", "a = Conv(x, w) s = Slice(a, lo, hi, axis, step) y = Relu(s)",
        x=(1, 3, 4, 4), w=(21, 3, 1, 1), lo=[1], hi=[21], axis=[1], step=[2],
    ),
    case("batch_stays", "a = Conv(x, w) p, q = Split<axis=1, num_outputs=2>(a) y = Add(p, q)",
         x=(2, 3, 4, 4), w=(10, 3, 1, 1)),
]  # fmt: skip


@pytest.mark.parametrize("one", CASES, ids=str)
def test_channels(one: Case, start: Start) -> None:
    with start(model_of(one)) as executor:
        outputs = executor.run(one.inputs)
    for name, expected in one.expected.items():
        assert difference(outputs[name], expected) <= 1e-5, name


def test_convolutions_gather_for_themselves(start: Start) -> None:
    """The gather is gone where a 1×1 convolution alone reads it."""
    families = {}
    for one in CASES:
        if one.name.startswith("into_"):
            with start(model_of(one)) as executor:
                families[one.name] = "channel_gather" in {kernel.family for kernel in executor.schedule.kernels}
    assert families == {
        "into_convolutions": False, "into_residual": False, "into_wide_kernel": True, "into_stride": True,
    }  # fmt: skip
