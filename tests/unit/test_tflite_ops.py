"""Each TensorFlow Lite operator against TensorFlow Lite's own runtime, both given the same file."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx_ir.passes import common

from mace_cl.errors import ModelError
from mace_cl.frontends.read import as_onnx, load
from mace_cl.frontends.tflite.operators import OPS
from support import Array, Outputs, difference, reference
from tflite_models import Net, litert

pytest.importorskip("ai_edge_litert", reason="compares with TensorFlow Lite's runtime (pip install ai-edge-litert)")

Build = Callable[[Net], Any]
Options = dict[int, tuple[str, Any]]

IMAGE = (1, 6, 5, 4)
SAME, VALID = 0, 1


def one(
    name: str, shapes: Sequence[Sequence[int]], result: Sequence[int], options: Options | None = None, *,
    dtype: Any = np.float32, to: Any = None, constants: Sequence[Any] = (), first: bool = False,
) -> Build:  # fmt: skip
    """A net of one operator: inputs of ``shapes``, then (or ``first``) constants."""

    def build(net: Net) -> None:
        given = [net.input(f"x{place}", shape, dtype) for place, shape in enumerate(shapes)]
        fixed = [net.constant(array) for array in constants]
        y = net.tensor("y", result, to or dtype)
        net.outputs.append(net.op(name, [*fixed, *given] if first else [*given, *fixed], y, options))

    return build


def weights(*shape: int) -> Array:
    return np.random.default_rng(len(shape) + shape[0]).standard_normal(shape, dtype=np.float32)


def conv(name: str, kernel: Sequence[int], result: Sequence[int], options: Options, x: Sequence[int] = IMAGE) -> Build:
    biases = kernel[3] if name == "DEPTHWISE_CONV_2D" else kernel[0]
    return one(name, [x], result, options, constants=[weights(*kernel), weights(biases)])


def lstm(net: Net) -> None:
    x = net.input("x0", (2, 3, 4))
    gates = [net.constant(weights(5, 4) * (place + 1) / 4) for place in range(4)]
    states = [net.constant(weights(5, 5) * (place + 1) / 5) for place in range(4)]
    biases = [net.constant(weights(5) * place) for place in range(4)]
    own = [net.tensor(name, (2, 5), variable=True) for name in ("state", "cell")]
    inputs = [x, *gates, *states, -1, -1, -1, *biases, -1, -1, *own, -1, -1, -1, -1]
    y = net.tensor("y", (2, 3, 5))
    net.outputs.append(net.op("UNIDIRECTIONAL_SEQUENCE_LSTM", inputs, y, {0: ("b", 4)}))


def image_road(net: Net) -> None:
    """Layouts: a convolution, ops that may stay in its layout, ops that may not."""
    x = net.input("x0", IMAGE)
    kernel, bias = net.constant(weights(8, 3, 3, 4)), net.constant(weights(8))
    a = net.op("CONV_2D", [x, kernel, bias], net.tensor("a", (1, 6, 5, 8)), {1: ("i", 1), 2: ("i", 1), 3: ("b", 1)})
    b = net.op("MUL", [a, net.constant(weights(8))], net.tensor("b", (1, 6, 5, 8)))
    c = net.op("ADD", [b, net.constant(weights(5, 1))], net.tensor("c", (1, 6, 5, 8)))
    halves = [net.tensor(f"half{place}", (1, 6, 5, 4)) for place in range(2)]
    net.op("SPLIT", [net.constant(np.array(3, np.int32)), c], halves, {0: ("i", 2)})
    d = net.op("CONCATENATION", [halves[1], halves[0], x], net.tensor("d", (1, 6, 5, 12)), {0: ("i", -1)})
    e = net.op("TRANSPOSE", [d, net.constant([0, 3, 1, 2])], net.tensor("e", (1, 12, 6, 5)))
    f = net.op("MEAN", [d, net.constant([1, 2])], net.tensor("f", (1, 12)))
    g = net.op("MEAN", [d, net.constant([3])], net.tensor("g", (1, 6, 5)))
    h = net.op("STRIDED_SLICE", [d, *map(net.constant, ([0, 1, 4, 0], [1, 9, 0, 3], [1, 2, -2, 1]))],
               net.tensor("h", (1, 3, 2, 12)), {0: ("i", 8), 1: ("i", 8)})  # fmt: skip
    i = net.op("SOFTMAX", [d], net.tensor("i", (1, 6, 5, 12)), {0: ("f", 1.0)})
    j = net.op("RESHAPE", [d, net.constant([1, -1])], net.tensor("j", (1, 360)), {0: ("v", [1, -1])})
    net.outputs += [a, c, e, f, g, h, i, j]


def dilated_by_blocks(net: Net) -> None:
    x = net.input("x0", (1, 7, 6, 3))
    pads = net.constant([[2, 3], [2, 2]])
    a = net.op("SPACE_TO_BATCH_ND", [x, net.constant([2, 2]), pads], net.tensor("a", (4, 6, 5, 3)))
    kernel, bias = net.constant(weights(2, 3, 3, 3)), net.constant(weights(2))
    options: Options = {0: ("b", VALID), 1: ("i", 1), 2: ("i", 1), 3: ("b", 1)}
    b = net.op("CONV_2D", [a, kernel, bias], net.tensor("b", (4, 4, 3, 2)), options)
    crops = net.constant([[0, 1], [0, 0]])
    net.outputs.append(net.op("BATCH_TO_SPACE_ND", [b, net.constant([2, 2]), crops], net.tensor("y", (1, 7, 6, 2))))


def scatter(net: Net) -> None:
    x = net.input("x0", (2, 4))
    inputs = [net.constant([[1], [3]]), x, net.constant([5, 4])]
    net.outputs.append(net.op("SCATTER_ND", inputs, net.tensor("y", (5, 4))))


def halves(net: Net) -> None:
    x = net.input("x0", IMAGE)
    stored = net.constant(weights(2, 3, 3, 4).astype(np.float16), np.float16)
    kernel = net.op("DEQUANTIZE", [stored], net.tensor("kernel", (2, 3, 3, 4)))
    inputs = [x, kernel, net.constant(weights(2))]
    net.outputs.append(net.op("CONV_2D", inputs, net.tensor("y", (1, 6, 5, 2)), {1: ("i", 1), 2: ("i", 1)}))


def hybrid_weights(net: Net) -> None:
    """Weights of four bits, made real before use."""
    x = net.input("x0", (3, 6))
    stored = net.constant(np.arange(-8, 4).reshape(2, 6), ml_dtypes.int4, scales=0.5, zeros=0)
    kernel = net.op("DEQUANTIZE", [stored], net.tensor("kernel", (2, 6)))
    net.outputs.append(net.op("FULLY_CONNECTED", [x, kernel, -1], net.tensor("y", (3, 2))))


UNARY = {
    "ABS": {}, "CEIL": {}, "COS": {}, "ELU": {}, "EXP": {}, "FLOOR": {}, "HARD_SWISH": {}, "LOGISTIC": {}, "NEG": {},
    "RELU": {}, "RELU6": {}, "RELU_N1_TO_1": {}, "RELU_0_TO_1": {}, "ROUND": {}, "SIGN": {}, "SIN": {}, "SQUARE": {},
    "TANH": {}, "ZEROS_LIKE": {}, "LEAKY_RELU": {0: ("f", 0.3)}, "GELU": {0: ("?", False)}, "LOG_SOFTMAX": {},
    "SOFTMAX": {0: ("f", 0.5)}, "L2_NORMALIZATION": {},
    "LOCAL_RESPONSE_NORMALIZATION": {0: ("i", 2), 1: ("f", 1.5), 2: ("f", 0.7), 3: ("f", 0.6)},
}  # fmt: skip
BINARY = ("ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE", "FLOOR_DIV", "FLOOR_MOD")
COMPARE = ("EQUAL", "NOT_EQUAL", "LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL")
REDUCE = {"MEAN": 0, "SUM": 0, "REDUCE_PROD": 0, "REDUCE_MAX": 0, "REDUCE_MIN": 0}
AXES_1 = np.array(1, np.int32)


def i32(*values: int) -> Array:
    return np.array(values, np.int32)


FLOAT: dict[str, Build] = {
    **{name: one(name, [IMAGE], IMAGE, options) for name, options in UNARY.items()},  # type: ignore[arg-type]
    **{name: one(name, [IMAGE, (5, 4)], IMAGE) for name in BINARY},
    **{f"{name} relu": one(name, [IMAGE, IMAGE], IMAGE, {0: ("b", kind)}) for name, kind in
       {"ADD": 1, "SUB": 3, "MUL": 2, "DIV": 1}.items()},
    **{name: one(name, [IMAGE, (4,)], IMAGE, to=np.bool_) for name in COMPARE},
    **{name: one(name, [IMAGE], (1, 6, 4), {0: ("?", False)}, constants=[i32(2)]) for name in REDUCE},
    **{f"{name} kept": one(name, [IMAGE], (1, 1, 1, 4), {0: ("?", True)}, constants=[i32(1, -2)]) for name in REDUCE},
    "ADD_N": one("ADD_N", [IMAGE] * 3, IMAGE),
    "ARG_MAX": one("ARG_MAX", [IMAGE], (1, 6, 5), {0: ("b", 4)}, constants=[np.array(-1, np.int32)], to=np.int64),
    "ARG_MIN": one("ARG_MIN", [IMAGE], (1, 5, 4), {0: ("b", 2)}, constants=[AXES_1], to=np.int32),
    "AVERAGE_POOL_2D": one(
        "AVERAGE_POOL_2D", [IMAGE], (1, 3, 3, 4), {1: ("i", 2), 2: ("i", 2), 3: ("i", 3), 4: ("i", 3)}),
    "BATCH_MATMUL": one("BATCH_MATMUL", [(2, 3, 4), (2, 5, 4)], (2, 3, 5), {1: ("?", True)}),
    "BATCH_MATMUL adjoint": one("BATCH_MATMUL", [(2, 4, 3)], (2, 3, 5), {0: ("?", True)}, constants=[weights(2, 4, 5)]),
    "BATCH_TO_SPACE_ND": one(
        "BATCH_TO_SPACE_ND", [(4, 2, 3, 3)], (1, 3, 5, 3), constants=[i32(2, 2), [[0, 1], [1, 0]]]),
    "BROADCAST_TO": one("BROADCAST_TO", [(1, 4)], (3, 4), constants=[i32(3, 4)]),
    "CAST": one("CAST", [IMAGE], IMAGE, {0: ("b", 0), 1: ("b", 2)}, to=np.int32),
    "CONCATENATION": one("CONCATENATION", [IMAGE, IMAGE], (1, 12, 5, 4), {0: ("i", 1)}),
    "CONV_2D same": conv(
        "CONV_2D", (7, 3, 2, 4), (1, 3, 3, 7), {0: ("b", SAME), 1: ("i", 2), 2: ("i", 2), 3: ("b", 3)}),
    "CONV_2D valid": conv("CONV_2D", (7, 3, 3, 4), (1, 4, 2, 7), {0: ("b", VALID), 1: ("i", 2), 2: ("i", 1)}),
    "CONV_2D dilated": conv(
        "CONV_2D", (2, 3, 3, 4), (1, 6, 5, 2), {1: ("i", 1), 2: ("i", 1), 4: ("i", 2), 5: ("i", 3)}),
    "CONV_2D grouped": conv("CONV_2D", (6, 3, 3, 2), (1, 6, 5, 6), {1: ("i", 1), 2: ("i", 1)}),
    "CONV_3D": one("CONV_3D", [(1, 4, 6, 5, 2)], (1, 2, 3, 3, 3), {1: ("i", 2), 2: ("i", 2), 3: ("i", 2)},
                   constants=[weights(2, 3, 3, 2, 3), weights(3)]),
    "CUMSUM": one("CUMSUM", [(3, 4)], (3, 4), {0: ("?", True), 1: ("?", True)}, constants=[AXES_1]),
    "DEPTHWISE_CONV_2D": conv("DEPTHWISE_CONV_2D", (1, 3, 3, 4), (1, 3, 3, 4), {1: ("i", 2), 2: ("i", 2), 3: ("i", 1)}),
    "DEPTHWISE_CONV_2D multiplied": conv(
        "DEPTHWISE_CONV_2D", (1, 3, 3, 12), (1, 4, 3, 12), {0: ("b", VALID), 1: ("i", 1), 2: ("i", 1), 3: ("i", 3)}),
    "DEPTH_TO_SPACE": one("DEPTH_TO_SPACE", [(1, 2, 3, 12)], (1, 4, 6, 3), {0: ("i", 2)}),
    "EMBEDDING_LOOKUP": one(
        "EMBEDDING_LOOKUP", [(3,)], (3, 4), constants=[weights(7, 4)], dtype=np.int32, to=np.float32),
    "EXPAND_DIMS": one("EXPAND_DIMS", [(3, 4)], (3, 1, 4), constants=[AXES_1]),
    "FAKE_QUANT": one("FAKE_QUANT", [IMAGE], IMAGE, {0: ("f", -0.7), 1: ("f", 1.3), 2: ("i", 8)}),
    "FILL": one("FILL", [()], (2, 3), constants=[i32(2, 3)], first=True),
    "FULLY_CONNECTED": one(
        "FULLY_CONNECTED", [(2, 3, 4)], (6, 5), {0: ("b", 1)}, constants=[weights(5, 4), weights(5)]),
    "FULLY_CONNECTED kept": one(
        "FULLY_CONNECTED", [(2, 3, 4)], (2, 3, 5), {2: ("?", True)}, constants=[weights(5, 4), weights(5)]),
    "GATHER": one("GATHER", [(3, 4, 5)], (3, 2, 5), {0: ("i", 1)}, constants=[i32(3, 0)]),
    "GATHER batched": one(
        "GATHER", [(2, 4, 5)], (2, 3, 5), {0: ("i", 1), 1: ("i", 1)}, constants=[[[3, 0, 1], [0, 1, 1]]]),
    "GATHER_ND": one("GATHER_ND", [(3, 4, 5)], (2, 5), constants=[[[0, 1], [2, 3]]]),
    "L2_POOL_2D": one(
        "L2_POOL_2D", [IMAGE], (1, 3, 2, 4), {0: ("b", VALID), 1: ("i", 2), 2: ("i", 2), 3: ("i", 2), 4: ("i", 2)}),
    "MAX_POOL_2D": one(
        "MAX_POOL_2D", [IMAGE], (1, 3, 3, 4), {1: ("i", 2), 2: ("i", 2), 3: ("i", 3), 4: ("i", 2), 5: ("b", 1)}),
    "MIRROR_PAD": one("MIRROR_PAD", [IMAGE], (1, 9, 6, 4), {0: ("b", 0)}, constants=[[[0, 0], [2, 1], [0, 1], [0, 0]]]),
    "MIRROR_PAD symmetric": one(
        "MIRROR_PAD", [IMAGE], (1, 9, 6, 4), {0: ("b", 1)}, constants=[[[0, 0], [2, 1], [0, 1], [0, 0]]]),
    "ONE_HOT": one("ONE_HOT", [(4,)], (4, 5), {0: ("i", -1)}, dtype=np.int32, to=np.float32,
                   constants=[np.array(5, np.int32), np.array(2, np.float32), np.array(-1, np.float32)]),
    "PACK": one("PACK", [(3, 4)] * 2, (3, 2, 4), {0: ("i", 2), 1: ("i", 1)}),
    "PAD": one("PAD", [IMAGE], (1, 9, 6, 7), constants=[[[0, 0], [2, 1], [0, 1], [1, 2]]]),
    "PADV2": one(
        "PADV2", [IMAGE], (1, 9, 5, 4), constants=[[[0, 0], [2, 1], [0, 0], [0, 0]], np.array(0.5, np.float32)]),
    "PRELU": one("PRELU", [IMAGE], IMAGE, constants=[weights(1, 1, 4)]),
    "RANGE": one(
        "RANGE", [()], (4,), dtype=np.int32, first=True, constants=[np.array(0, np.int32), np.array(9, np.int32)]),
    "RANK": one("RANK", [IMAGE], (), to=np.int32),
    "RESHAPE": one("RESHAPE", [IMAGE], (1, 30, 4), {0: ("v", [1, -1, 4])}),
    "RESIZE_BILINEAR": one("RESIZE_BILINEAR", [IMAGE], (1, 9, 11, 4), constants=[i32(9, 11)]),
    "RESIZE_BILINEAR corners": one("RESIZE_BILINEAR", [IMAGE], (1, 9, 11, 4), {2: ("?", True)}, constants=[i32(9, 11)]),
    "RESIZE_BILINEAR centres": one("RESIZE_BILINEAR", [IMAGE], (1, 9, 3, 4), {3: ("?", True)}, constants=[i32(9, 3)]),
    "RESIZE_NEAREST_NEIGHBOR": one("RESIZE_NEAREST_NEIGHBOR", [IMAGE], (1, 9, 11, 4), constants=[i32(9, 11)]),
    "RESIZE_NEAREST_NEIGHBOR corners": one(
        "RESIZE_NEAREST_NEIGHBOR", [IMAGE], (1, 9, 11, 4), {0: ("?", True)}, constants=[i32(9, 11)]),
    "RESIZE_NEAREST_NEIGHBOR centres": one(
        "RESIZE_NEAREST_NEIGHBOR", [IMAGE], (1, 9, 3, 4), {1: ("?", True)}, constants=[i32(9, 3)]),
    "REVERSE_SEQUENCE": one("REVERSE_SEQUENCE", [(2, 5, 3)], (2, 5, 3), {0: ("i", 1)}, constants=[i32(3, 5)]),
    "REVERSE_V2": one("REVERSE_V2", [IMAGE], IMAGE, constants=[i32(1)]),
    "SCATTER_ND": scatter,
    "SHAPE": one("SHAPE", [IMAGE], (4,), {0: ("b", 2)}, to=np.int32),
    "SLICE": one("SLICE", [IMAGE], (1, 3, 5, 2), constants=[i32(0, 2, 0, 1), i32(1, 3, -1, 2)]),
    "SPACE_TO_BATCH_ND": one(
        "SPACE_TO_BATCH_ND", [(1, 3, 5, 3)], (4, 2, 3, 3), constants=[i32(2, 2), [[0, 1], [1, 0]]]),
    "SPACE_TO_DEPTH": one("SPACE_TO_DEPTH", [(1, 4, 6, 3)], (1, 2, 3, 12), {0: ("i", 2)}),
    "SQUEEZE": one("SQUEEZE", [(1, 3, 1, 4)], (1, 3, 4), {0: ("v", [-2])}),
    "STRIDED_SLICE dropped": one("STRIDED_SLICE", [(3, 4, 5)], (4, 3), {0: ("i", 2), 1: ("i", 2), 4: ("i", 1)},
                                 constants=[i32(-1, 0, 0), i32(0, 0, 5), i32(1, 1, 2)]),
    "STRIDED_SLICE new": one("STRIDED_SLICE", [(3, 4, 5)], (3, 1, 4, 2), {2: ("i", 1), 3: ("i", 2)},
                             constants=[i32(0, 0, 0, 1), i32(0, 0, 4, 3), i32(1, 1, 1, 1)]),
    "TILE": one("TILE", [(2, 3)], (4, 9), constants=[i32(2, 3)]),
    "TRANSPOSE": one("TRANSPOSE", [(2, 3, 4)], (4, 2, 3), constants=[i32(2, 0, 1)]),
    "TRANSPOSE_CONV same": one("TRANSPOSE_CONV", [IMAGE], (1, 11, 10, 3), {1: ("i", 2), 2: ("i", 2)}, first=True,
                               constants=[i32(1, 11, 10, 3), weights(3, 3, 3, 4)]),
    "TRANSPOSE_CONV small": one("TRANSPOSE_CONV", [IMAGE], (1, 12, 10, 3), {1: ("i", 2), 2: ("i", 2)}, first=True,
                                constants=[i32(1, 12, 10, 3), weights(3, 1, 1, 4)]),
    "TRANSPOSE_CONV valid": one("TRANSPOSE_CONV", [IMAGE], (1, 13, 11, 3), {0: ("b", VALID), 1: ("i", 2), 2: ("i", 2)},
                                first=True, constants=[i32(1, 13, 11, 3), weights(3, 3, 3, 4)]),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": lstm,
    "a road of images": image_road,
    "a convolution dilated by blocks": dilated_by_blocks,
    "weights stored as halves": halves,
    "weights of four bits": hybrid_weights,
}  # fmt: skip


def several(name: str, shape: Sequence[int], results: Sequence[Sequence[int]], options: Options, *constants: Any,
            kinds: Sequence[Any] = (), first: bool = False) -> Build:  # fmt: skip
    def build(net: Net) -> None:
        x, fixed = net.input("x0", shape), [net.constant(array) for array in constants]
        types = kinds or [np.float32] * len(results)
        made = [
            net.tensor(f"y{place}", result, kind)
            for place, (result, kind) in enumerate(zip(results, types, strict=True))
        ]
        net.op(name, [*fixed, x] if first else [x, *fixed], made, options)
        net.outputs += made

    return build


FLOAT |= {
    "SPLIT": several("SPLIT", IMAGE, [(1, 3, 5, 4)] * 2, {0: ("i", 2)}, AXES_1, first=True),
    "SPLIT_V": several("SPLIT_V", IMAGE, [(1, 1, 5, 4), (1, 5, 5, 4)], {0: ("i", 2)}, i32(1, -1), AXES_1),
    "UNPACK": several("UNPACK", (3, 2, 4), [(3, 4)] * 2, {0: ("i", 2), 1: ("i", 1)}),
    "TOPK_V2": several("TOPK_V2", (3, 7), [(3, 2)] * 2, {}, np.array(2, np.int32), kinds=[np.float32, np.int32]),
}
INTEGER = {
    f"{name} of integers": one(name, [(3, 4), (4,)], (3, 4), dtype=np.int32)
    for name in ("ADD", "SUB", "MUL", "MAXIMUM", "FLOOR_DIV", "FLOOR_MOD", "BITWISE_XOR")
}
POSITIVE = {
    **{name: one(name, [IMAGE], IMAGE) for name in ("LOG", "SQRT", "RSQRT")},
    "POW": one("POW", [IMAGE, (4,)], IMAGE),
}
LOGIC = {
    **{name: one(name, [(3, 4), (3, 4)], (3, 4), dtype=np.bool_) for name in ("LOGICAL_AND", "LOGICAL_OR")},
    "LOGICAL_NOT": one("LOGICAL_NOT", [(3, 4)], (3, 4), dtype=np.bool_),
    "SELECT": one(
        "SELECT", [(3,)], (3, 4), dtype=np.bool_, to=np.float32, constants=[weights(3, 4), weights(3, 4) + 1]),
    "SELECT_V2": one(
        "SELECT_V2", [(3, 4)], (3, 4), dtype=np.bool_, to=np.float32, constants=[weights(4), weights(1, 4)]),
    "REDUCE_ANY": one("REDUCE_ANY", [(3, 4)], (3,), dtype=np.bool_, constants=[i32(1)]),
    "REDUCE_ALL": one("REDUCE_ALL", [(3, 4)], (3,), dtype=np.bool_, constants=[i32(1)]),
    "WHERE": one("WHERE", [(3, 4)], (7, 2), dtype=np.bool_, to=np.int64),
}  # fmt: skip
CASES = FLOAT | INTEGER | POSITIVE | LOGIC


def inputs_of(net: Net, key: str, positive: bool = False) -> Outputs:
    random = np.random.default_rng(zlib.crc32(key.encode()))
    found: Outputs = {}
    for index in net.inputs:
        tensor = net.tensors[index]
        if tensor.dtype is np.float32:
            array = random.standard_normal(tensor.shape).astype(np.float32)
            found[tensor.name] = np.abs(array) + np.float32(0.1) if positive else array
        elif tensor.dtype is np.bool_:
            found[tensor.name] = random.random(tensor.shape) < 0.5
        elif tensor.scales:
            ends = np.iinfo(tensor.dtype)
            found[tensor.name] = random.integers(ends.min, ends.max, tensor.shape, tensor.dtype, endpoint=True)
        else:
            found[tensor.name] = random.integers(1, 5, tensor.shape).astype(tensor.dtype)
    return found


def ours(data: bytes, inputs: Outputs) -> Outputs:
    """The outputs of the graph that the frontend makes, in ONNX Runtime without its optimiser."""
    model = as_onnx(load(data), data)
    assert isinstance(model, bytes)
    proto = onnx.load_from_string(model)
    onnx.checker.check_model(proto)
    return reference(proto, inputs)


@pytest.mark.parametrize("name", CASES)
def test_operator(name: str) -> None:
    net = Net()
    CASES[name](net)
    data, inputs = net.build(), inputs_of(net, name, name in POSITIVE)
    got, expected = ours(data, inputs), litert(data, inputs)
    assert got.keys() == expected.keys()
    for key, array in expected.items():
        assert got[key].dtype == array.dtype, key
        assert difference(got[key], array) <= (1e-5 if array.dtype == np.float32 else 0), key


def test_images_stay_as_they_are() -> None:
    """Layouts change where they must: at the input, before a reshape, for outputs."""
    net = Net()
    image_road(net)
    net.outputs = [index for index, tensor in enumerate(net.tensors) if tensor.name in ("f", "j")]
    model = load(net.build())
    common.RemoveUnusedNodesPass()(model)
    assert Counter(node.op_type for node in model.graph)["Transpose"] == 2


X, W, B, Y = ({"scales": 0.05, "zeros": 3}, {"scales": 0.02}, {"scales": 0.001}, {"scales": 0.11, "zeros": -7})
EACH = [0.01, 0.02, 0.005, 0.03, 0.015, 0.02, 0.01]


def on_grid(
    name: str, shape: Sequence[int], result: Sequence[int], options: Options | None = None, *, count: int = 1,
    dtype: Any = np.int8, x: Any = X, y: Any = Y, constants: Sequence[Any] = (), first: bool = False,
) -> Build:  # fmt: skip
    """A quantised net of one operator; ``constants`` are arrays or arrays with their grid."""

    def build(net: Net) -> None:
        given = [net.input(f"x{place}", shape, dtype, **x) for place in range(count)]
        fixed = [net.constant(one[0], **one[1]) if isinstance(one, tuple) else net.constant(one) for one in constants]
        net.outputs.append(
            net.op(name, [*fixed, *given] if first else [*given, *fixed], net.tensor("y", result, dtype, **y), options)
        )

    return build


def bytes_(*shape: int, dtype: Any = np.int8) -> Array:
    ends = np.iinfo(dtype)
    return np.random.default_rng(shape[0]).integers(ends.min + (ends.min < 0), ends.max, shape, dtype, endpoint=True)


UINT: dict[str, Any] = {"x": {"scales": 0.05, "zeros": 121}, "y": {"scales": 0.11, "zeros": 117}, "dtype": np.uint8}
STRIDE = {1: ("i", 1), 2: ("i", 1)}
PROBABILITY = {"scales": 1 / 256, "zeros": -128}
CONV_BIAS = np.arange(-300, 400, 100).astype(np.int32)

ON_GRID: dict[str, Build] = {
    "CONV_2D by tensor": on_grid("CONV_2D", IMAGE, (1, 6, 5, 7), STRIDE, y={"scales": 0.4, "zeros": -7},
                                 constants=[(bytes_(7, 3, 3, 4), W), (CONV_BIAS, B)]),
    "CONV_2D by channel": on_grid(
        "CONV_2D", IMAGE, (1, 6, 5, 7), {**STRIDE, 3: ("b", 3)}, y={"scales": 0.04, "zeros": -128},
        constants=[(bytes_(7, 3, 3, 4), {"scales": EACH, "axis": 0}),
                   (CONV_BIAS, {"scales": [0.05 * s for s in EACH], "axis": 0})]),
    "CONV_2D of uint8": on_grid(
        "CONV_2D", IMAGE, (1, 6, 5, 7), STRIDE, **{**UINT, "y": {"scales": 0.5, "zeros": 117}},
        constants=[(bytes_(7, 3, 3, 4, dtype=np.uint8), {"scales": 0.02, "zeros": 122}), (CONV_BIAS, B)]),
    "DEPTHWISE_CONV_2D by channel": on_grid(
        "DEPTHWISE_CONV_2D", IMAGE, IMAGE, {**STRIDE, 3: ("i", 1)},
        constants=[(bytes_(1, 3, 3, 4), {"scales": EACH[:4], "axis": 3}),
                   (CONV_BIAS[:4], {"scales": [0.05 * s for s in EACH[:4]], "axis": 0})]),
    "FULLY_CONNECTED": on_grid("FULLY_CONNECTED", (3, 20), (3, 7),
                               constants=[(bytes_(7, 20), W), (CONV_BIAS, B)], y={"scales": 0.2, "zeros": 5}),
    "TRANSPOSE_CONV": on_grid("TRANSPOSE_CONV", IMAGE, (1, 12, 10, 3), {1: ("i", 2), 2: ("i", 2)}, first=True,
                              y={"scales": 0.3, "zeros": 5}, constants=[i32(1, 12, 10, 3), (bytes_(3, 3, 3, 4), W)]),
    "ADD": on_grid("ADD", IMAGE, IMAGE, {0: ("b", 1)}, count=2),
    "ADD of uint8": on_grid("ADD", IMAGE, IMAGE, count=2, **UINT),
    "SUB": on_grid("SUB", IMAGE, IMAGE, count=2),
    "MUL": on_grid("MUL", IMAGE, IMAGE, count=2, y={"scales": 0.4, "zeros": 1}),
    "MAXIMUM": on_grid("MAXIMUM", IMAGE, IMAGE, count=2, y=X),
    "CONCATENATION": on_grid("CONCATENATION", IMAGE, (1, 6, 5, 8), {0: ("i", 3)}, count=2, y=X),
    "AVERAGE_POOL_2D": on_grid(
        "AVERAGE_POOL_2D", IMAGE, (1, 5, 4, 4), {0: ("b", 1), **STRIDE, 3: ("i", 2), 4: ("i", 2)}, y=X),
    "MAX_POOL_2D": on_grid("MAX_POOL_2D", IMAGE, (1, 5, 4, 4), {0: ("b", 1), **STRIDE, 3: ("i", 2), 4: ("i", 2)}, y=X),
    "MEAN": on_grid("MEAN", IMAGE, (1, 4), constants=[i32(1, 2)]),
    "SOFTMAX": on_grid("SOFTMAX", (3, 10), (3, 10), {0: ("f", 1.0)}, y=PROBABILITY),
    "LOGISTIC": on_grid("LOGISTIC", IMAGE, IMAGE, y=PROBABILITY),
    "TANH": on_grid("TANH", IMAGE, IMAGE, y={"scales": 1 / 128, "zeros": 0}),
    "HARD_SWISH": on_grid("HARD_SWISH", IMAGE, IMAGE, y={"scales": 0.04, "zeros": -100}),
    "LEAKY_RELU": on_grid("LEAKY_RELU", IMAGE, IMAGE, {0: ("f", 0.2)}),
    "RELU6": on_grid("RELU6", IMAGE, IMAGE, y={"scales": 6 / 255, "zeros": -128}),
    "PRELU": on_grid("PRELU", IMAGE, IMAGE, constants=[(bytes_(1, 1, 4), W)], y={"scales": 0.3, "zeros": 0}),
    "PAD": on_grid("PAD", IMAGE, (1, 9, 6, 4), constants=[[[0, 0], [2, 1], [0, 1], [0, 0]]], y=X),
    "RESHAPE": on_grid("RESHAPE", IMAGE, (1, 120), {0: ("v", [1, -1])}, y=X),
    "QUANTIZE again": on_grid("QUANTIZE", IMAGE, IMAGE),
    "RESIZE_BILINEAR": on_grid("RESIZE_BILINEAR", IMAGE, (1, 9, 11, 4), {3: ("?", True)}, constants=[i32(9, 11)], y=X),
    "RESIZE_NEAREST_NEIGHBOR": on_grid("RESIZE_NEAREST_NEIGHBOR", IMAGE, (1, 9, 11, 4), constants=[i32(9, 11)], y=X),
    "REDUCE_MAX": on_grid("REDUCE_MAX", IMAGE, (1, 6, 5), constants=[i32(3)], y=X),
    "SUM": on_grid("SUM", IMAGE, (1, 6, 5), constants=[i32(3)], y={"scales": 0.3, "zeros": 0}),
    "L2_NORMALIZATION": on_grid("L2_NORMALIZATION", IMAGE, IMAGE, y={"scales": 1 / 128, "zeros": 0}),
    "BATCH_MATMUL": on_grid("BATCH_MATMUL", (2, 4, 4), (2, 4, 4), count=2, y={"scales": 0.5, "zeros": 0}),
    "ADD of int16": on_grid("ADD", IMAGE, IMAGE, count=2, dtype=np.int16, x={"scales": 1e-4}, y={"scales": 2e-4}),
    "STRIDED_SLICE": on_grid("STRIDED_SLICE", IMAGE, (1, 3, 5, 4), y=X,
                             constants=[i32(0, 0, 0, 0), i32(1, 6, 5, 4), i32(1, 2, 1, 1)]),
    "GATHER": on_grid("GATHER", (3, 4), (2, 4), constants=[i32(2, 0)], y=X),
}  # fmt: skip


@pytest.mark.parametrize("name", ON_GRID)
def test_quantised_operator(name: str) -> None:
    """Never more than a step from the reference."""
    net = Net()
    ON_GRID[name](net)
    data, inputs = net.build(), inputs_of(net, name)
    got, expected = ours(data, inputs)["y"], litert(data, inputs)["y"]
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    assert np.ptp(expected.astype(np.int64)) > 5, "the case says little"
    steps = np.abs(got.astype(np.int64) - expected)
    print(f"{name}: {np.mean(steps == 0):.2%} equal")
    assert steps.max() <= 1


def test_all_operators_have_a_case() -> None:
    tried = {name.partition(" ")[0] for name in (*CASES, *ON_GRID)} | {"DEQUANTIZE"}
    elsewhere = {"TFLite_Detection_PostProcess", "NON_MAX_SUPPRESSION_V4", "Convolution2DTransposeBias"}
    assert set(OPS) - tried - elsewhere == set()


class TestDetection:
    """``TFLite_Detection_PostProcess`` and ONNX's way to the same boxes."""

    ANCHORS = np.array([[0.2 * row + 0.1, 0.2 * column + 0.1, 0.25, 0.3] for row in range(5) for column in range(5)])

    def net(self, regular: bool, classes: int = 3, most: int = 6) -> bytes:
        net = Net()
        x = net.input("x0", (1, 25, 4))
        scores = net.input("scores", (1, 25, classes + 1))
        shapes = [(1, most, 4), (1, most), (1, most), (1,)]
        outputs = [net.tensor(f"y{place}", shape) for place, shape in enumerate(shapes)]
        options = flexbuffer({
            "detections_per_class": 4, "h_scale": 5.0, "max_classes_per_detection": 1, "max_detections": most,
            "nms_iou_threshold": 0.4, "nms_score_threshold": 0.3, "num_classes": classes,
            "use_regular_nms": regular, "w_scale": 5.0, "x_scale": 10.0, "y_scale": 10.0,
        })  # fmt: skip
        net.op("TFLite_Detection_PostProcess", [x, scores, net.constant(self.ANCHORS)], outputs, {}, options)
        net.outputs += outputs
        return net.build()

    @pytest.mark.parametrize("regular", [False, True])
    @pytest.mark.parametrize("found", [1.0, 0.31, 0.1], ids=["many", "few", "none"])
    def test_boxes(self, regular: bool, found: float) -> None:
        random = np.random.default_rng(7)
        inputs = {
            "x0": random.standard_normal((1, 25, 4)).astype(np.float32),
            "scores": (random.random((1, 25, 4)) * found).astype(np.float32),
        }
        data = self.net(regular)
        got, expected = ours(data, inputs), litert(data, inputs)
        count = int(expected["y3"].item())
        assert got["y3"].tolist() == [count]
        for name in ("y0", "y1", "y2"):
            # TensorFlow Lite leaves what it pads with unset; here it is zeros
            assert np.allclose(got[name][0, :count], expected[name][0, :count], atol=1e-6), name
            assert not got[name][0, count:].any()

    def test_options_that_are_damaged(self) -> None:
        data = bytearray(self.net(False))
        data[data.index(b"num_classes")] = 0
        with pytest.raises(ModelError):
            load(bytes(data))


