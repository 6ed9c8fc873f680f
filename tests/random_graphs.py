"""Random graphs over the ops that run on OpenCL, against ONNX Runtime and the ONNX reference evaluator.

    python tests/random_graphs.py --device intel --graphs 5000 [--seed 1]

Each graph is drawn by hypothesis; one that differs is made as small as it can be and printed.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from support import Array, Outputs, difference, reference

FLOATS = ("float32", "float16", "float64")
INTEGERS = ("int32", "int64", "uint8", "int8")
MOST_ELEMENTS = 2048

TOLERANCES = {"float16": 4e-3, "float32": 2e-5, "float64": 2e-5}
"""Of the greatest value of an output; the graphs are a few nodes deep."""


@dataclass
class Draft:
    """A graph while it is drawn: its nodes, and its tensors with their values as the reference evaluator has them."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    inputs: dict[str, Array] = field(default_factory=dict)
    constants: dict[str, Array] = field(default_factory=dict)
    tensors: dict[str, Array] = field(default_factory=dict)

    def constant(self, array: Array) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = array
        return name

    def add(self, op: str, inputs: list[str], outputs: int = 1, **attributes: Any) -> None:
        """A node, if the reference evaluator can compute it, and to finite values."""
        names = [f"t{len(self.tensors) + index}" for index in range(outputs)]
        node = helper.make_node(op, inputs, names, name=f"{op}_{len(self.nodes)}", **attributes)
        known = {**self.tensors, **self.constants}
        given = {name: known[name] for name in inputs if name}
        try:
            results = reference(_model([node], given, names, {}), given)
        except Exception:  # not for these types or shapes: another op is drawn instead
            return
        for value in results.values():
            finite = value.dtype.kind not in "f" or (np.isfinite(value).all() and np.abs(value).max(initial=0) < 1e4)
            if value.size > MOST_ELEMENTS or not finite:
                return
        self.nodes.append(node)
        self.tensors |= results


