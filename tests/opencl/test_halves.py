"""Models of float16 and bfloat16: 16 bits in the arena and among the weights, and right to what 16 bits can hold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from mace_cl.compiler import layout_of
from mace_cl.device import Device, block_for
from mace_cl.runtime.executor import Executor
from support import MIXED, Array, Case, case, difference, filled, model_of, start_with

KINDS = {"float16": np.dtype(np.float16), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
BOUNDS = {"float16": 9 * 2.0**-11, "bfloat16": 9 * 2.0**-8}
"""What rounding costs, of the largest value, times the steps of the longest chain here."""

IMAGE = replace(MIXED, values={name: array / 64 if name == "w3" else array for name, array in MIXED.values.items()})
"""Nearly every family; the exponential function stays within what float16 holds."""

TOKENS = case(
    "tokens",
    "g = Gather(t, i) a = Add(g, x) n = LayerNormalization<axis=-1>(a, s, o) m = MatMul(n, w) q = Reshape(m, z) "
    "k = Transpose<perm=[0,2,1]>(q) d = MatMul(q, k) d1 = Mul(d, f) p = Softmax(d1) v = MatMul(p, q) "
    "r = ReduceMean<keepdims=0>(v, e) l = LogSoftmax(r) c = Concat<axis=1>(l, r) y = Tanh(c) "
    "n1 = Reshape(n, z1) y1 = Gemm(n1, w, o1)",
    t=(11, 32), x=(1, 6, 32), s=(32,), o=(32,), w=filled("w", (32, 48)) / 8, o1=(48,),
    i=np.array([[3, 1, -1, 4, 0, 10]]), f=np.array(0.1, np.float32), z=[3, 6, 16], e=[1], z1=[6, 32],
)  # fmt: skip
"""Row-major families: gather, normalisation, products of two kinds, softmax, reduction, copies."""

WINOGRAD = case(
    "winograd", "c = Conv<pads=[1,1,1,1]>(x, w, b) y = Relu(c)",
    x=(1, 16, 9, 9), w=filled("winograd", (16, 16, 3, 3)), b=(16,),
)  # fmt: skip


PRODUCTS = case(
    "products",
    "a = Add(x, x) m = MatMul(a, w) k = Transpose<perm=[0,2,1]>(m) d = MatMul(m, k) e = MatMul(d, m) y = Tanh(e)",
    x=filled("products", (2, 24, 300)) / 8, w=filled("w", (300, 64)) / 16,
)  # fmt: skip
"""Products of more than 128 terms, with constant weights and without."""


def rounded(one: Case, kind: str) -> tuple[Case, Case]:
    """The case in ``kind``, and in fp32 with the same values; the scales of Resize stay."""

    def made(array: Array, target: np.dtype[Any]) -> Array:
        return array.astype(KINDS[kind]).astype(target) if array.dtype == np.float32 else array

    kept = {"z": one.values["z"]} if one is IMAGE else {}
    halves, floats = (
        replace(one, opset=22, values={name: made(array, target) for name, array in one.values.items()} | kept)
        for target in (KINDS[kind], np.dtype(np.float32))
    )
    return halves, floats


def answers(executor: Executor, halves: Case, floats: Case, kind: str, bound: float = 0.0) -> None:
    with executor:
        got = executor.run(halves.inputs)
    for name, expected in floats.expected.items():
        assert got[name].dtype == KINDS[kind]
        assert difference(got[name].astype(np.float32), expected) <= (bound or BOUNDS[kind]), name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("one", [IMAGE, TOKENS], ids=str)
def test_storage(device: Device, context: Any, one: Case, kind: str) -> None:
    """The answers of fp32 but for rounding, in about half of its memory; each constant takes a multiple of 1 KiB."""
    halves, floats = rounded(one, kind)
    block = block_for(device)
    executor = start_with(device, context, model_of(halves), block=block)
    with start_with(device, context, model_of(floats), block=block) as wide:
        whole = wide.schedule
    assert executor.schedule.arena_bytes <= 0.75 * whole.arena_bytes
    assert executor.schedule.constant_bytes <= 0.75 * whole.constant_bytes
    answers(executor, halves, floats, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_winograd(device: Device, context: Any, kind: str) -> None:
    """What lies between the transforms stays fp32."""
    halves, floats = rounded(WINOGRAD, kind)
    executor = start_with(device, context, model_of(halves), block=block_for(device), algorithm=lambda problem: 4)
    answers(executor, halves, floats, kind)


@pytest.mark.parametrize("block", [4, 16])
@pytest.mark.parametrize("one", [IMAGE, PRODUCTS, TOKENS], ids=str)
def test_arithmetic(device: Device, context: Any, one: Case, block: int) -> None:
    """Where the device computes in halves, convolutions and elementwise kernels do; totals of long sums stay fp32."""
    if "cl_khr_fp16" not in device.extensions:
        pytest.skip("the driver has no cl_khr_fp16")
    halves, floats = rounded(one, "float16")
    executor = start_with(device, context, model_of(halves), block=block, narrow=True)
    narrow = {kernel.family for kernel in executor.schedule.kernels if "cl_khr_fp16" in kernel.source}
    wanted = {"mixed": {"conv2d", "depthwise"}, "products": {"conv2d"}, "tokens": {"elementwise"}}
    assert narrow >= wanted[one.name]
    answers(executor, halves, floats, "float16", 2.0**-6)


def test_arithmetic_in_halves_is_for_gpus_that_have_it(device: Device) -> None:
    able = replace(device, kind="gpu", extensions=("cl_khr_fp16",))
    assert layout_of(able).narrow
    assert not layout_of(replace(able, kind="cpu")).narrow
    assert not layout_of(replace(able, extensions=())).narrow
