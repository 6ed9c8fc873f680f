"""What each of Caffe's layers is in ONNX ops; ``LAYERS`` is the table.

Each function adds a layer's nodes and gives the shapes of what it writes, as Caffe computes them.  Sources: the
layers' own files in BVLC's Caffe, and in the forks that `caffe.proto` names.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NoReturn

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from mace_cl.errors import ModelError
from mace_cl.frontends import caffe_pb2 as pb
from mace_cl.frontends.graphs import GraphBuilder

__all__ = ["LAYERS", "Blob", "LacksError", "Shape", "Step"]

Shape = tuple[int, ...]
MAX_CONSTANT = 1 << 26
"""Elements of a constant that is computed from the network's description."""


@dataclass(frozen=True)
class Blob:
    """A value of the graph, float32, and its shape."""

    value: ir.Value
    shape: Shape


class LacksError(Exception):
    """A variant of a layer that can't be mapped; the reader names the layer and goes on."""


class Step:
    """One layer while it is mapped: what it reads and what is written so far.

    ``blobs`` are its trained values, ``names`` those under which its outputs go into the graph.
    """

    def __init__(
        self, graph: GraphBuilder, layer: pb.Layer, bottoms: list[Blob], blobs: list[NDArray[np.float32]],
        names: list[str],
    ) -> None:  # fmt: skip
        self.graph, self.layer, self.bottoms, self.blobs, self.names = graph, layer, bottoms, blobs, names
        self.tops: list[Blob] = []

    @property
    def x(self) -> Blob:
        """The first input."""
        return self.bottom(0)

    def bottom(self, place: int) -> Blob:
        """An input."""
        self.need(len(self.bottoms) > place, f"needs {place + 1} inputs, but has {len(self.bottoms)}")
        return self.bottoms[place]

    def need(self, holds: bool, otherwise: str) -> None:
        """Raise a ModelError that names the layer unless ``holds``."""
        if not holds:
            raise ModelError(f"layer {self.layer.name!r} ({self.layer.type}): {otherwise}")

    def lacks(self, what: str) -> NoReturn:
        """Tell that this variant has no mapping."""
        raise LacksError(what)

    def op(self, op_type: str, *inputs: Any, **attributes: Any) -> ir.Value:
        """A node in between; inputs may be arrays, lists of whole numbers and floats."""
        return self.graph.op(op_type, self._values(inputs), layer=self.layer.name, **attributes)

    def pair(self, op_type: str, *inputs: Any, **attributes: Any) -> list[ir.Value]:
        """As `op`, with two outputs."""
        return self.graph.ops(op_type, self._values(inputs), ["", ""], layer=self.layer.name, **attributes)

    def end(self, shape: Sequence[int], op_type: str, *inputs: Any, **attributes: Any) -> None:
        """The node that writes the next output, of ``shape``."""
        name = self._next()
        value = self.graph.op(op_type, self._values(inputs), layer=self.layer.name, output=name, **attributes)
        self.tops.append(Blob(value, tuple(shape)))

    def same(self, op_type: str, *inputs: Any, **attributes: Any) -> None:
        """As `end`, of the first input's shape."""
        self.end(self.x.shape, op_type, *inputs, **attributes)

    def constant(self, array: NDArray[np.float32]) -> None:
        """The next output is constant."""
        self.tops.append(Blob(self.graph.constant(array, self._next()), array.shape))

    def split(self, x: ir.Value, shapes: Sequence[Shape], sizes: Sequence[int], axis: int) -> None:
        """All outputs are pieces of ``x`` along ``axis``."""
        self.need(len(sizes) == len(self.names), f"cuts into {len(sizes)} pieces, but has {len(self.names)} outputs")
        values = self.graph.ops("Split", self._values([x, list(sizes)]), self.names, layer=self.layer.name, axis=axis)
        self.tops += [Blob(value, shape) for value, shape in zip(values, shapes, strict=True)]

    def _next(self) -> str:
        self.need(len(self.tops) < len(self.names), "writes more outputs than it names")
        return self.names[len(self.tops)]

    def _values(self, inputs: Sequence[Any]) -> list[ir.Value | None]:
        return [
            one if one is None or isinstance(one, ir.Value) else one.value if isinstance(one, Blob) else
            self.graph.constant(one, f"{self.layer.name}/{len(one.shape)}d" if _is_large(one) else "")
            for one in inputs
        ]  # fmt: skip

    def axis(self, axis: int, rank: int | None = None) -> int:
        """An axis of the first input counted from 0."""
        rank = len(self.x.shape) if rank is None else rank
        self.need(-rank <= axis < rank, f"has the axis {axis}, but its input {rank} of them")
        return axis % rank

    def weights(self, place: int, shape: Sequence[int] | None = None) -> NDArray[np.float32]:
        """A trained blob, in ``shape`` where that is given: older files keep bias and the like in four dimensions."""
        self.need(
            len(self.blobs) > place,
            f"the .caffemodel has {len(self.blobs) or 'no'} blobs for it, but {place + 1} are needed; "
            "do the two files belong together?",
        )
        array = self.blobs[place]
        if shape is None:
            return array
        self.need(
            array.size == math.prod(shape),
            f"blob {place} of the shape {list(array.shape)} should have the shape {list(shape)}; "
            "do the .prototxt and the .caffemodel belong together?",
        )
        return array.reshape(shape)


def _is_large(one: Any) -> bool:
    return isinstance(one, np.ndarray) and one.size > 1


