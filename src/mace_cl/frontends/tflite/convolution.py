"""TensorFlow Lite's convolutions, pools and products."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from mace_cl.frontends.tflite.converter import TO_NCHW, Converter, Unmapped
from mace_cl.frontends.tflite.family import Family, padding_of, window_of
from mace_cl.frontends.tflite.file import Operator

__all__ = ["OPS", "convolve"]

OPS = Family()


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


@OPS.maps("CONV_2D", "DEPTHWISE_CONV_2D")
def _conv_2d(c: Converter, op: Operator) -> None:
    dilations = window_of(op, (6, 5) if op.name == "DEPTHWISE_CONV_2D" else (5, 4), 1)
    if padding_of(op) == "VALID" or dilations == [1, 1]:
        c.put(op, convolve(c, op, op.inputs[0], auto_pad=padding_of(op)), "nchw")
        return
    # ONNX Runtime takes no auto_pad with dilations
    size, taps, strides = (
        np.array(one) for one in (*(c.tensor(index).shape[1:3] for index in op.inputs[:2]), window_of(op, (2, 1)))
    )
    total = np.maximum(0, (-(-size // strides) - 1) * strides + (taps - 1) * dilations + 1 - size)
    pads = [*(total // 2), *(total - total // 2)]
    c.put(op, convolve(c, op, op.inputs[0], pads=list(map(int, pads))), "nchw")


def convolve(c: Converter, op: Operator, x: int, **window: object) -> ir.Value:
    """The convolution ``op`` of ``x``, with its activation; ``window`` are attributes in place of its own."""
    w, deep = op.inputs[1], op.name == "DEPTHWISE_CONV_2D"
    depth = c.tensor(x).shape[-1]
    groups = depth if deep else depth // max(1, c.tensor(w).shape[-1])
    settings = {
        "strides": window_of(op, (2, 1)), "dilations": window_of(op, (6, 5) if deep else (5, 4), 1),
        "kernel_shape": list(c.tensor(w).shape[1:3]), "group": groups if groups > 1 else None,
    }  # fmt: skip
    weights = c.weights(w, (3, 0, 1, 2) if deep else TO_NCHW)
    value = c.op("Conv", [c.image(x), weights, *_bias(c, op, 2)], **{**settings, **window})
    return c.activated(op, value, 4 if deep else 3)


@OPS.maps("CONV_3D")
def _conv_3d(c: Converter, op: Operator) -> None:
    x, w = op.inputs[:2]
    value = c.op(
        "Conv",
        [c.op("Transpose", [c.value(x)], perm=(0, 4, 1, 2, 3)), c.weights(w, (4, 3, 0, 1, 2)), *_bias(c, op, 2)],
        auto_pad=padding_of(op), strides=window_of(op, (1, 3, 2)), dilations=window_of(op, (5, 7, 6), 1),
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


@OPS.maps("TRANSPOSE_CONV")
def _transpose_conv(c: Converter, op: Operator) -> None:
    result = c.stored(op.inputs[0]).tolist()
    value = _transposed(
        c, op, op.inputs[2], op.inputs[1], result[1:3], padding_of(op), window_of(op, (2, 1)), _bias_of(c, op)
    )
    c.put(op, c.activated(op, value, 3), "nchw")


def _bias_of(c: Converter, op: Operator) -> list[ir.Value]:
    """The bias of a transposed convolution, whose data come after its weights."""
    index = op.inputs[3] if len(op.inputs) > 3 else -1
    if index < 0:
        return []
    tensor = c.tensor(index)
    return [c.weights(index, tuple(range(len(tensor.shape))))]


@OPS.maps("Convolution2DTransposeBias")
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


@OPS.maps("AVERAGE_POOL_2D", "MAX_POOL_2D", "L2_POOL_2D")
def _pool(c: Converter, op: Operator) -> None:
    x = c.image(op.inputs[0])
    settings = {"auto_pad": padding_of(op), "strides": window_of(op, (2, 1)), "kernel_shape": window_of(op, (4, 3))}
    if op.name == "MAX_POOL_2D":
        value = c.op("MaxPool", [x], **settings)
    elif op.name == "AVERAGE_POOL_2D":
        value = c.op("AveragePool", [x], **settings)
    else:
        value = c.op("Sqrt", [c.op("AveragePool", [c.op("Mul", [x, x])], **settings)])
    plain = op.name == "MAX_POOL_2D" and op.option(5, "b") == 0
    c.put(op, c.activated(op, value, 5), "nchw", moved=op.inputs[0] if plain else None)


@OPS.maps("FULLY_CONNECTED")
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


@OPS.maps("BATCH_MATMUL")
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
