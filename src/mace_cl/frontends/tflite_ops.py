"""The mapping of each TensorFlow Lite operator; slots of options are those of TensorFlow's ``schema.fbs``.

Semantics: https://www.tensorflow.org/mlir/tfl_ops and the reference kernels of TensorFlow Lite.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from mace_cl.errors import DamagedError, ModelError
from mace_cl.frontends.flatbuffer import flexbuffer_map
from mace_cl.frontends.tflite import TO_NCHW, Converter, Unmapped
from mace_cl.frontends.tflite_file import Operator

__all__ = ["OPS"]

Mapping = Callable[[Converter, Operator], None]
OPS: dict[str, Mapping] = {}

_INTO_NCHW = {0: 0, 1: 2, 2: 3, 3: 1}
_FLOAT = ir.DataType.FLOAT


def _maps(*names: str) -> Callable[[Mapping], Mapping]:
    def add(mapping: Mapping) -> Mapping:
        OPS.update(dict.fromkeys(names, mapping))
        return mapping

    return add


# element by element


def _elementwise(c: Converter, op: Operator, op_type: str, slot: int | None = None) -> None:
    """``slot`` is the option that fuses an activation."""
    layout, values = c.together(op.inputs)
    value = c.op(op_type, values)
    c.put(op, value if slot is None else c.activated(op, value, slot), layout)


for _name, _op_type in {
    "ABS": "Abs", "ADD_N": "Sum", "CEIL": "Ceil", "COS": "Cos", "ELU": "Elu", "EQUAL": "Equal", "EXP": "Exp",
    "FLOOR": "Floor", "GREATER": "Greater", "GREATER_EQUAL": "GreaterOrEqual", "HARD_SWISH": "HardSwish",
    "LESS": "Less", "LESS_EQUAL": "LessOrEqual", "LOG": "Log", "LOGICAL_AND": "And", "LOGICAL_NOT": "Not",
    "LOGICAL_OR": "Or", "LOGISTIC": "Sigmoid", "MAXIMUM": "Max", "MINIMUM": "Min", "NEG": "Neg", "POW": "Pow",
    "PRELU": "PRelu", "RELU": "Relu", "ROUND": "Round", "SIGN": "Sign", "SIN": "Sin", "SQRT": "Sqrt", "TANH": "Tanh",
    "BITWISE_XOR": "BitwiseXor", "SELECT_V2": "Where",
}.items():  # fmt: skip
    OPS[_name] = partial(_elementwise, op_type=_op_type)
for _name, _op_type in {"ADD": "Add", "DIV": "Div", "MUL": "Mul", "SUB": "Sub"}.items():
    OPS[_name] = partial(_elementwise, op_type=_op_type, slot=0)


def _clip(c: Converter, op: Operator, low: float, high: float) -> None:
    layout, (x,) = c.together(op.inputs)
    c.put(op, c.clip(x, low, high), layout)


OPS |= {
    "RELU6": partial(_clip, low=0.0, high=6.0),
    "RELU_N1_TO_1": partial(_clip, low=-1.0, high=1.0),
    "RELU_0_TO_1": partial(_clip, low=0.0, high=1.0),
}


@_maps("LEAKY_RELU")
def _leaky_relu(c: Converter, op: Operator) -> None:
    layout, values = c.together(op.inputs)
    c.put(op, c.op("LeakyRelu", values, alpha=op.option(0, "f")), layout)


@_maps("GELU")
def _gelu(c: Converter, op: Operator) -> None:
    layout, values = c.together(op.inputs)
    c.put(op, c.op("Gelu", values, approximate="tanh" if op.option(0, "?") else "none"), layout)


@_maps("RSQRT")
def _rsqrt(c: Converter, op: Operator) -> None:
    layout, values = c.together(op.inputs)
    c.put(op, c.op("Reciprocal", [c.op("Sqrt", values)]), layout)


@_maps("SQUARE")
def _square(c: Converter, op: Operator) -> None:
    layout, (x,) = c.together(op.inputs)
    c.put(op, c.op("Mul", [x, x]), layout)


@_maps("SQUARED_DIFFERENCE")
def _squared_difference(c: Converter, op: Operator) -> None:
    layout, values = c.together(op.inputs)
    difference = c.op("Sub", values)
    c.put(op, c.op("Mul", [difference, difference]), layout)


@_maps("NOT_EQUAL")
def _not_equal(c: Converter, op: Operator) -> None:
    layout, values = c.together(op.inputs)
    c.put(op, c.op("Not", [c.op("Equal", values)]), layout)


@_maps("FLOOR_DIV", "FLOOR_MOD")
def _floor_division(c: Converter, op: Operator) -> None:
    layout, (a, b) = c.together(op.inputs)
    if np.issubdtype(c.tensor(op.inputs[0]).dtype, np.integer):
        rest = c.op("Mod", [a, b])  # has the sign of b
        c.put(op, rest if op.name == "FLOOR_MOD" else c.op("Div", [c.op("Sub", [a, rest]), b]), layout)
        return
    quotient = c.op("Floor", [c.op("Div", [a, b])])
    c.put(op, quotient if op.name == "FLOOR_DIV" else c.op("Sub", [a, c.op("Mul", [quotient, b])]), layout)


@_maps("SELECT")
def _select(c: Converter, op: Operator) -> None:
    """As SELECT_V2, but a condition of one dimension chooses whole rows."""
    condition, rank = c.value(op.inputs[0]), c.rank(op.outputs[0])
    if c.rank(op.inputs[0]) == 1 and rank > 1:
        condition = c.op("Reshape", [condition, c.constant([-1, *[1] * (rank - 1)])])
    c.put(op, c.op("Where", [condition, c.value(op.inputs[1]), c.value(op.inputs[2])]))


@_maps("CAST")
def _cast(c: Converter, op: Operator) -> None:
    kind = c.tensor(op.outputs[0]).dtype
    if kind is None or np.issubdtype(kind, np.complexfloating):
        raise Unmapped("casts to a type that ONNX lacks")
    layout, (x,) = c.together(op.inputs[:1])
    c.put(op, c.op("Cast", [x], to=ir.DataType.from_numpy(np.dtype(kind))), layout)


@_maps("QUANTIZE")
def _quantize(c: Converter, op: Operator) -> None:
    layout, (x,) = c.together(op.inputs)
    c.put(op, x, layout, moved=op.inputs[0])


@_maps("DEQUANTIZE")
def _dequantize(c: Converter, op: Operator) -> None:
    index = op.inputs[0]
    if c.is_constant(index):
        c.fold(op, c.array(index).astype(np.float32))
        return
    layout, (x,) = c.together([index])
    if c.tensor(index).dtype == np.float16:
        x = c.op("Cast", [x], to=_FLOAT)
    c.put(op, x, layout)


@_maps("FAKE_QUANT")
def _fake_quant(c: Converter, op: Operator) -> None:
    """The range is moved so that 0 is on the grid (TensorFlow's ``Nudge``)."""
    low, high = op.option(0, "f"), op.option(1, "f")
    first, last = float(op.option(3, "?")), float((1 << op.option(2)) - 1)
    scale = (high - low) / (last - first)
    zero = min(max(first - low / scale, first), last)
    zero = float(np.floor(zero + 0.5))
    layout, (x,) = c.together(op.inputs)
    steps = c.op("Div", [c.clip(x, (first - zero) * scale, (last - zero) * scale), c.constant(scale)])
    c.put(op, c.op("Mul", [c.op("Round", [steps]), c.constant(scale)]), layout)


@_maps("ZEROS_LIKE")
def _zeros_like(c: Converter, op: Operator) -> None:
    zero = np.zeros((), c.tensor(op.inputs[0]).dtype)
    c.put(op, c.op("Expand", [c.constant(zero), c.op("Shape", [c.value(op.inputs[0])])]))


# convolutions and pools


def _window(op: Operator, slots: Sequence[int], default: int = 0) -> list[int]:
    """Rows and columns of strides, sizes or dilations from the options."""
    found = [op.option(slot, "i", default) for slot in slots]
    if any(size < 1 for size in found):
        raise ModelError(f"{op.name} at {op.layer!r} has strides, sizes or dilations {found}; the model is damaged")
    return found


def _padding(op: Operator, slot: int = 0) -> str:
    return "VALID" if op.option(slot, "b") else "SAME_UPPER"


def _bias(c: Converter, op: Operator, place: int) -> list[ir.Value]:
    """The bias as an operand, none if the operator has none."""
    if len(op.inputs) <= place or op.inputs[place] < 0:
        return []
    index = op.inputs[place]
    tensor = c.tensor(index)
    if tensor.dtype in (np.int32, np.int64) and c.is_constant(index) and (
        tensor.grid is None or tensor.dtype == np.int64
    ):  # fmt: skip
        grids = [c.tensor(other).grid for other in op.inputs[:2]]
        scales = [np.array(grid.scales) if grid is not None else np.ones(1) for grid in grids]
        return [c.constant((c.stored(index) * scales[0] * scales[1]).astype(np.float32), index)]
    return [c.weights(index, tuple(range(len(tensor.shape))))]


@_maps("CONV_2D", "DEPTHWISE_CONV_2D")
def _conv_2d(c: Converter, op: Operator) -> None:
    dilations = _window(op, (6, 5) if op.name == "DEPTHWISE_CONV_2D" else (5, 4), 1)
    if _padding(op) == "VALID" or dilations == [1, 1]:
        c.put(op, _convolve(c, op, op.inputs[0], auto_pad=_padding(op)), "nchw")
        return
    # ONNX Runtime takes no auto_pad with dilations
    size, taps, strides = (
        np.array(one) for one in (*(c.tensor(index).shape[1:3] for index in op.inputs[:2]), _window(op, (2, 1)))
    )
    total = np.maximum(0, (-(-size // strides) - 1) * strides + (taps - 1) * dilations + 1 - size)
    pads = [*(total // 2), *(total - total // 2)]
    c.put(op, _convolve(c, op, op.inputs[0], pads=list(map(int, pads))), "nchw")


def _convolve(c: Converter, op: Operator, x: int, **window: object) -> ir.Value:
    """The convolution ``op`` of ``x``, with its activation; ``window`` are attributes in place of its own."""
    w, deep = op.inputs[1], op.name == "DEPTHWISE_CONV_2D"
    depth = c.tensor(x).shape[-1]
    groups = depth if deep else depth // max(1, c.tensor(w).shape[-1])
    settings = {
        "strides": _window(op, (2, 1)), "dilations": _window(op, (6, 5) if deep else (5, 4), 1),
        "kernel_shape": list(c.tensor(w).shape[1:3]), "group": groups if groups > 1 else None,
    }  # fmt: skip
    weights = c.weights(w, (3, 0, 1, 2) if deep else TO_NCHW)
    value = c.op("Conv", [c.image(x), weights, *_bias(c, op, 2)], **{**settings, **window})
    return c.activated(op, value, 4 if deep else 3)


@_maps("CONV_3D")
def _conv_3d(c: Converter, op: Operator) -> None:
    x, w = op.inputs[:2]
    value = c.op(
        "Conv",
        [c.op("Transpose", [c.value(x)], perm=(0, 4, 1, 2, 3)), c.weights(w, (4, 3, 0, 1, 2)), *_bias(c, op, 2)],
        auto_pad=_padding(op), strides=_window(op, (1, 3, 2)), dilations=_window(op, (5, 7, 6), 1),
        kernel_shape=list(c.tensor(w).shape[:3]),
    )  # fmt: skip
    c.put(op, c.op("Transpose", [c.activated(op, value, 4)], perm=(0, 2, 3, 4, 1)))


def _transposed(
    c: Converter, op: Operator, x: int, w: int, result: Sequence[int], padding: str, strides: Sequence[int],
    bias: list[ir.Value],
) -> ir.Value:  # fmt: skip
    """``result`` is the size in rows and columns; the pads are those of the convolution that leads back."""
    begins, ends, more = [], [], []
    for size, own, taps, stride in zip(result, c.tensor(x).shape[1:3], c.tensor(w).shape[1:3], strides, strict=True):
        rows = -(-size // stride) if padding != "VALID" else own
        total = max(0, (rows - 1) * stride + taps - size) if padding != "VALID" else 0
        begins.append(total // 2)
        ends.append(total - total // 2)
        more.append(size - ((rows - 1) * stride + taps - total))
    return c.op(
        "ConvTranspose", [c.image(x), c.weights(w, (3, 0, 1, 2)), *bias], strides=list(strides),
        pads=begins + ends, output_padding=more if any(more) else None, kernel_shape=list(c.tensor(w).shape[1:3]),
    )  # fmt: skip


@_maps("TRANSPOSE_CONV")
def _transpose_conv(c: Converter, op: Operator) -> None:
    result = c.stored(op.inputs[0]).tolist()
    value = _transposed(
        c, op, op.inputs[2], op.inputs[1], result[1:3], _padding(op), _window(op, (2, 1)), _bias_of(c, op)
    )
    c.put(op, c.activated(op, value, 3), "nchw")


def _bias_of(c: Converter, op: Operator) -> list[ir.Value]:
    """The bias of a transposed convolution, whose data come after its weights."""
    index = op.inputs[3] if len(op.inputs) > 3 else -1
    if index < 0:
        return []
    tensor = c.tensor(index)
    return [c.weights(index, tuple(range(len(tensor.shape))))]


@_maps("Convolution2DTransposeBias")
def _mediapipe_transpose_conv(c: Converter, op: Operator) -> None:
    """MediaPipe's custom op; its options are padding (1 same, 2 valid), stride of columns, stride of rows."""
    padding, columns, rows = np.frombuffer(op.custom[:12], "<i4").tolist()
    x, w = op.inputs[:2]
    same = padding == 1
    size = [
        own * stride if same else (own - 1) * stride + taps
        for own, stride, taps in zip(c.tensor(x).shape[1:3], (rows, columns), c.tensor(w).shape[1:3], strict=True)
    ]
    bias = _bias(c, op, 2)
    c.put(op, _transposed(c, op, x, w, size, "SAME_UPPER" if same else "VALID", (rows, columns), bias), "nchw")


@_maps("AVERAGE_POOL_2D", "MAX_POOL_2D", "L2_POOL_2D")
def _pool(c: Converter, op: Operator) -> None:
    x = c.image(op.inputs[0])
    settings = {"auto_pad": _padding(op), "strides": _window(op, (2, 1)), "kernel_shape": _window(op, (4, 3))}
    if op.name == "MAX_POOL_2D":
        value = c.op("MaxPool", [x], **settings)
    elif op.name == "AVERAGE_POOL_2D":
        value = c.op("AveragePool", [x], **settings)
    else:
        value = c.op("Sqrt", [c.op("AveragePool", [c.op("Mul", [x, x])], **settings)])
    plain = op.name == "MAX_POOL_2D" and op.option(5, "b") == 0
    c.put(op, c.activated(op, value, 5), "nchw", moved=op.inputs[0] if plain else None)


@_maps("FULLY_CONNECTED")
def _fully_connected(c: Converter, op: Operator) -> None:
    x, w = op.inputs[:2]
    if op.option(1, "b"):
        raise Unmapped("its weights are shuffled")
    features = c.tensor(w).shape[1]
    value, bias = c.value(x), _bias(c, op, 2)
    rank = c.rank(x)
    if op.option(2, "?") and rank > 2:
        product = c.op("MatMul", [value, c.weights(w, (1, 0))])
        product = c.op("Add", [product, *bias]) if bias else product
    else:
        if rank != 2 or c.tensor(x).shape[-1] != features:
            value = c.op("Reshape", [value, c.constant([-1, features])])
        product = c.op("Gemm", [value, c.weights(w, (0, 1)), *bias], transB=1)
    shape = c.tensor(op.outputs[0]).shape
    product = c.activated(op, product, 0)
    if len(shape) != (rank if op.option(2, "?") and rank > 2 else 2):
        product = c.op("Reshape", [product, c.constant(list(shape))])
    c.put(op, product)


@_maps("BATCH_MATMUL")
def _batch_matmul(c: Converter, op: Operator) -> None:
    operands = []
    for place, index in enumerate(op.inputs[:2]):
        rank = c.rank(index)
        order = (*range(rank - 2), rank - 1, rank - 2)
        turned = op.option(place, "?")
        if turned and c.is_constant(index):
            operands.append(c.weights(index, order))
        else:
            value = c.value(index)
            operands.append(c.op("Transpose", [value], perm=order) if turned else value)
    c.put(op, c.op("MatMul", operands))


# reductions and normalisations


def _axes(c: Converter, index: int, rank: int) -> list[int]:
    """Constant axes, not negative, each once."""
    axes = np.atleast_1d(c.stored(index)).tolist()
    if any(not -rank <= axis < rank for axis in axes):
        raise ModelError(f"{c.tensor(index).name!r} holds the axes {axes} of a tensor of rank {rank}")
    return sorted({axis % rank for axis in axes})


def _reduce(c: Converter, op: Operator, op_type: str) -> None:
    x, rank = op.inputs[0], c.rank(op.inputs[0])
    axes, keep = _axes(c, op.inputs[1], rank), bool(op.option(0, "?"))
    # without a reduced axis kept, what is left of NCHW must be in the order that it has in NHWC
    ordered = keep or 3 in axes or {1, 2} <= set(axes)
    image = rank == 4 and c.prefers_image(x) and ordered
    value = c.image(x) if image else c.value(x)
    if op.name in ("REDUCE_ANY", "REDUCE_ALL"):
        value = c.op("Cast", [value], to=ir.DataType.INT32)
    given = [_INTO_NCHW[axis] for axis in axes] if image else axes
    value = c.op(op_type, [value, c.constant(sorted(given))], keepdims=int(keep)) if axes else value
    if op.name in ("REDUCE_ANY", "REDUCE_ALL"):
        value = c.op("Cast", [value], to=ir.DataType.BOOL)
    moved = x if op_type in ("ReduceMax", "ReduceMin") else None
    c.put(op, value, "nchw" if image and (keep or not axes) else "file", moved=moved)


for _name, _op_type in {
    "MEAN": "ReduceMean", "SUM": "ReduceSum", "REDUCE_PROD": "ReduceProd", "REDUCE_MAX": "ReduceMax",
    "REDUCE_MIN": "ReduceMin", "REDUCE_ANY": "ReduceMax", "REDUCE_ALL": "ReduceMin",
}.items():  # fmt: skip
    OPS[_name] = partial(_reduce, op_type=_op_type)


@_maps("ARG_MAX", "ARG_MIN")
def _arg(c: Converter, op: Operator) -> None:
    rank = c.rank(op.inputs[0])
    (axis,) = _axes(c, op.inputs[1], rank)
    value = c.op("ArgMax" if op.name == "ARG_MAX" else "ArgMin", [c.value(op.inputs[0])], axis=axis, keepdims=0)
    if c.tensor(op.outputs[0]).dtype == np.int32:
        value = c.op("Cast", [value], to=ir.DataType.INT32)
    c.put(op, value)


def _last_axis(c: Converter, op: Operator) -> tuple[str, ir.Value, int]:
    """Layout, value and the axis that is the last one in the file."""
    image = c.rank(op.inputs[0]) == 4 and c.prefers_image(op.inputs[0])
    if image:
        return "nchw", c.image(op.inputs[0]), 1
    return "file", c.value(op.inputs[0]), c.rank(op.inputs[0]) - 1


@_maps("SOFTMAX", "LOG_SOFTMAX")
def _softmax(c: Converter, op: Operator) -> None:
    layout, x, axis = _last_axis(c, op)
    beta = op.option(0, "f") if op.name == "SOFTMAX" else 1.0
    if beta not in (0.0, 1.0):
        x = c.op("Mul", [x, c.constant(float(beta))])
    c.put(op, c.op("Softmax" if op.name == "SOFTMAX" else "LogSoftmax", [x], axis=axis), layout)


@_maps("L2_NORMALIZATION")
def _l2_normalization(c: Converter, op: Operator) -> None:
    layout, x, axis = _last_axis(c, op)
    length = c.op("ReduceSumSquare", [x, c.constant([axis])], keepdims=1)
    length = c.op("Sqrt", [c.op("Max", [length, c.constant(1e-6)])])
    c.put(op, c.activated(op, c.op("Div", [x, length]), 0), layout)


@_maps("LOCAL_RESPONSE_NORMALIZATION")
def _lrn(c: Converter, op: Operator) -> None:
    size = 2 * op.option(0) + 1
    value = c.op(
        "LRN", [c.image(op.inputs[0])],
        size=size, bias=op.option(1, "f"), alpha=op.option(2, "f") * size, beta=op.option(3, "f"),
    )  # fmt: skip
    c.put(op, value, "nchw")


@_maps("CUMSUM")
def _cumsum(c: Converter, op: Operator) -> None:
    values = [c.value(index) for index in op.inputs]
    c.put(op, c.op("CumSum", values, exclusive=int(op.option(0, "?")), reverse=int(op.option(1, "?"))))


@_maps("TOPK_V2")
def _topk(c: Converter, op: Operator) -> None:
    count = c.op("Reshape", [c.op("Cast", [c.value(op.inputs[1])], to=ir.DataType.INT64), c.constant([1])])
    values, indices = c.ops("TopK", [c.value(op.inputs[0]), count], 2)
    c.put(op, values, moved=op.inputs[0])
    c.put(op, c.op("Cast", [indices], to=ir.DataType.INT32), place=1)


# shapes and moves


@_maps("RESHAPE")
def _reshape(c: Converter, op: Operator) -> None:
    x = c.value(op.inputs[0])
    if len(op.inputs) > 1 and op.inputs[1] >= 0:
        if c.is_constant(op.inputs[1]):
            target = c.constant([int(size) for size in c.stored(op.inputs[1]).reshape(-1)])
        else:
            target = c.op("Cast", [c.value(op.inputs[1])], to=ir.DataType.INT64)
    else:
        given = op.options.numbers(0) if op.options is not None else []
        target = c.constant([int(size) for size in given])
    c.put(op, c.op("Reshape", [x, target]), moved=op.inputs[0])


@_maps("SQUEEZE")
def _squeeze(c: Converter, op: Operator) -> None:
    x = op.inputs[0]
    rank = c.rank(x)
    axes = [axis % rank for axis in (op.options.numbers(0) if op.options is not None else [])]
    axes = axes or [axis for axis, size in enumerate(c.tensor(x).shape) if size == 1]
    c.put(op, c.op("Squeeze", [c.value(x), c.constant(axes)]), moved=x)


@_maps("EXPAND_DIMS")
def _expand_dims(c: Converter, op: Operator) -> None:
    axes = np.atleast_1d(c.stored(op.inputs[1])).astype(np.int64)
    c.put(op, c.op("Unsqueeze", [c.value(op.inputs[0]), c.constant(axes)]), moved=op.inputs[0])


@_maps("TRANSPOSE")
def _transpose(c: Converter, op: Operator) -> None:
    x = op.inputs[0]
    order = c.stored(op.inputs[1]).tolist()
    if c.rank(x) == 4 and c.prefers_image(x):
        order = [_INTO_NCHW[axis] for axis in order]
        value = c.image(x)
        value = value if order == [0, 1, 2, 3] else c.op("Transpose", [value], perm=order)
    else:
        value = c.op("Transpose", [c.value(x)], perm=order)
    c.put(op, value, moved=x)


def _moving(c: Converter, index: int) -> tuple[str, ir.Value, tuple[int, ...]]:
    """Layout and value of a tensor for an op along axes, and for each axis of the result its axis in the file."""
    if c.rank(index) == 4 and c.prefers_image(index):
        return "nchw", c.image(index), TO_NCHW
    return "file", c.value(index), tuple(range(c.rank(index)))


@_maps("CONCATENATION")
def _concatenation(c: Converter, op: Operator) -> None:
    layout, values = c.together(op.inputs)
    rank = c.rank(op.outputs[0])
    axis = op.option(0) % max(1, rank)
    value = c.op("Concat", values, axis=_INTO_NCHW[axis] if layout == "nchw" else axis)
    grids = {c.tensor(index).grid for index in op.inputs}
    moved = op.inputs[0] if len(grids) == 1 and op.option(1, "b") == 0 else None
    c.put(op, c.activated(op, value, 1), layout, moved=moved)


@_maps("SPLIT")
def _split(c: Converter, op: Operator) -> None:
    (axis,) = _axes(c, op.inputs[0], c.rank(op.inputs[1]))
    _split_along(c, op, op.inputs[1], axis, None)


@_maps("SPLIT_V")
def _split_v(c: Converter, op: Operator) -> None:
    x = op.inputs[0]
    (axis,) = _axes(c, op.inputs[2], c.rank(x))
    sizes = c.stored(op.inputs[1]).astype(np.int64)
    if -1 in sizes:
        sizes = np.where(sizes == -1, c.tensor(x).shape[axis] - (sizes.sum() + 1), sizes)
    _split_along(c, op, x, axis, sizes.tolist())


def _split_along(c: Converter, op: Operator, x: int, axis: int, sizes: list[int] | None) -> None:
    layout, value, order = _moving(c, x)
    given = [] if sizes is None else [c.constant(sizes)]
    count = len(op.outputs)
    parts = c.ops(
        "Split", [value, *given], count, axis=order.index(axis), num_outputs=count if sizes is None else None
    )  # fmt: skip
    for place, part in enumerate(parts):
        c.put(op, part, layout, place, moved=x)


@_maps("PACK")
def _pack(c: Converter, op: Operator) -> None:
    axis = op.option(1) % max(1, c.rank(op.outputs[0]))
    values = [c.op("Unsqueeze", [c.value(index), c.constant([axis])]) for index in op.inputs]
    same = len({c.tensor(index).grid for index in op.inputs}) == 1
    c.put(op, c.op("Concat", values, axis=axis), moved=op.inputs[0] if same else None)


@_maps("UNPACK")
def _unpack(c: Converter, op: Operator) -> None:
    axis = op.option(1) % max(1, c.rank(op.inputs[0]))
    x, count = c.value(op.inputs[0]), len(op.outputs)
    parts = c.ops("Split", [x], count, axis=axis, num_outputs=count) if count > 1 else [x]
    for place, part in enumerate(parts):
        c.put(op, c.op("Squeeze", [part, c.constant([axis])]), place=place, moved=op.inputs[0])


@_maps("SLICE")
def _slice(c: Converter, op: Operator) -> None:
    x = op.inputs[0]
    layout, value, order = _moving(c, x)
    begins, sizes = (c.stored(index).astype(np.int64) for index in op.inputs[1:3])
    ends = np.where(sizes < 0, np.iinfo(np.int64).max, begins + sizes)
    axes = list(range(len(order)))
    operands = [c.constant(begins[list(order)]), c.constant(ends[list(order)]), c.constant(axes)]
    c.put(op, c.op("Slice", [value, *operands]), layout, moved=x)


@_maps("STRIDED_SLICE")
def _strided_slice(c: Converter, op: Operator) -> None:
    """Masks have a bit for each entry: begin or end left out, ellipsis, new axis, or the axis dropped."""
    x, rank = op.inputs[0], c.rank(op.inputs[0])
    begins, ends, steps = (c.stored(index).tolist() for index in op.inputs[1:4])
    no_begin, no_end, ellipsis, new, drop = (op.option(slot) for slot in range(5))
    if op.option(5, "?"):
        ends = [begin + end for begin, end in zip(begins, ends, strict=True)]
    starts: list[int] = []
    stops: list[int] = []
    axes: list[int] = []
    by: list[int] = []
    dropped: list[int] = []
    added: list[int] = []
    axis = place = 0
    extra = bin(new & ((1 << len(begins)) - 1)).count("1")
    for entry, (begin, end, step) in enumerate(zip(begins, ends, steps, strict=True)):
        bit = 1 << entry
        if ellipsis & bit:
            skipped = rank - (len(begins) - 1 - extra)
            axis, place = axis + skipped, place + skipped
        elif new & bit:
            added.append(place)
            place += 1
        else:
            if drop & bit:
                step, end = 1, begin + 1 if begin != -1 else _FAR
                dropped.append(axis)
            else:
                begin = (0 if step > 0 else _FAR) if no_begin & bit else begin
                end = (_FAR if step > 0 else -_FAR) if no_end & bit else end
                place += 1
            if step == 0 or axis >= rank:
                raise ModelError(f"STRIDED_SLICE at {op.layer!r} has the steps {steps} over {c.tensor(x).shape}")
            if (begin, end, step) != (0, _FAR, 1):
                for entries, one in zip((starts, stops, axes, by), (begin, end, axis, step), strict=True):
                    entries.append(one)
            axis += 1
    layout, value, order = ("file", c.value(x), tuple(range(rank))) if dropped or added else _moving(c, x)
    if axes:
        places = [order.index(one) for one in axes]
        value = c.op("Slice", [value, *map(c.constant, (starts, stops, places, by))])
    if dropped:
        value = c.op("Squeeze", [value, c.constant(dropped)])
    if added:
        value = c.op("Unsqueeze", [value, c.constant(added)])
    c.put(op, value, layout, moved=x)


_FAR = 1 << 31


@_maps("REVERSE_V2")
def _reverse(c: Converter, op: Operator) -> None:
    layout, value, order = _moving(c, op.inputs[0])
    axes = [order.index(axis) for axis in _axes(c, op.inputs[1], len(order))]
    count = len(axes)
    value = c.op("Slice", [value, *map(c.constant, ([-1] * count, [-_FAR] * count, axes, [-1] * count))])
    c.put(op, value, layout, moved=op.inputs[0])


@_maps("REVERSE_SEQUENCE")
def _reverse_sequence(c: Converter, op: Operator) -> None:
    lengths = c.op("Cast", [c.value(op.inputs[1])], to=ir.DataType.INT64)
    axes = {"time_axis": op.option(0), "batch_axis": op.option(1)}
    if set(axes.values()) != {0, 1}:
        raise Unmapped("reverses along an axis, or has its batch along one, that is none of the first two")
    c.put(op, c.op("ReverseSequence", [c.value(op.inputs[0]), lengths], **axes), moved=op.inputs[0])


@_maps("PAD", "PADV2", "MIRROR_PAD")
def _pad(c: Converter, op: Operator) -> None:
    x = op.inputs[0]
    layout, value, order = _moving(c, x)
    pads = c.stored(op.inputs[1]).astype(np.int64)[list(order)]
    amounts = c.constant(pads.T.reshape(-1))
    if op.name == "MIRROR_PAD":
        if op.option(0, "b") == 1:  # repeats the edge, which ONNX's Pad can't
            for axis, (before, after) in enumerate(pads.tolist()):
                size = c.tensor(x).shape[order[axis]]
                if not 0 <= min(before, after) <= max(before, after) <= size:
                    raise ModelError(f"MIRROR_PAD at {op.layer!r} pads {size} elements by {before} and {after}")
                if before or after:
                    places = np.pad(np.arange(size), (before, after), mode="symmetric")
                    value = c.op("Gather", [value, c.constant(places)], axis=axis)
        else:
            value = c.op("Pad", [value, amounts], mode="reflect")
        c.put(op, value, layout, moved=x)
        return
    fill = [] if op.name == "PAD" else [c.value(op.inputs[2])]
    c.put(op, c.op("Pad", [value, amounts, *fill]), layout, moved=x)


@_maps("TILE")
def _tile(c: Converter, op: Operator) -> None:
    repeats = c.op("Cast", [c.value(op.inputs[1])], to=ir.DataType.INT64)
    c.put(op, c.op("Tile", [c.value(op.inputs[0]), repeats]), moved=op.inputs[0])


@_maps("BROADCAST_TO")
def _broadcast_to(c: Converter, op: Operator) -> None:
    shape = c.op("Cast", [c.value(op.inputs[1])], to=ir.DataType.INT64)
    c.put(op, c.op("Expand", [c.value(op.inputs[0]), shape]), moved=op.inputs[0])


@_maps("GATHER")
def _gather(c: Converter, op: Operator) -> None:
    axis, batch = op.option(0), op.option(1)
    rank = c.rank(op.inputs[0])
    axis += rank * (axis < 0)
    x, where = c.value(op.inputs[0]), c.value(op.inputs[1])
    if batch:
        if axis != batch or c.rank(op.inputs[1]) != batch + 1:
            raise Unmapped("gathers in batches along an axis that is not the first after them")
        where = c.op("Unsqueeze", [where, c.constant([batch + 1])])
        value = c.op("GatherND", [x, c.op("Cast", [where], to=ir.DataType.INT64)], batch_dims=batch)
    else:
        value = c.op("Gather", [x, where], axis=axis)
    c.put(op, value, moved=op.inputs[0])


@_maps("EMBEDDING_LOOKUP")
def _embedding_lookup(c: Converter, op: Operator) -> None:
    c.put(op, c.op("Gather", [c.value(op.inputs[1]), c.value(op.inputs[0])], axis=0), moved=op.inputs[1])


@_maps("GATHER_ND")
def _gather_nd(c: Converter, op: Operator) -> None:
    where = c.op("Cast", [c.value(op.inputs[1])], to=ir.DataType.INT64)
    c.put(op, c.op("GatherND", [c.value(op.inputs[0]), where]), moved=op.inputs[0])


@_maps("SCATTER_ND")
def _scatter_nd(c: Converter, op: Operator) -> None:
    where, updates, shape = (c.value(index) for index in op.inputs)
    where, shape = (c.op("Cast", [value], to=ir.DataType.INT64) for value in (where, shape))
    zero = c.constant(np.zeros((), c.tensor(op.outputs[0]).dtype))
    c.put(op, c.op("ScatterND", [c.op("Expand", [zero, shape]), where, updates], reduction="add"))


@_maps("DEPTH_TO_SPACE", "SPACE_TO_DEPTH")
def _depth_and_space(c: Converter, op: Operator) -> None:
    kind = "DepthToSpace" if op.name == "DEPTH_TO_SPACE" else "SpaceToDepth"
    (block,) = _window(op, (0,))
    c.put(op, c.op(kind, [c.image(op.inputs[0])], blocksize=block), "nchw", moved=op.inputs[0])


@_maps("SPACE_TO_BATCH_ND")
def _space_to_batch(c: Converter, op: Operator) -> None:
    x = op.inputs[0]
    blocks, pads = _blocks(c, op)
    amounts = np.concatenate([[0, 0], pads[:, 0], [0, 0], pads[:, 1]]).astype(np.int64)
    value = c.op("Pad", [c.image(x), c.constant(amounts)])
    _, h, w, channels = c.tensor(x).shape
    rows, columns = (h + int(pads[0].sum())) // blocks[0], (w + int(pads[1].sum())) // blocks[1]
    value = c.op("Reshape", [value, c.constant([-1, channels, rows, blocks[0], columns, blocks[1]])])
    value = c.op("Transpose", [value], perm=(3, 5, 0, 1, 2, 4))
    c.put(op, c.op("Reshape", [value, c.constant([-1, channels, rows, columns])]), "nchw", moved=x)


@_maps("BATCH_TO_SPACE_ND")
def _batch_to_space(c: Converter, op: Operator) -> None:
    x = op.inputs[0]
    blocks, crops = _blocks(c, op)
    value = _dilated(c, op, blocks, crops)
    if value is not None:
        c.put(op, value, "nchw")
        return
    _, h, w, channels = c.tensor(x).shape
    value = c.op("Reshape", [c.image(x), c.constant([*blocks, -1, channels, h, w])])
    value = c.op("Transpose", [value], perm=(2, 3, 4, 0, 5, 1))
    value = c.op("Reshape", [value, c.constant([-1, channels, h * blocks[0], w * blocks[1]])])
    if crops.any():
        ends = [h * blocks[0] - int(crops[0, 1]), w * blocks[1] - int(crops[1, 1])]
        value = c.op("Slice", [value, *map(c.constant, (crops[:, 0].tolist(), ends, [2, 3]))])
    c.put(op, value, "nchw", moved=x)


def _blocks(c: Converter, op: Operator) -> tuple[list[int], NDArray[np.int64]]:
    """The sizes of the blocks, and what is padded before or cropped after: begin and end of rows and columns."""
    blocks, edges = c.stored(op.inputs[1]).tolist(), c.stored(op.inputs[2]).astype(np.int64)
    if c.rank(op.inputs[0]) != 4 or len(blocks) != 2 or min(blocks) < 1 or edges.shape != (2, 2):
        raise Unmapped("works on another shape than rows and columns of images")
    if None in c.tensor(op.inputs[0]).signature[1:]:
        raise Unmapped("works on an image whose size is not known before it runs")
    return blocks, edges


def _dilated(c: Converter, op: Operator, blocks: list[int], crops: NDArray[np.int64]) -> ir.Value | None:
    """A convolution between space-to-batch and back, as older TensorFlow writes it, as the dilated one that it is."""
    conv = c.makers.get(op.inputs[0])
    spread = c.makers.get(conv.inputs[0]) if conv is not None and conv.name in _CONVOLUTIONS else None
    if conv is None or spread is None or spread.name != "SPACE_TO_BATCH_ND" or _padding(conv) != "VALID":
        return None
    own, pads = _blocks(c, spread)
    pads = pads - crops
    dilations = (6, 5) if conv.name == "DEPTHWISE_CONV_2D" else (5, 4)
    if own != blocks or pads.min() < 0 or {*_window(conv, (2, 1)), *_window(conv, dilations, 1)} != {1}:
        return None
    return _convolve(c, conv, spread.inputs[0], pads=pads.T.reshape(-1).tolist(), dilations=blocks)


_CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")


@_maps("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR")
def _resize(c: Converter, op: Operator) -> None:
    linear = op.name == "RESIZE_BILINEAR"
    corners, centres = (op.option(slot, "?") for slot in ((2, 3) if linear else (0, 1)))
    size = c.stored(op.inputs[1]).astype(np.int64)
    mode = "align_corners" if corners else "half_pixel" if centres else "asymmetric"
    value = c.op(
        "Resize", [c.image(op.inputs[0]), None, None, c.constant(size)], axes=[2, 3],
        mode="linear" if linear else "nearest", coordinate_transformation_mode=mode,
        nearest_mode=None if linear else "round_prefer_ceil" if corners or centres else "floor",
    )  # fmt: skip
    c.put(op, value, "nchw", moved=None if linear else op.inputs[0])


# shapes as data


@_maps("SHAPE")
def _shape(c: Converter, op: Operator) -> None:
    value = c.op("Shape", [c.value(op.inputs[0])])
    c.put(op, _as_type_of(c, op, value))


def _as_type_of(c: Converter, op: Operator, value: ir.Value) -> ir.Value:
    """An int64 as the type of the operator's first output."""
    kind = np.dtype(c.tensor(op.outputs[0]).dtype)
    return value if kind == np.int64 else c.op("Cast", [value], to=ir.DataType.from_numpy(kind))


@_maps("RANK")
def _rank(c: Converter, op: Operator) -> None:
    c.fold(op, np.array(c.rank(op.inputs[0]), np.int32))


@_maps("FILL")
def _fill(c: Converter, op: Operator) -> None:
    shape = c.op("Cast", [c.value(op.inputs[0])], to=ir.DataType.INT64)
    c.put(op, c.op("Expand", [c.value(op.inputs[1]), shape]), moved=op.inputs[1])


@_maps("RANGE")
def _range(c: Converter, op: Operator) -> None:
    c.put(op, c.op("Range", [c.value(index) for index in op.inputs]))


@_maps("WHERE")
def _where(c: Converter, op: Operator) -> None:
    found = c.op("Transpose", [c.op("NonZero", [c.value(op.inputs[0])])], perm=(1, 0))
    c.put(op, _as_type_of(c, op, found))


@_maps("ONE_HOT")
def _one_hot(c: Converter, op: Operator) -> None:
    indices, depth, on, off = (c.value(index) for index in op.inputs)
    rank, axis = c.rank(op.inputs[0]), op.option(0, "i", -1)
    both = [c.op("Unsqueeze", [value, c.constant([0])]) for value in (off, on)]
    # ONNX takes negative indices from the end, TensorFlow Lite sets nothing for them
    inside = c.op("Where", [c.op("Less", [indices, _zero(c, op)]), depth, indices])
    c.put(op, c.op("OneHot", [inside, depth, c.op("Concat", both, axis=0)], axis=axis if axis >= 0 else rank))


def _zero(c: Converter, op: Operator) -> ir.Value:
    return c.constant(np.zeros((), c.tensor(op.inputs[0]).dtype))


# recurrent


@_maps("UNIDIRECTIONAL_SEQUENCE_LSTM")
def _lstm(c: Converter, op: Operator) -> None:
    """Inputs: x; four matrices each for x and for the state (input, forget, cell, output); three peepholes (input,
    forget, output); four biases; projection and its bias; two states; four layer norms.  ONNX's order of gates is
    input, output, forget, cell.
    """
    given = [index if index >= 0 else None for index in (*op.inputs, *[-1] * 24)][:24]
    own, state, peepholes, biases = given[1:5], given[5:9], given[9:12], given[12:16]
    if any(index is not None for index in (*given[16:18], *given[20:24])):
        raise Unmapped("has a projection or layer normalisation")
    if op.option(0, "b") not in (0, 4) or op.option(1, "f") or c.tensor(op.inputs[0]).quantised:
        raise Unmapped("has another activation than tanh, a clipped cell, or is quantised")
    if any(index is None for index in (*own, *state, *biases)):
        raise Unmapped("couples its input gate to its forget gate")
    if any(index is not None and c.is_constant(index) is False for index in given[18:20] if not _is_state(c, index)):
        raise Unmapped("is given its first state by another op")
    order = (0, 3, 1, 2)
    w, r = (np.concatenate([_matrix(c, indices[gate]) for gate in order])[None] for indices in (own, state))
    bias = np.concatenate([_matrix(c, biases[gate]) for gate in order])
    operands = [c.constant(w, given[1]), c.constant(r, given[5])]
    operands.append(c.constant(np.concatenate([bias, np.zeros_like(bias)])[None], given[12]))
    optional: list[ir.Value | None] = [None, None, None]
    if any(index is not None for index in peepholes):
        optional.append(c.constant(np.concatenate([_matrix(c, peepholes[gate]) for gate in (0, 2, 1)])[None]))
    time_major = op.option(3, "?")
    x = c.value(op.inputs[0])
    x = x if time_major else c.op("Transpose", [x], perm=(1, 0, 2))
    y = c.ops("LSTM", [x, *operands, *optional], 3, hidden_size=r.shape[2])[0]
    y = c.op("Squeeze", [y, c.constant([1])])
    c.put(op, y if time_major else c.op("Transpose", [y], perm=(1, 0, 2)))


def _is_state(c: Converter, index: int | None) -> bool:
    return index is None or c.tensor(index).variable


def _matrix(c: Converter, index: int | None) -> NDArray[np.float32]:
    if index is None:
        raise Unmapped("lacks one of its weights")
    return c.array(index).astype(np.float32)


# detection


@_maps("TFLite_Detection_PostProcess")
def _detection(c: Converter, op: Operator) -> None:
    """Boxes from offsets to anchors, and the best of them: ``detection_postprocess.cc`` of TensorFlow Lite.

    Outputs: boxes (y1, x1, y2, x2), classes from 0 without the background, scores, all padded with zeros to the most
    detections, and how many there are.
    """
    try:
        options = flexbuffer_map(op.custom)
    except DamagedError as error:
        raise ModelError(f"the options of {op.layer!r} can't be read: {error}") from error
    most, classes = int(options["max_detections"]), int(options["num_classes"])
    if options.get("max_classes_per_detection", 1) != 1 and not options.get("use_regular_nms"):
        raise Unmapped("gives several classes to a detection")
    boxes = _boxes(c, op, options)
    scores = c.value(op.inputs[1])
    first = c.tensor(op.inputs[1]).shape[-1] - classes
    if first:
        scores = c.op("Slice", [scores, *map(c.constant, ([first], [_FAR], [2]))])
    by_class = c.op("Transpose", [scores], perm=(0, 2, 1))
    each = int(options.get("detections_per_class", 100)) if options.get("use_regular_nms") else most
    if not options.get("use_regular_nms"):
        best = c.op("ArgMax", [by_class], axis=1, keepdims=0)
        by_class = c.op("ReduceMax", [by_class, c.constant([1])], keepdims=1)
    limits = [c.constant([each]), *(c.constant(float(options[f"nms_{name}_threshold"])) for name in ("iou", "score"))]
    kept = c.op("NonMaxSuppression", [c.op("Unsqueeze", [boxes, c.constant([0])]), by_class, *limits])
    found = c.op("GatherND", [by_class, kept])
    # so many zeros behind that there are always enough to choose from
    padded = c.op("Concat", [found, c.constant(np.full(most, -1, np.float32))], axis=0)
    values, places = c.ops("TopK", [padded, c.constant([most])], 2)
    real = c.op("Greater", [values, c.constant(-0.5)])
    kept = c.op("Concat", [kept, c.constant(np.zeros((most, 3), np.int64))], axis=0)
    chosen = c.op("Gather", [kept, places], axis=0)
    anchors = c.op("Gather", [chosen, c.constant(np.array(2))], axis=1)
    if options.get("use_regular_nms"):
        kinds = c.op("Gather", [chosen, c.constant(np.array(1))], axis=1)
    else:
        kinds = c.op("Gather", [c.op("Squeeze", [best, c.constant([0])]), anchors], axis=0)
    mask = c.op("Cast", [real], to=_FLOAT)
    batch = c.constant([0])
    corners = c.op("Mul", [c.op("Gather", [boxes, anchors], axis=0), c.op("Unsqueeze", [mask, c.constant([1])])])
    c.put(op, c.op("Unsqueeze", [corners, batch]), place=0)
    c.put(op, c.op("Unsqueeze", [c.op("Mul", [c.op("Cast", [kinds], to=_FLOAT), mask]), batch]), place=1)
    c.put(op, c.op("Unsqueeze", [c.op("Mul", [values, mask]), batch]), place=2)
    c.put(op, c.op("ReduceSum", [mask, batch], keepdims=1), place=3)


def _boxes(c: Converter, op: Operator, options: dict[str, float]) -> ir.Value:
    """Corners [anchors, 4] from offsets [1, anchors, 4] and anchors (y, x, height, width)."""
    anchors = c.array(op.inputs[2]).astype(np.float32)
    scale = np.array([options[f"{side}_scale"] for side in "yxhw"], np.float32)
    offsets = c.op("Squeeze", [c.value(op.inputs[0]), c.constant([0])])
    place, size = c.ops("Split", [c.op("Div", [offsets, c.constant(scale)])], 2, axis=1, num_outputs=2)
    centre = c.op("Add", [c.op("Mul", [place, c.constant(anchors[:, 2:])]), c.constant(anchors[:, :2])])
    half = c.op("Mul", [c.op("Exp", [size]), c.constant(anchors[:, 2:] / 2)])
    return c.op("Concat", [c.op("Sub", [centre, half]), c.op("Add", [centre, half])], axis=1)


@_maps("NON_MAX_SUPPRESSION_V4")
def _nms(c: Converter, op: Operator) -> None:
    """Indices of the boxes that are kept, padded with zeros to the most, and how many."""
    boxes, scores, most, *limits = (c.value(index) for index in op.inputs)
    most = c.op("Reshape", [c.op("Cast", [most], to=ir.DataType.INT64), c.constant([1])])
    boxes, scores = c.op("Unsqueeze", [boxes, c.constant([0])]), c.op("Unsqueeze", [scores, c.constant([0, 1])])
    kept = c.op("NonMaxSuppression", [boxes, scores, most, *limits])
    indices = c.op("Gather", [kept, c.constant(np.array(2))], axis=1)
    count = c.op("Shape", [indices])
    pads = c.op("Concat", [c.constant([0]), c.op("Sub", [most, count])], axis=0)
    c.put(op, c.op("Cast", [c.op("Pad", [indices, pads])], to=ir.DataType.INT32))
    c.put(op, c.op("Cast", [c.op("Squeeze", [count, c.constant([0])])], to=ir.DataType.INT32), place=1)


del _name, _op_type