def _f(number: float) -> NDArray[np.float32]:
    return np.array(number, np.float32)


# Windows: convolution and pooling.


def _spatial(at: Step, param: Any, what: str, rank: int, default: int | None) -> list[int]:
    """A size for each spatial axis: given once, for each, or as _h and _w."""
    base = "kernel" if what == "kernel_size" else what
    if rank == 2 and (param.HasField(f"{base}_h") or param.HasField(f"{base}_w")):
        found = [getattr(param, f"{base}_h"), getattr(param, f"{base}_w")]
    else:
        given = list(getattr(param, what))
        at.need(bool(given) or default is not None, f"has no {what}")
        at.need(len(given) in (0, 1, rank), f"has {len(given)} numbers for {what}, but {rank} spatial axes")
        found = given * rank if len(given) == 1 else given or [default or 0] * rank
    least = 0 if what == "pad" else 1
    at.need(all(least <= size < 1 << 20 for size in found), f"has the {what} {found}")
    return [int(size) for size in found]


def _convolution(at: Step) -> None:
    _convolve(at, at.layer.convolution_param.group)


def _depthwise(at: Step) -> None:
    _convolve(at, at.x.shape[1] if len(at.x.shape) > 1 else 1)


def _convolve(at: Step, group: int) -> None:
    param, rank = at.layer.convolution_param, len(at.x.shape) - 2
    transposed = at.layer.type == "Deconvolution"
    at.need(rank >= 1, f"reads a blob of the shape {list(at.x.shape)}")
    if at.axis(param.axis) != 1:
        at.lacks(f"its axis is {param.axis}; only 1 is known")
    at.need(len(at.bottoms) == 1 or len(at.bottoms) == len(at.names), "has not as many outputs as inputs")
    kernel = _spatial(at, param, "kernel_size", rank, None)
    stride, pad = _spatial(at, param, "stride", rank, 1), _spatial(at, param, "pad", rank, 0)
    dilation = [1] * rank
    if param.dilation:
        at.need(len(param.dilation) in (1, rank), f"has {len(param.dilation)} dilations, but {rank} spatial axes")
        dilation = [int(size) for size in param.dilation] * (rank if len(param.dilation) == 1 else 1)
        at.need(all(1 <= size < 1 << 20 for size in dilation), f"has the dilation {dilation}")
    outs = int(param.num_output)
    at.need(outs > 0, "has no num_output")
    for bottom in at.bottoms:
        ins = bottom.shape[1]
        at.need(
            0 < group <= ins and ins % group == 0 and outs % group == 0,
            f"has {group} groups for {ins} channels in and {outs} out",
        )
        inner = (ins, outs // group) if transposed else (outs, ins // group)
        inputs: list[Any] = [bottom, at.weights(0, (*inner, *kernel))]
        if param.bias_term:
            inputs.append(at.weights(1, (outs,)))
        extent = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
        around = zip(bottom.shape[2:], extent, stride, pad, strict=True)
        if transposed:
            sizes = [s * (size - 1) + e - 2 * p for size, e, s, p in around]
        else:
            sizes = [(size + 2 * p - e) // s + 1 for size, e, s, p in around]
        at.end(
            (bottom.shape[0], outs, *sizes), "ConvTranspose" if transposed else "Conv", *inputs,
            kernel_shape=kernel, strides=stride, pads=pad * 2, dilations=dilation, group=group,
        )  # fmt: skip


def _pooling(at: Step) -> None:
    """Pooling with Caffe's sizes: rounded up, but no window begins in the padding at the end.

    An average counts the padding, but not what lies beyond it: where a window reaches there, the average of
    ONNX, which is over the whole window, is scaled.
    """
    param, shape = at.layer.pooling_param, at.x.shape
    at.need(len(shape) == 4, f"reads a blob of the shape {list(shape)}; four dimensions are needed")
    if param.pool == pb.PoolingParameter.STOCHASTIC:
        at.lacks("stochastic pooling")
    if len(at.names) > 1:
        at.lacks("a second output, the places of the maxima")
    maximum = param.pool == pb.PoolingParameter.MAX
    if param.global_pooling:
        at.end((*shape[:2], 1, 1), "GlobalMaxPool" if maximum else "GlobalAveragePool", at.x)
        return
    kernel = _spatial(at, param, "kernel_size", 2, None)
    stride, pad = _spatial(at, param, "stride", 2, 1), _spatial(at, param, "pad", 2, 0)
    up = param.ceil_mode and param.round_mode == pb.PoolingParameter.CEIL
    sizes, beyond, scales = [], [], []
    for size, k, s, p in zip(shape[2:], kernel, stride, pad, strict=True):
        at.need(p < k, f"has a padding of {p}, but windows of {k}")
        at.need(size + 2 * p >= k, f"has windows of {k} on an input of {size} with a padding of {p}")
        out = (size + 2 * p - k + (s - 1 if up else 0)) // s + 1
        if p and (out - 1) * s >= size + p:
            out -= 1
        sizes.append(out)
        beyond.append(max(0, (out - 1) * s + k - size - p))
        starts = np.arange(out) * s - p
        scales.append(k / (np.minimum(starts + k, size + p) - starts))
    attributes = {"kernel_shape": kernel, "strides": stride, "pads": pad + beyond}
    full = (*shape[:2], *sizes)
    if maximum:
        at.end(full, "MaxPool", at.x, **attributes)
    elif all((one == 1).all() for one in scales):
        at.end(full, "AveragePool", at.x, count_include_pad=1, **attributes)
    else:
        mean = at.op("AveragePool", at.x, count_include_pad=1, **attributes)
        at.end(full, "Mul", mean, np.multiply.outer(*scales).astype(np.float32)[None, None])


# Products and norms.


def _inner_product(at: Step) -> None:
    param, shape = at.layer.inner_product_param, at.x.shape
    axis = at.axis(param.axis)
    length, outs = math.prod(shape[axis:]), int(param.num_output)
    at.need(outs > 0, "has no num_output")
    weights = at.weights(0, (length, outs) if param.transpose else (outs, length))
    inputs: list[Any] = [at.op("Reshape", at.x, [math.prod(shape[:axis]), length]), weights]
    if param.bias_term:
        inputs.append(at.weights(1, (outs,)))
    full = (*shape[:axis], outs)
    if axis == 1:
        at.end(full, "Gemm", *inputs, transB=0 if param.transpose else 1)
    else:
        at.end(full, "Reshape", at.op("Gemm", *inputs, transB=0 if param.transpose else 1), list(full))


def _embed(at: Step) -> None:
    param = at.layer.embed_param
    outs = int(param.num_output)
    table = at.weights(0)
    at.need(outs > 0 and table.size % outs == 0, f"has a table of {table.size} numbers for {outs} outputs")
    index = at.op("Cast", at.x, to=ir.DataType.INT64)
    inputs = (table.reshape(-1, outs), index)
    full = (*at.x.shape, outs)
    if param.bias_term:
        at.end(full, "Add", at.op("Gather", *inputs), at.weights(1, (outs,)))
    else:
        at.end(full, "Gather", *inputs)


def _batch_norm(at: Step) -> None:
    param, shape = at.layer.batch_norm_param, at.x.shape
    at.need(len(shape) > 1, f"reads a blob of the shape {list(shape)}")
    if param.HasField("use_global_stats") and not param.use_global_stats:
        axes = [axis for axis in range(len(shape)) if axis != 1]
        centred = at.op("Sub", at.x, at.op("ReduceMean", at.x, axes))
        variance = at.op("ReduceMean", at.op("Mul", centred, centred), axes)
        at.same("Div", centred, at.op("Sqrt", at.op("Add", variance, _f(param.eps))))
        return
    channels = (shape[1],)
    factor = float(at.weights(2).reshape(-1)[0]) if len(at.blobs) > 2 and at.blobs[2].size else 1.0
    scale = _f(1 / factor if factor else 0)
    own = param.scale_bias and len(at.blobs) > 4
    at.same(
        "BatchNormalization", at.x,
        at.weights(3, channels) if own else np.ones(channels, np.float32),
        at.weights(4, channels) if own else np.zeros(channels, np.float32),
        at.weights(0, channels) * scale, at.weights(1, channels) * scale, epsilon=param.eps,
    )  # fmt: skip


def _operand(at: Step, axis: int, num_axes: int) -> Any:
    """What a Scale or Bias layer applies along ``axis``: its second input, or its first blob."""
    shape = at.x.shape
    axis = at.axis(axis)
    if len(at.bottoms) > 1:
        own = at.bottoms[1].shape
        axis = axis if own else 0
        at.need(shape[axis : axis + len(own)] == own, f"applies {list(own)} to {list(shape)} at the axis {axis}")
        return at.op("Reshape", at.bottoms[1], [*own, *[1] * (len(shape) - axis - len(own))])
    end = len(shape) if num_axes < 0 else axis + num_axes
    at.need(end <= len(shape), f"covers {num_axes} axes from {axis}, but there are {len(shape)}")
    return at.weights(0, shape[axis:end]).reshape(*shape[axis:end], *[1] * (len(shape) - end))


def _scale(at: Step) -> None:
    param = at.layer.scale_param
    factor = _operand(at, param.axis, param.num_axes)
    if not param.bias_term:
        at.same("Mul", at.x, factor)
        return
    if len(at.bottoms) > 1:
        own = at.bottoms[1].shape
        bias = at.weights(0, (*own, *[1] * (len(at.x.shape) - at.axis(param.axis) - len(own))))
    else:
        bias = at.weights(1, factor.shape)
    at.same("Add", at.op("Mul", at.x, factor), bias)


def _bias(at: Step) -> None:
    param = at.layer.bias_param
    at.same("Add", at.x, _operand(at, param.axis, param.num_axes))


def _lrn(at: Step) -> None:
    param = at.layer.lrn_param
    size = int(param.local_size)
    at.need(size % 2 == 1, f"has the even size {size}")
    if param.norm_region == pb.LRNParameter.ACROSS_CHANNELS:
        at.same("LRN", at.x, size=size, alpha=param.alpha, beta=param.beta, bias=param.k)
        return
    at.need(len(at.x.shape) == 4, f"reads a blob of the shape {list(at.x.shape)}; four dimensions are needed")
    mean = at.op(
        "AveragePool", at.op("Mul", at.x, at.x), kernel_shape=[size] * 2, strides=[1, 1], pads=[size // 2] * 4,
        count_include_pad=1,
    )  # fmt: skip
    base = at.op("Add", at.op("Mul", mean, _f(param.alpha)), _f(1))
    at.same("Mul", at.x, at.op("Pow", base, _f(-param.beta)))


def _mvn(at: Step) -> None:
    param, rank = at.layer.mvn_param, len(at.x.shape)
    at.need(rank == 4, f"reads a blob of the shape {list(at.x.shape)}; four dimensions are needed")
    axes = [1, 2, 3] if param.across_channels else [2, 3]
    mean = at.op("ReduceMean", at.x, axes)
    if not param.normalize_variance:
        at.same("Sub", at.x, mean)
        return
    centred = at.op("Sub", at.x, mean)
    deviation = at.op("Sqrt", at.op("ReduceMean", at.op("Mul", centred, centred), axes))
    at.same("Div", centred, at.op("Add", deviation, _f(param.eps)))


def _group_norm(at: Step) -> None:
    param, shape = at.layer.group_norm_param, at.x.shape
    groups = int(param.group_num)
    at.need(len(shape) > 2 and groups > 0 and shape[1] % groups == 0, f"has {groups} groups for {list(shape)}")
    grouped = at.op("Reshape", at.x, [shape[0], groups, -1])
    one, zero = np.ones(groups, np.float32), np.zeros(groups, np.float32)
    at.end(shape, "Reshape", at.op("InstanceNormalization", grouped, one, zero, epsilon=param.eps), list(shape))


def _normalize(at: Step) -> None:
    """SSD's norm over channels, or over an image."""
    param, shape = at.layer.norm_param, at.x.shape
    at.need(len(shape) == 4, f"reads a blob of the shape {list(shape)}; four dimensions are needed")
    axes = [1, 2, 3] if param.across_spatial else [1]
    length = at.op("Sqrt", at.op("Add", at.op("ReduceSumSquare", at.x, axes), _f(param.eps)))
    scale = at.weights(0, (1,) if param.channel_shared else (shape[1], 1, 1))
    at.same("Mul", at.op("Div", at.x, length), scale)


def _lp_normalization(at: Step) -> None:
    axis = at.axis(at.layer.l2normalization_param.axis)
    at.same("LpNormalization", at.x, axis=axis, p=1 if at.layer.type.startswith("L1") else 2)


def _softmax(at: Step) -> None:
    at.same("Softmax", at.x, axis=at.axis(at.layer.softmax_param.axis))


# Elementwise.


def _unary(op_type: str) -> Callable[[Step], None]:
    def convert(at: Step) -> None:
        at.same(op_type, at.x)

    return convert


def _relu(at: Step) -> None:
    slope = at.layer.relu_param.negative_slope
    if slope:
        at.same("LeakyRelu", at.x, alpha=slope)
    else:
        at.same("Relu", at.x)


def _prelu(at: Step) -> None:
    shape = at.x.shape
    at.need(len(shape) > 1, f"reads a blob of the shape {list(shape)}")
    width = (1,) if at.layer.prelu_param.channel_shared else (shape[1],)
    at.same("PRelu", at.x, at.weights(0, width).reshape(*width, *[1] * (len(shape) - 2)))


def _elu(at: Step) -> None:
    at.same("Elu", at.x, alpha=at.layer.elu_param.alpha)


def _clip(at: Step) -> None:
    param = at.layer.clip_param
    low, high = (0.0, 6.0) if at.layer.type == "ReLU6" else (param.min, param.max)
    at.same("Clip", at.x, _f(low), _f(high))


def _swish(at: Step) -> None:
    at.same("Mul", at.x, at.op("Sigmoid", at.x))


def _threshold(at: Step) -> None:
    over = at.op("Greater", at.x, _f(at.layer.threshold_param.threshold))
    at.same("Cast", over, to=ir.DataType.FLOAT)


Operation = tuple[str, tuple[float, ...]]


def _chain(at: Step, steps: Sequence[Operation]) -> None:
    """Ops one after another, each with constants as its other inputs; Identity where there are none."""
    value: Any = at.x
    for op_type, operands in steps[:-1]:
        value = at.op(op_type, value, *map(_f, operands))
    op_type, operands = steps[-1] if steps else ("Identity", ())
    at.same(op_type, value, *map(_f, operands))


def _affine(scale: float, shift: float) -> list[Operation]:
    steps: list[Operation] = [("Mul", (scale,)), ("Add", (shift,))]
    return [step for step, needed in zip(steps, (scale != 1, shift != 0), strict=True) if needed]


def _power(at: Step) -> None:
    param = at.layer.power_param
    _chain(at, [*_affine(param.scale, param.shift), *([("Pow", (param.power,))] if param.power != 1 else [])])


def _exp(at: Step) -> None:
    param = at.layer.exp_param
    at.need(param.base == -1 or param.base > 0, f"has the base {param.base}")
    rate = 1.0 if param.base == -1 else math.log(param.base)
    _chain(at, [*_affine(param.scale * rate, param.shift * rate), ("Exp", ())])


def _log(at: Step) -> None:
    param = at.layer.log_param
    at.need(param.base == -1 or (param.base > 0 and param.base != 1), f"has the base {param.base}")
    rate = 1.0 if param.base == -1 else 1 / math.log(param.base)
    _chain(at, [*_affine(param.scale, param.shift), ("Log", ()), *_affine(rate, 0)])


def _eltwise(at: Step) -> None:
    param = at.layer.eltwise_param
    at.need(len(at.bottoms) > 1, "has one input")
    shapes = {bottom.shape for bottom in at.bottoms}
    at.need(len(shapes) == 1, f"reads blobs of different shapes: {', '.join(str(list(one)) for one in shapes)}")
    values: list[Any] = list(at.bottoms)
    kind = {pb.EltwiseParameter.PROD: "Mul", pb.EltwiseParameter.SUM: "Add", pb.EltwiseParameter.MAX: "Max"}
    op_type = "Add" if at.layer.type == "Add" else kind[param.operation]
    if param.coeff and op_type == "Add":
        at.need(len(param.coeff) == len(values), f"has {len(param.coeff)} coefficients for {len(values)} inputs")
        values = [
            value if factor == 1 else at.op("Mul", value, _f(factor))
            for value, factor in zip(values, param.coeff, strict=True)
        ]
    total = values[0]
    for value in values[1:-1]:
        total = at.op(op_type, total, value)
    at.same(op_type, total, values[-1])


def _axpy(at: Step) -> None:
    """SENet's a·x + y, with a factor for each channel of each image."""
    factor, x, y = at.bottom(0), at.bottom(1), at.bottom(2)
    at.need(x.shape == y.shape and factor.shape[:2] == x.shape[:2], "reads blobs whose shapes do not fit each other")
    column = at.op("Reshape", factor, [*x.shape[:2], *[1] * (len(x.shape) - 2)])
    at.end(x.shape, "Add", at.op("Mul", column, x), y)


def _mat_mul(at: Step) -> None:
    a, b = at.bottom(0), at.bottom(1)
    at.need(
        len(a.shape) == len(b.shape) >= 2 and a.shape[:-2] == b.shape[:-2] and a.shape[-1] == b.shape[-2],
        f"multiplies {list(a.shape)} by {list(b.shape)}",
    )
    at.end((*a.shape[:-1], b.shape[-1]), "MatMul", a, b)


# Movement.


def _identity(at: Step) -> None:
    for _ in at.names:
        at.same("Identity", at.x)


def _concat(at: Step) -> None:
    param, shape = at.layer.concat_param, at.x.shape
    axis = at.axis(param.concat_dim if param.HasField("concat_dim") else param.axis)
    for bottom in at.bottoms:
        rest = (*bottom.shape[:axis], *bottom.shape[axis + 1 :])
        at.need(rest == (*shape[:axis], *shape[axis + 1 :]), f"joins {list(shape)} and {list(bottom.shape)} at {axis}")
    total = sum(bottom.shape[axis] for bottom in at.bottoms)
    at.end((*shape[:axis], total, *shape[axis + 1 :]), "Concat", *at.bottoms, axis=axis)


def _slice(at: Step) -> None:
    param, shape, count = at.layer.slice_param, at.x.shape, len(at.names)
    axis = at.axis(param.slice_dim if param.HasField("slice_dim") else param.axis)
    points = [int(point) for point in param.slice_point]
    if not points:
        at.need(shape[axis] % count == 0, f"cuts {shape[axis]} into {count} equal pieces")
        points = [shape[axis] // count * number for number in range(1, count)]
    edges = [0, *points, shape[axis]]
    sizes = [after - before for before, after in pairwise(edges)]
    at.need(min(sizes) > 0, f"cuts {shape[axis]} at {points}")
    at.split(at.x.value, [(*shape[:axis], size, *shape[axis + 1 :]) for size in sizes], sizes, axis)


def _flatten(at: Step) -> None:
    param, shape = at.layer.flatten_param, at.x.shape
    begin, end = at.axis(param.axis), at.axis(param.end_axis)
    at.need(begin <= end, f"flattens the axes {begin} to {end}")
    full = (*shape[:begin], math.prod(shape[begin : end + 1]), *shape[end + 1 :])
    at.end(full, "Reshape", at.x, list(full))


def _reshape(at: Step) -> None:
    param, shape = at.layer.reshape_param, at.x.shape
    begin = at.axis(param.axis, len(shape) + 1)
    end = len(shape) if param.num_axes < 0 else begin + param.num_axes
    at.need(end <= len(shape), f"replaces the axes {begin} to {end}, but there are {len(shape)}")
    inner = [int(size) for size in param.shape.dim]
    at.need(inner.count(-1) <= 1 and min(inner, default=0) >= -1, f"has the shape {inner}")
    for place, size in enumerate(inner):
        if size == 0:
            at.need(begin + place < len(shape), f"copies the size of the axis {begin + place} of {len(shape)}")
            inner[place] = shape[begin + place]
    full = [*shape[:begin], *inner, *shape[end:]]
    if -1 in full:
        known = -math.prod(full)
        at.need(known > 0 and math.prod(shape) % known == 0, f"can't make {full} of {list(shape)}")
        full[full.index(-1)] = math.prod(shape) // known
    at.need(math.prod(full) == math.prod(shape), f"can't make {full} of {list(shape)}")
    at.end(full, "Reshape", at.x, full)


def _permute(at: Step) -> None:
    rank, order = len(at.x.shape), [int(axis) for axis in at.layer.permute_param.order]
    order += [axis for axis in range(rank) if axis not in order]
    at.need(sorted(order) == list(range(rank)), f"has the order {order} for {rank} axes")
    at.end([at.x.shape[axis] for axis in order], "Transpose", at.x, perm=order)


def _crop(at: Step) -> None:
    param, shape, wanted = at.layer.crop_param, at.x.shape, at.bottom(1).shape
    begin = at.axis(param.axis)
    offsets = [int(offset) for offset in param.offset] or [0]
    offsets = offsets * (len(shape) - begin) if len(offsets) == 1 else offsets
    at.need(len(wanted) == len(shape) == begin + len(offsets), f"has {len(offsets)} offsets from the axis {begin} on")
    axes = range(begin, len(shape))
    ends = [offset + wanted[axis] for offset, axis in zip(offsets, axes, strict=True)]
    at.need(
        all(end <= shape[axis] for end, axis in zip(ends, axes, strict=True)),
        f"cuts {list(wanted)} out of {list(shape)}",
    )
    at.end((*shape[:begin], *wanted[begin:]), "Slice", at.x, offsets, ends, list(axes))


def _tile(at: Step) -> None:
    param, shape = at.layer.tile_param, at.x.shape
    axis = at.axis(param.axis)
    at.need(param.tiles > 0, f"has {param.tiles} tiles")
    repeats = [param.tiles if place == axis else 1 for place in range(len(shape))]
    at.end([size * times for size, times in zip(shape, repeats, strict=True)], "Tile", at.x, repeats)


def _shuffle_channel(at: Step) -> None:
    shape, group = at.x.shape, int(at.layer.shuffle_channel_param.group)
    at.need(len(shape) > 1 and group > 0 and shape[1] % group == 0, f"has {group} groups for {list(shape)}")
    rest = shape[2:]
    apart = at.op("Reshape", at.x, [shape[0], group, shape[1] // group, *rest])
    turned = at.op("Transpose", apart, perm=[0, 2, 1, *range(3, len(rest) + 3)])
    at.end(shape, "Reshape", turned, list(shape))


def _reorg(at: Step) -> None:
    """Darknet's: the blob's memory is taken for one with fewer, larger channels, whose squares become channels."""
    param, shape = at.layer.reorg_param, at.x.shape
    s = int(param.stride)
    at.need(len(shape) == 4 and s > 0, f"has the stride {s} for {list(shape)}")
    if param.reverse:
        at.lacks("reverse")
    n, c, h, w = shape
    at.need(c % (s * s) == 0 and h % s == 0 and w % s == 0, f"has the stride {s} for {list(shape)}")
    apart = at.op("Reshape", at.x, [n, c // (s * s), h, s, w, s])
    turned = at.op("Transpose", apart, perm=[0, 3, 5, 1, 2, 4])
    full = (n, c * s * s, h // s, w // s)
    at.end(full, "Reshape", turned, list(full))


# Sizes.


def _interp(at: Step) -> None:
    """DeepLab's bilinear resize, whose corners stay in place; a negative padding cuts the input."""
    param, (n, c, *sizes) = at.layer.interp_param, at.x.shape
    at.need(len(sizes) == 2, f"reads a blob of the shape {list(at.x.shape)}; four dimensions are needed")
    x: Any = at.x
    begin, end = param.pad_beg, param.pad_end
    at.need(begin <= 0 and end <= 0, "pads its input; only cutting, a negative padding, is defined")
    if begin or end:
        ends = [size + end for size in sizes]
        sizes = [size + begin + end for size in sizes]
        at.need(min(sizes) > 0, "cuts all of its input away")
        x = at.op("Slice", x, [-begin] * 2, ends, [2, 3])
    if len(at.bottoms) > 1:
        out = list(at.bottoms[1].shape[2:])
    elif param.HasField("height") and param.HasField("width"):
        out = [param.height, param.width]
    else:
        at.need(param.shrink_factor > 0 and param.zoom_factor > 0, "has a factor below 1")
        out = [(size - 1) // param.shrink_factor + 1 for size in sizes]
        out = [size + (size - 1) * (param.zoom_factor - 1) for size in out]
    at.need(len(out) == 2 and min(out) > 0, f"makes the size {out}")
    full = (n, c, *out)
    at.end(full, "Resize", x, None, None, list(full), mode="linear", coordinate_transformation_mode="align_corners")


def _upsample(at: Step) -> None:
    param, shape = at.layer.upsample_param, at.x.shape
    at.need(len(shape) == 4, f"reads a blob of the shape {list(shape)}; four dimensions are needed")
    if len(at.bottoms) > 1:
        at.lacks("it puts maxima back at their places")
    if param.HasField("upsample_h"):
        sizes = [param.upsample_h, param.upsample_w]
        factors = [sizes[0] / shape[2], sizes[1] / shape[3]]
    else:
        factors = [param.scale_h or param.scale or 1, param.scale_w or param.scale or 1]
    _nearest(at, factors)


def _resize_nearest(at: Step) -> None:
    at.need(len(at.x.shape) == 4, f"reads a blob of the shape {list(at.x.shape)}; four dimensions are needed")
    param = at.layer.resize_nearest_param
    _nearest(at, [param.height_scale, param.width_scale])


def _nearest(at: Step, factors: Sequence[float]) -> None:
    n, c, h, w = at.x.shape
    full = (n, c, int(h * factors[0]), int(w * factors[1]))
    at.end(
        full, "Resize", at.x, None, None, list(full), mode="nearest", coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )  # fmt: skip


# Reductions.


def _reduction(at: Step) -> None:
    param, shape = at.layer.reduction_param, at.x.shape
    axis = at.axis(param.axis)
    kinds = pb.ReductionParameter
    kind = {kinds.SUM: "ReduceSum", kinds.ASUM: "ReduceL1", kinds.SUMSQ: "ReduceSumSquare", kinds.MEAN: "ReduceMean"}
    op_type, axes = kind[param.operation], list(range(axis, len(shape)))
    if param.coeff == 1:
        at.end(shape[:axis], op_type, at.x, axes, keepdims=0)
    else:
        at.end(shape[:axis], "Mul", at.op(op_type, at.x, axes, keepdims=0), _f(param.coeff))


def _argmax(at: Step) -> None:
    """Places of the greatest as floats; without an axis over all of an image, and then their values if asked."""
    param, shape, k = at.layer.argmax_param, at.x.shape, int(at.layer.argmax_param.top_k)
    apart = not param.HasField("axis")
    x: Any = at.op("Reshape", at.x, [shape[0], 1, -1]) if apart else at.x
    axis = 2 if apart else at.axis(param.axis)
    length = math.prod(shape[1:]) if apart else shape[axis]
    at.need(0 < k <= length, f"wants the {k} greatest of {length}")
    full = (shape[0], 1, k) if apart else (*shape[:axis], k, *shape[axis + 1 :])
    if len(full) < 3:
        full = (*full, *[1] * (3 - len(full)))
    values, places = at.pair("TopK", x, [k], axis=axis)
    if not param.out_max_val:
        at.end(full, "Reshape", at.op("Cast", places, to=ir.DataType.FLOAT), list(full))
    elif not apart:
        at.end(full, "Reshape", values, list(full))
    else:
        at.end((shape[0], 2, k), "Concat", at.op("Cast", places, to=ir.DataType.FLOAT), values, axis=1)


# SSD.


def _prior_box(at: Step) -> None:
    """Boxes (x1, y1, x2, y2) for each cell of the first input, relative to the second, and their variances."""
    param, features = at.layer.prior_box_param, at.x.shape
    at.need(len(features) == 4, f"reads a blob of the shape {list(features)}; four dimensions are needed")
    height, width = features[2:]
    image_h, image_w = param.img_h or param.img_size, param.img_w or param.img_size
    if not (image_h and image_w):
        image_h, image_w = at.bottom(1).shape[2:]
    step_h, step_w = param.step_h or param.step or image_h / height, param.step_w or param.step or image_w / width
    at.need(step_h > 0 and step_w > 0, f"has the steps {step_h} and {step_w}")
    ratios = [1.0]
    for ratio in param.aspect_ratio:
        at.need(ratio > 0, f"has the aspect ratio {ratio}")
        if all(abs(ratio - known) >= 1e-6 for known in ratios):
            ratios += [ratio, 1 / ratio] if param.flip else [ratio]
    at.need(bool(param.min_size), "has no min_size")
    at.need(len(param.max_size) in (0, len(param.min_size)), "has not as many max_size as min_size")
    sizes: list[tuple[float, float]] = []
    for number, least in enumerate(param.min_size):
        at.need(least > 0, f"has the min_size {least}")
        sizes.append((least, least))
        if param.max_size:
            at.need(
                param.max_size[number] > least, f"has a max_size of {param.max_size[number]}, but a min_size of {least}"
            )
            sizes.append((math.sqrt(least * param.max_size[number]),) * 2)
        sizes += [(least * math.sqrt(r), least / math.sqrt(r)) for r in ratios if abs(r - 1) >= 1e-6]
    at.need(height * width * len(sizes) * 8 <= MAX_CONSTANT, f"makes {height * width * len(sizes)} boxes")
    centre = np.empty((height, width, 1, 2))
    centre[..., 0] = ((np.arange(width) + param.offset) * step_w)[None, :, None]
    centre[..., 1] = ((np.arange(height) + param.offset) * step_h)[:, None, None]
    half = np.array(sizes) / 2
    boxes = np.concatenate([centre - half, centre + half], axis=-1) / [image_w, image_h, image_w, image_h]
    if param.clip:
        boxes = np.clip(boxes, 0, 1)
    variance = [float(one) for one in param.variance] or [0.1]
    at.need(len(variance) in (1, 4), f"has {len(variance)} variances; 1 or 4 are needed")
    variances = np.broadcast_to(np.array(variance * (4 if len(variance) == 1 else 1)), boxes.shape)
    at.constant(np.stack([boxes.reshape(-1), variances.reshape(-1)])[None].astype(np.float32))


def _detection_output(at: Step) -> None:
    """Boxes decoded, suppressed by class, the best kept: rows (image, class, score, x1, y1, x2, y2).

    As in Caffe, rows are ordered by class and then by score, and without any detection there is a row of −1 for
    each image.
    """
    param, nms = at.layer.detection_output_param, at.layer.detection_output_param.nms_param
    classes, background = int(param.num_classes), param.background_label_id
    location, confidence, prior = at.bottom(0), at.bottom(1), at.bottom(2)
    at.need(len(prior.shape) == 3 and prior.shape[2] % 4 == 0, f"reads priors of the shape {list(prior.shape)}")
    batch, count = location.shape[0], prior.shape[2] // 4
    own = 1 if param.share_location else classes
    at.need(0 < classes < 1 << 16, f"has {classes} classes")
    at.need(
        math.prod(location.shape) == batch * count * own * 4 and math.prod(confidence.shape) == batch * count * classes,
        f"reads {list(location.shape)} and {list(confidence.shape)} for {count} priors of {classes} classes",
    )
    if not param.normalized_bbox:
        at.lacks("normalized_bbox: false")
    if nms.HasField("eta") and nms.eta != 1:
        at.lacks(f"a threshold that changes (eta {nms.eta})")
    if batch > 1 and param.keep_top_k >= 0:
        at.lacks("keep_top_k with more than one image")
    labels = [label for label in range(classes) if label != background]
    kept = min(count, nms.top_k) if nms.top_k > 0 else count
    boxes = _decoded(at, location, prior, (batch, count, own), param)
    if own == 1:
        boxes = at.op("Expand", boxes, [batch, len(labels), count, 4])
    else:
        boxes = at.op("Gather", boxes, labels, axis=1)
    scores = at.op("Transpose", at.op("Reshape", confidence, [batch, count, classes]), perm=[0, 2, 1])
    scores = at.op("Gather", scores, labels, axis=1)
    best, places = at.pair("TopK", scores, [kept], axis=2)
    candidates = at.op("GatherND", boxes, at.op("Unsqueeze", places, [3]), batch_dims=2)
    rows = batch * len(labels)
    candidates = at.op("Reshape", candidates, [rows, kept, 4])
    selected = at.op(
        "NonMaxSuppression", candidates, at.op("Reshape", best, [rows, 1, kept]), [kept], _f(nms.nms_threshold)[None],
        _f(param.confidence_threshold)[None] if param.HasField("confidence_threshold") else None,
    )  # fmt: skip
    first = at.op("Gather", selected, np.int64(0), axis=1)
    pairs = at.op("Gather", selected, [0, 2], axis=1)
    of_row = np.stack([np.repeat(np.arange(batch), len(labels)), np.tile(labels, batch)], axis=1).astype(np.float32)
    found = at.op(
        "Concat", at.op("Gather", of_row, first),
        at.op("Unsqueeze", at.op("GatherND", at.op("Reshape", best, [rows, kept]), pairs), [1]),
        at.op("GatherND", candidates, pairs), axis=1,
    )  # fmt: skip
    if param.keep_top_k >= 0:
        length = at.op("Min", at.op("Shape", first), [param.keep_top_k])
        order = at.pair("TopK", at.op("Gather", found, np.int64(2), axis=1), length, axis=0)[1]
        order = at.pair("TopK", order, length, axis=0, largest=0)[0]
        found = at.op("Gather", found, order)
    empty = np.full((batch, 7), -1, np.float32)
    empty[:, 0] = np.arange(batch)
    length = at.op("Shape", found, start=0, end=1)
    length = at.op("Where", at.op("Equal", length, [0]), [batch], length)
    found = at.op("Slice", at.op("Concat", found, empty, axis=0), [0], length, [0])
    at.end((1, 1, batch if param.keep_top_k < 0 else max(1, param.keep_top_k), 7), "Reshape", found, [1, 1, -1, 7])


def _decoded(at: Step, location: Blob, prior: Blob, sizes: Shape, param: Any) -> ir.Value:
    """Boxes as corners, [batch, 1 or classes, priors, 4]."""
    batch, count, own = sizes
    kinds = pb.PriorBoxParameter
    places = at.op("Transpose", at.op("Reshape", location, [batch, count, own, 4]), perm=[0, 2, 1, 3])
    both = at.op("Reshape", prior, [2, count, 4])
    base = at.op("Gather", both, np.int64(0), axis=0)
    if not param.variance_encoded_in_target:
        places = at.op("Mul", places, at.op("Gather", both, np.int64(1), axis=0))
    if param.code_type == kinds.CORNER:
        return at.op("Add", base, places)
    low, high = at.pair("Split", base, [2, 2], axis=1)
    size = at.op("Sub", high, low)
    if param.code_type == kinds.CORNER_SIZE:
        return at.op("Add", base, at.op("Mul", places, at.op("Concat", size, size, axis=1)))
    middle = at.op("Mul", at.op("Add", low, high), _f(0.5))
    moved, grown = at.pair("Split", places, [2, 2], axis=3)
    centre = at.op("Add", at.op("Mul", moved, size), middle)
    half = at.op("Mul", at.op("Mul", at.op("Exp", grown), size), _f(0.5))
    return at.op("Concat", at.op("Sub", centre, half), at.op("Add", centre, half), axis=3)


LAYERS: dict[str, Callable[[Step], None]] = {
    "AbsVal": _unary("Abs"),
    "Add": _eltwise,
    "ArgMax": _argmax,
    "Axpy": _axpy,
    "BNLL": _unary("Softplus"),
    "BatchNorm": _batch_norm,
    "Bias": _bias,
    "Clip": _clip,
    "Concat": _concat,
    "Convolution": _convolution,
    "ConvolutionDepthwise": _depthwise,
    "Crop": _crop,
    "Deconvolution": _convolution,
    "DepthwiseConvolution": _depthwise,
    "DetectionOutput": _detection_output,
    "Dropout": _identity,
    "ELU": _elu,
    "Eltwise": _eltwise,
    "Embed": _embed,
    "Exp": _exp,
    "Flatten": _flatten,
    "GroupNorm": _group_norm,
    "InnerProduct": _inner_product,
    "Interp": _interp,
    "L1Normalization": _lp_normalization,
    "L2Normalization": _lp_normalization,
    "LRN": _lrn,
    "Log": _log,
    "MVN": _mvn,
    "MatMul": _mat_mul,
    "Normalize": _normalize,
    "PReLU": _prelu,
    "Permute": _permute,
    "Pooling": _pooling,
    "Power": _power,
    "PriorBox": _prior_box,
    "ReLU": _relu,
    "ReLU6": _clip,
    "Reduction": _reduction,
    "Reorg": _reorg,
    "Reshape": _reshape,
    "ResizeNearest": _resize_nearest,
    "Scale": _scale,
    "ShuffleChannel": _shuffle_channel,
    "Sigmoid": _unary("Sigmoid"),
    "Slice": _slice,
    "Softmax": _softmax,
    "Split": _identity,
    "Swish": _swish,
    "TanH": _unary("Tanh"),
    "Threshold": _threshold,
    "Tile": _tile,
    "Upsample": _upsample,
}