def _model(
    nodes: list[onnx.NodeProto], inputs: dict[str, Array], outputs: list[str], constants: dict[str, Array]
) -> onnx.ModelProto:
    ports = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
        for name, x in inputs.items()
    ]
    held = [numpy_helper.from_array(x, name) for name, x in constants.items()]
    graph = helper.make_graph(nodes, "drawn", ports, [onnx.ValueInfoProto(name=name) for name in outputs], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


UNARY = ("Abs", "Neg", "Relu", "Sigmoid", "Tanh", "Floor", "Ceil", "Round", "Exp", "Sign", "Not", "Erf", "Softplus",
         "HardSwish", "LeakyRelu", "Elu", "Gelu", "Identity", "BitwiseNot", "IsNaN")  # fmt: skip
BINARY = ("Add", "Sub", "Mul", "Max", "Min", "Equal", "Less", "Greater", "GreaterOrEqual", "And", "Or", "Xor", "PRelu",
          "BitwiseAnd", "BitwiseOr")  # fmt: skip
REDUCE = ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceSumSquare", "ReduceProd")


def _shape(draw: st.DrawFn, rank: int | None = None) -> tuple[int, ...]:
    size = st.sampled_from((1, 2, 3, 4, 5, 7, 8, 16, 17))
    count = draw(st.integers(0, 4)) if rank is None else rank
    shape = tuple(draw(size) for _ in range(count))
    while np.prod(shape, initial=1) > MOST_ELEMENTS:
        shape = tuple(max(1, size // 2) for size in shape)
    return shape


def _values(draw: st.DrawFn, kind: str, shape: tuple[int, ...]) -> Array:
    rng = np.random.default_rng(draw(st.integers(0, 1 << 16)))
    if kind == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if kind in FLOATS:
        return rng.standard_normal(shape).astype(kind)
    return rng.integers(0 if kind.startswith("u") else -5, 6, shape).astype(kind)


@st.composite
def drafts(draw: st.DrawFn) -> Draft:
    """A graph of one to six nodes over one or two inputs."""
    draft = Draft()
    for index in range(draw(st.integers(1, 2))):
        kind = draw(st.sampled_from(("float32", "float32", "float32", "float16", "int64", "int32", "uint8", "bool")))
        shape = _shape(draw, 4) if draw(st.integers(0, 2)) == 0 else _shape(draw)
        draft.inputs[f"x{index}"] = draft.tensors[f"x{index}"] = _values(draw, kind, shape)
    for _ in range(draw(st.integers(1, 6))):
        _step(draw, draft)
    return draft


def _step(draw: st.DrawFn, draft: Draft) -> None:
    name = draw(st.sampled_from(list(draft.tensors)))
    x = draft.tensors[name]
    kind, shape, rank = str(x.dtype), x.shape, x.ndim
    axis = draw(st.integers(-rank, rank - 1)) if rank else 0
    what = draw(st.integers(0, 19))
    if what <= 3:
        draft.add(draw(st.sampled_from(UNARY)), [name])
    elif what <= 6:
        fits = [other for other, value in draft.tensors.items() if value.dtype == x.dtype]
        other = draw(st.sampled_from(fits))
        if draw(st.booleans()):
            cut = shape[draw(st.integers(0, rank)) :]
            other = draft.constant(_values(draw, kind, tuple(1 if draw(st.booleans()) else size for size in cut)))
        op, value = draw(st.sampled_from(BINARY)), (draft.constants | draft.tensors)[other]
        if op != "PRelu" or value.ndim <= rank:  # a slope is not to widen the other operand
            draft.add(op, [name, other])
    elif what == 7:
        axes = sorted({draw(st.integers(0, rank - 1)) for _ in range(2)}) if rank else []
        inputs = [name, draft.constant(np.array(axes, np.int64))] if axes else [name]
        draft.add(draw(st.sampled_from(REDUCE)), inputs, keepdims=draw(st.integers(0, 1)))
    elif what == 8 and rank:
        draft.add("Transpose", [name], perm=list(draw(st.permutations(range(rank)))))
    elif what == 9:
        sizes = [-1] if draw(st.booleans()) else [shape[0] if rank else 1, -1]
        draft.add("Reshape", [name, draft.constant(np.array(sizes, np.int64))])
    elif what == 10 and rank:
        others = [other for other, value in draft.tensors.items() if value.dtype == x.dtype and value.ndim == rank]
        draft.add("Concat", [name, draw(st.sampled_from(others))], axis=axis)
    elif what == 11 and rank:
        size = shape[axis]
        start, stop = draw(st.integers(-size, size)), draw(st.integers(-size, size))
        step = draw(st.sampled_from((1, 1, 2, -1, -2)))
        bounds = [draft.constant(np.array([value], np.int64)) for value in (start, stop, axis, step)]
        draft.add("Slice", [name, *bounds])
    elif what == 12 and rank:
        where = np.array([draw(st.integers(-shape[axis], shape[axis] - 1)) for _ in range(3)] if shape[axis] else [])
        draft.add("Gather", [name, draft.constant(where.astype(np.int64))], axis=axis)
    elif what == 13 and rank:
        draft.add(draw(st.sampled_from(("Softmax", "LogSoftmax", "Hardmax"))), [name], axis=axis)
    elif what == 14:
        target = draw(st.sampled_from(("float32", "float16", "int32", "int64", "bool", "uint8")))
        if x.dtype.kind != "f" or target in (*FLOATS, "bool"):
            draft.add("Cast", [name], to=helper.np_dtype_to_tensor_dtype(np.dtype(target)))
    elif what == 15 and rank >= 2:
        depth = draw(st.sampled_from((1, 3, 8, 17)))
        draft.add("MatMul", [name, draft.constant(_values(draw, kind, (shape[-1], depth)))])
    elif what == 16 and rank == 4 and x.size:  # of no channels, ONNX Runtime 1.31 never ends
        filters, taps = draw(st.sampled_from((1, 3, 16))), draw(st.sampled_from((1, 3)))
        weights = _values(draw, kind, (filters, shape[1], taps, taps))
        stride, pad = draw(st.integers(1, 2)), draw(st.integers(0, 1))
        draft.add("Conv", [name, draft.constant(weights)], strides=[stride] * 2, pads=[pad] * 4)
    elif what == 17 and rank == 4:
        op, size = draw(st.sampled_from(("MaxPool", "AveragePool"))), draw(st.integers(1, 3))
        draft.add(op, [name], kernel_shape=[size] * 2, strides=[draw(st.integers(1, 2))] * 2)
    elif what == 18 and rank:
        op = draw(st.sampled_from(("ArgMax", "ArgMin", "CumSum", "TopK", "Tile", "Expand", "Pad")))
        if op in ("ArgMax", "ArgMin"):
            if x.size:  # of nothing, there is none
                draft.add(op, [name], axis=axis, keepdims=draw(st.integers(0, 1)))
        elif op == "CumSum":
            draft.add(op, [name, draft.constant(np.array(axis))], reverse=draw(st.integers(0, 1)))
        elif op == "TopK":
            count = draft.constant(np.array([draw(st.integers(1, max(1, shape[axis])))]))
            draft.add(op, [name, count], 2, axis=axis, largest=draw(st.integers(0, 1)))
        elif op == "Tile":
            draft.add(op, [name, draft.constant(np.array([draw(st.integers(1, 2)) for _ in shape]))])
        elif op == "Expand":
            draft.add(op, [name, draft.constant(np.array([2, *shape]))])
        else:
            pads = [draw(st.integers(0, 2)) for _ in range(2 * rank)]
            mode = draw(st.sampled_from(("constant", "edge", "reflect")))
            draft.add(op, [name, draft.constant(np.array(pads))], mode=mode)
    elif what == 19:
        masks = [other for other, value in draft.tensors.items() if value.dtype == bool]
        if masks:
            zero = draft.constant(np.zeros((), x.dtype))
            draft.add("Where", [draw(st.sampled_from(masks)), name, zero])


def model_of(draft: Draft) -> onnx.ModelProto:
    """The whole graph; what no node reads is an output."""
    read = {name for node in draft.nodes for name in node.input}
    outputs = [name for node in draft.nodes for name in node.output if name not in read]
    return _model(draft.nodes, draft.inputs, outputs, draft.constants)


def departures(expected: Outputs, got: Outputs) -> list[str]:
    """The outputs of ``got`` that are not ``expected``, each with why."""
    found = []
    for name, value in expected.items():
        mine = got[name]
        if mine.dtype != value.dtype or mine.shape != value.shape:
            found.append(f"{name}: {mine.dtype} {mine.shape} instead of {value.dtype} {value.shape}")
        elif value.dtype.kind != "f":
            if not np.array_equal(mine, value):
                found.append(f"{name}: {mine} instead of {value}")
        elif value.size:
            off = difference(mine.astype(np.float64), value.astype(np.float64))
            if not off <= TOLERANCES[str(value.dtype)]:
                found.append(f"{name}: departs by {off:.1e}")
    return found


def compare(draft: Draft, device: str, routes: Counter[str]) -> None:
    """Run a graph; AssertionError with the graph's text where it agrees with neither oracle."""
    from mace_cl.onnx_backend import prepare

    if not draft.nodes:
        return
    model = model_of(draft)
    prepared = prepare(model, device)
    got = dict(zip([port.name for port in model.graph.output], prepared.run(draft.inputs), strict=True))
    hosts = {place.op for place in prepared.where() if place.on == "host"}
    routes["wholly on OpenCL" if not hosts else "partly on the host"] += 1
    routes.update(f"host: {op}" for op in hosts)
    reasons = []
    for oracle in ("onnxruntime", "reference"):
        try:
            expected = reference(model, draft.inputs, oracle)
        except Exception as error:  # an op that this evaluator does not have for these types
            reasons.append(f"{oracle}: {error}")
            continue
        found = departures(expected, got)
        if not found:
            return
        reasons.append(f"{oracle}: {'; '.join(found)}")
    raise AssertionError("\n".join([onnx.printer.to_text(model), *reasons]))


def explore(device: str, graphs: int, number: int) -> Counter[str]:
    """Compare as many graphs; how many took which route."""
    routes: Counter[str] = Counter()

    @seed(number)
    @settings(
        max_examples=graphs, deadline=None, database=None, suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )  # fmt: skip
    @given(drafts())
    def check(draft: Draft) -> None:
        compare(draft, device, routes)

    check()
    return routes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", required=True)
    parser.add_argument("--graphs", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    for route, count in explore(options.device, options.graphs, options.seed).most_common():
        print(f"{count} {route}")


if __name__ == "__main__":
    main()
