"""Quantised tensors: to and from integers, integer convolutions and products, networks in QDQ form."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import helper

from support import Array, Case, Results, Start, agree, case, filled, model_of


def whole(kind: str, *shape: int) -> Array:
    limits = np.iinfo(kind)
    return (
        np.random.default_rng([len(kind), *shape]).integers(limits.min, limits.max, shape, endpoint=True).astype(kind)
    )


def scale(*shape: int) -> Array:
    return (np.random.default_rng(shape).random(shape) * 0.1 + 0.01).astype(np.float32)


KINDS = ("int8", "uint8", "int16", "uint16")
TIES = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 300, -300, 1e9, -1e9], np.float32)

TENSORS = [
    *(
        one
        for kind in KINDS
        for one in (
            case(f"quantize_{kind}", "y = QuantizeLinear(x, s, z)", x=filled(kind, (3, 40)) * np.float32(9),
                 s=np.float32(0.1), z=whole(kind, 1)[0]),
            case(f"quantize_axis_{kind}", "y = QuantizeLinear<axis=1>(x, s, z)", x=filled(kind, (2, 3, 8)),
                 s=scale(3), z=whole(kind, 3)),
            case(f"quantize_ties_{kind}", "y = QuantizeLinear(x, s, z)", x=TIES, s=np.float32(1), z=np.array(1, kind)),
            case(f"dequantize_{kind}", "y = DequantizeLinear(x, s, z)", x=whole(kind, 3, 40), s=np.float32(0.1),
                 z=whole(kind, 1)[0]),
            case(f"dequantize_axis_{kind}", "y = DequantizeLinear<axis=-2>(x, s, z)", x=whole(kind, 2, 3, 8),
                 s=scale(3), z=whole(kind, 3)),
            case(f"dequantize_blocks_{kind}", "y = DequantizeLinear<axis=1, block_size=2>(x, s, z)",
                 x=whole(kind, 2, 6, 3), s=scale(2, 3, 3), z=whole(kind, 2, 3, 3)),
            case(f"quantize_blocks_{kind}", "y = QuantizeLinear<axis=1, block_size=2>(x, s, z)",
                 x=filled(kind, (2, 6, 3)), s=scale(2, 3, 3), z=whole(kind, 2, 3, 3)),
        )
    ),
    case("dequantize_int32", "y = DequantizeLinear(x, s)", x=whole("int32", 3, 7), s=np.float32(1e-4)),
    case("quantize_default", "y = QuantizeLinear(x, s)", x=np.abs(filled("q", (3, 4))), s=np.float32(0.01)),
    case("quantize_computed", "y = QuantizeLinear(x, x1, x2)", x=(3, 4), x1=np.float32(0.01), x2=np.uint8(7)),
    case("dequantize_constant", "w = DequantizeLinear<axis=0>(q, s, z) y = Conv(x, w)", x=(1, 3, 5, 5),
         q=whole("int8", 4, 3, 3, 3), s=scale(4), z=np.zeros(4, np.int8)),
    case("dynamic", "y, y1, y2 = DynamicQuantizeLinear(x)", x=(3, 40)),
    case("dynamic_positive", "y, y1, y2 = DynamicQuantizeLinear(x)", x=np.abs(filled("positive", (5, 7)))),
]  # fmt: skip


def conv(name: str, x: tuple[int, ...], w: tuple[int, ...], attributes: str = "", bias: bool = True, axis: bool = False,
         kinds: tuple[str, str] = ("uint8", "int8")) -> Case:  # fmt: skip
    op, outputs = f"QLinearConv<{attributes}>" if attributes else "QLinearConv", w[0]
    more: dict[str, Any] = {"b": whole("int16", outputs).astype(np.int32)} if bias else {}
    return case(
        name, f"y = {op}(x, xs, xz, w, ws, wz, os, oz{', b' if bias else ''})",
        x=whole(kinds[0], *x), w=whole(kinds[1], *w), ws=scale(outputs) if axis else np.float32(0.02),
        wz=np.zeros(outputs, kinds[1]) if axis else np.array(3, kinds[1]),
        os=np.float32(0.9), oz=np.array(5, kinds[0]), oracle="onnxruntime",
        # constants whose names begin with x would be inputs, which are wanted: computed parameters
        xs=np.float32(0.03), xz=np.array(7, kinds[0]),
        **more,
    )  # fmt: skip


PRODUCTS = [
    conv("conv", (2, 3, 6, 7), (4, 3, 3, 3), "pads=[1,1,1,1]"),
    conv("conv_no_bias", (1, 3, 6, 7), (4, 3, 3, 3), bias=False),
    conv("conv_channels", (1, 4, 6, 7), (6, 2, 3, 2), "group=2, strides=[2,1], dilations=[1,2]", axis=True),
    conv("conv_int8", (1, 3, 6, 7), (4, 3, 3, 3), 'auto_pad="SAME_UPPER"', kinds=("int8", "int8")),
    conv("conv_uint8", (1, 3, 6), (4, 3, 3), kinds=("uint8", "uint8")),
    case("conv_integer", "y = ConvInteger<pads=[1,1,1,1]>(x, w, z)", x=whole("uint8", 1, 3, 5, 6),
         w=whole("uint8", 4, 3, 3, 3), z=np.uint8(7), oracle="onnxruntime"),
    case("conv_integer_zero", "y = ConvInteger(x, x1)", x=whole("uint8", 2, 3, 5, 6), x1=whole("uint8", 4, 3, 3, 3),
         oracle="onnxruntime"),
    case("conv_integer_weights", "y = ConvInteger(x, w, z, v)", x=whole("uint8", 2, 3, 5, 6), v=np.uint8(9),
         w=whole("uint8", 4, 3, 3, 3), z=np.uint8(3), oracle="onnxruntime"),
    *(case(f"matmul_integer_{a}_{b}", "y = MatMulInteger(x, x1, z, v)", x=whole(a, 2, 5, 33), x1=whole(b, 33, 7),
           z=np.array(3, a), v=np.array(9, b)) for a in ("uint8", "int8") for b in ("uint8", "int8")),
    case("matmul_integer_rows", "y = MatMulInteger(x, x1, z, v)", x=whole("uint8", 5, 33), x1=whole("int8", 33, 7),
         z=np.uint8(4), v=whole("int8", 7), oracle="onnxruntime"),
    case("matmul_integer_batches", "y = MatMulInteger(x, x1)", x=whole("uint8", 2, 1, 5, 8),
         x1=whole("uint8", 3, 8, 4)),
    case("qlinear_matmul", "y = QLinearMatMul(x, s, z, x1, t, v, u, o)", x=whole("uint8", 2, 5, 33), s=np.float32(0.02),
         z=np.uint8(100), x1=whole("int8", 33, 7), t=np.float32(0.03), v=np.int8(3), u=np.float32(0.4), o=np.uint8(90),
         oracle="onnxruntime"),
    case("qlinear_matmul_columns", "y = QLinearMatMul(x, s, z, w, t, v, u, o)", x=whole("uint8", 5, 33),
         s=np.float32(0.02), z=np.uint8(100), w=whole("int8", 33, 7), t=scale(7), v=whole("int8", 7),
         u=np.float32(0.9), o=np.uint8(90), oracle="onnxruntime"),
]  # fmt: skip

FAMILIES = {"tensors": TENSORS, "products": PRODUCTS}


@pytest.fixture(scope="module")
def results(start_whole: Start) -> Results:
    return Results(start_whole, FAMILIES)


@pytest.mark.parametrize(
    ("family", "one"), [pytest.param(family, one, id=f"{family}-{one}") for family, cases in FAMILIES.items()
                        for one in cases]
)  # fmt: skip
def test_quantized(family: str, one: Case, results: Results) -> None:
    agree(results.of(family, one), one.expected, 1e-6)


NETWORK = case(
    "network",
    "q0 = QuantizeLinear(x, s0, z0) d0 = DequantizeLinear(q0, s0, z0) w = DequantizeLinear<axis=0>(qw, ws, wz) "
    "b = DequantizeLinear(qb, bs) c = Conv<pads=[1,1,1,1]>(d0, w, b) r = Relu(c) q1 = QuantizeLinear(r, s1, z0) "
    "d1 = DequantizeLinear(q1, s1, z0) d2 = DequantizeLinear(q1, s1, z0) c2 = Conv<pads=[1,1,1,1]>(d1, v) "
    "a = Add(c2, d2) q2 = QuantizeLinear(a, s2, z2) y = DequantizeLinear(q2, s2, z2)",
    x=(2, 5, 8, 8), s0=np.float32(1 / 64), z0=np.uint8(0), qw=whole("int8", 16, 5, 3, 3), ws=scale(16),
    wz=np.zeros(16, np.int8), qb=whole("int16", 16).astype(np.int32), bs=np.float32(1e-5), s1=np.float32(1.0),
    v=filled("v", (16, 16, 3, 3)), s2=np.float32(64), z2=np.int8(3),
)  # fmt: skip


def test_network(start_whole: Start) -> None:
    """Roundings become parts of convolutions; a sum close to a tie may fall to the other side, by one step."""
    with start_whole(model_of(NETWORK)) as executor:
        got = executor.run(NETWORK.inputs)["y"]
        kernels = {call.kernel for call in executor.schedule.launches}
        families = [executor.schedule.kernels[kernel].family for kernel in kernels]
    step = np.abs(got - NETWORK.expected["y"]) / 64
    assert step.max() <= 1.001
    assert (step > 0.5).mean() < 0.01
    assert not any(family.startswith("map_") for family in families), families


def test_packed_weights(start_whole: Start) -> None:
    """Weights of 4 bits are unpacked when the model is compiled."""
    weights = np.random.default_rng(0).integers(-8, 8, (16, 8)).astype(ml_dtypes.int4)
    one = case("int4", "w = DequantizeLinear<axis=1>(q, s) y = MatMul(x, w)", x=(3, 16), s=scale(8))
    expected = one.values["x"] @ (weights.astype(np.float32) * one.values["s"])
    model = model_of(case("int4", "w = DequantizeLinear<axis=1>(q, s) y = MatMul(x, w)", x=one.values["x"],
                          s=one.values["s"], q=np.zeros((16, 8), np.int8)))  # fmt: skip
    packed = next(tensor for tensor in model.graph.initializer if tensor.name == "q")
    packed.CopyFrom(helper.make_tensor("q", 22, weights.shape, weights.astype(np.int8).reshape(-1)))
    with start_whole(model) as executor:
        np.testing.assert_allclose(executor.run({"x": one.values["x"]})["y"], expected, rtol=1e-5, atol=1e-5)