def flexbuffer(entries: dict[str, float | bool]) -> bytes:
    """A map of numbers as TensorFlow Lite's converter writes it: https://flatbuffers.dev/internals/."""
    from flatbuffers.flexbuffers import Builder

    builder = Builder()
    with builder.Map():
        for name, value in entries.items():
            builder.Key(name)
            (builder.Bool if isinstance(value, bool) else builder.Int if isinstance(value, int) else builder.Float)(
                value
            )
    return bytes(builder.Finish())


def test_non_maximum_suppression() -> None:
    net = Net()
    boxes, scores = net.input("x0", (20, 4)), net.input("x1", (20,))
    limits = [np.array(6, np.int32), np.array(0.4, np.float32), np.array(0.2, np.float32)]
    outputs = [net.tensor("y0", (6,), np.int32), net.tensor("y1", (), np.int32)]
    net.op("NON_MAX_SUPPRESSION_V4", [boxes, scores, *map(net.constant, limits)], outputs)
    net.outputs += outputs
    random = np.random.default_rng(3)
    corner = random.random((20, 2))
    inputs = {
        "x0": np.concatenate([corner, corner + random.random((20, 2)) / 2], axis=1).astype(np.float32),
        "x1": random.random(20).astype(np.float32),
    }
    data = net.build()
    got, expected = ours(data, inputs), litert(data, inputs)
    count = int(expected["y1"])
    assert 0 < count == got["y1"]
    assert got["y0"].tolist()[:count] == expected["y0"].tolist()[:count]
    assert not got["y0"][count:].any()


def test_transposed_convolution_of_mediapipe() -> None:
    """A custom op that TensorFlow Lite's own runtime lacks: as the built-in one, with a bias."""
    options = np.array([1, 2, 2], "<i4").tobytes()
    kernel, bias = weights(3, 3, 3, 4), weights(3)
    custom, plain = Net(), Net()
    x = custom.input("x0", IMAGE)
    inputs = [x, custom.constant(kernel), custom.constant(bias)]
    custom.outputs.append(
        custom.op("Convolution2DTransposeBias", inputs, custom.tensor("y", (1, 12, 10, 3)), {}, options)
    )
    x = plain.input("x0", IMAGE)
    inputs = [plain.constant([1, 12, 10, 3]), plain.constant(kernel), x]
    strides: Options = {1: ("i", 2), 2: ("i", 2)}
    a = plain.op("TRANSPOSE_CONV", inputs, plain.tensor("a", (1, 12, 10, 3)), strides)
    plain.outputs.append(plain.op("ADD", [a, plain.constant(bias)], plain.tensor("y", (1, 12, 10, 3))))
    given = inputs_of(plain, "mediapipe")
    assert difference(ours(custom.build(), given)["y"], litert(plain.build(), given)["y"]) <= 1e-5
