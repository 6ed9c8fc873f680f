"""Caffe's layers that work element by element."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import onnx_ir as ir

from mace_cl.frontends.caffe import caffe_pb2 as pb
from mace_cl.frontends.caffe.step import Mapper, Step, f32

__all__ = ["LAYERS"]


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
    at.same("Clip", at.x, f32(low), f32(high))


def _swish(at: Step) -> None:
    at.same("Mul", at.x, at.op("Sigmoid", at.x))


def _threshold(at: Step) -> None:
    over = at.op("Greater", at.x, f32(at.layer.threshold_param.threshold))
    at.same("Cast", over, to=ir.DataType.FLOAT)


Operation = tuple[str, tuple[float, ...]]


def chain(at: Step, steps: Sequence[Operation]) -> None:
    """Ops one after another, each with constants as its other inputs; Identity where there are none."""
    value: Any = at.x
    for op_type, operands in steps[:-1]:
        value = at.op(op_type, value, *map(f32, operands))
    op_type, operands = steps[-1] if steps else ("Identity", ())
    at.same(op_type, value, *map(f32, operands))


def _affine(scale: float, shift: float) -> list[Operation]:
    steps: list[Operation] = [("Mul", (scale,)), ("Add", (shift,))]
    return [step for step, needed in zip(steps, (scale != 1, shift != 0), strict=True) if needed]


def _power(at: Step) -> None:
    param = at.layer.power_param
    chain(at, [*_affine(param.scale, param.shift), *([("Pow", (param.power,))] if param.power != 1 else [])])


def _exp(at: Step) -> None:
    param = at.layer.exp_param
    at.need(param.base == -1 or param.base > 0, f"has the base {param.base}")
    rate = 1.0 if param.base == -1 else math.log(param.base)
    chain(at, [*_affine(param.scale * rate, param.shift * rate), ("Exp", ())])


def _log(at: Step) -> None:
    param = at.layer.log_param
    at.need(param.base == -1 or (param.base > 0 and param.base != 1), f"has the base {param.base}")
    rate = 1.0 if param.base == -1 else 1 / math.log(param.base)
    chain(at, [*_affine(param.scale, param.shift), ("Log", ()), *_affine(rate, 0)])


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
            value if factor == 1 else at.op("Mul", value, f32(factor))
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


LAYERS: dict[str, Mapper] = {
    "AbsVal": _unary("Abs"),
    "Add": _eltwise,
    "Axpy": _axpy,
    "BNLL": _unary("Softplus"),
    "Clip": _clip,
    "ELU": _elu,
    "Eltwise": _eltwise,
    "Exp": _exp,
    "Log": _log,
    "PReLU": _prelu,
    "Power": _power,
    "ReLU": _relu,
    "ReLU6": _clip,
    "Sigmoid": _unary("Sigmoid"),
    "Swish": _swish,
    "TanH": _unary("Tanh"),
    "Threshold": _threshold,
}
