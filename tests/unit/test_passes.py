"""Each rewrite on the smallest graph that has it: what is left, and that nothing is done where it must not be."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from mace_cl.expr import Expr
from mace_cl.frontends.onnx import load
from mace_cl.graph import array_of, attribute, nodes_of
from mace_cl.passes import fold
from mace_cl.passes.canonical import explicit_pads
from mace_cl.passes.fold import FoldPass
from mace_cl.passes.pipeline import optimise
from support import Case, case, filled, model_of

X = (1, 4, 6, 6)
NORM: dict[str, Any] = {"s": (4,), "o": (4,), "m": (4,), "v": filled("v", (4,), 0.1)}
W: dict[str, Any] = {"w": (4, 4, 3, 3)}


def optimised(one: Case) -> list[ir.Node]:
    return list(optimise(load(model_of(one).SerializeToString())).graph)


def ops(body: str, **values: Any) -> list[str]:
    """Op names that are left of a graph; those with an epilogue end in ``+``."""
    nodes = optimised(case("g", body, **values))
    return [node.op_type + ("+" if "epilogue" in node.attributes else "") for node in nodes]


@pytest.mark.parametrize(
    ("body", "values", "left"),
    [
        ("c = Conv(x, w) n = BatchNormalization(c, s, o, m, v) y = Relu(n)", W | NORM, ["Conv+"]),
        ("c = Conv(x, w) y = BatchNormalization(c, s, o, m, v)", W | NORM, ["Conv"]),
        ("c = Conv(x, w) d = Mul(c, k) y = Add(j, d)", W | {"k": (4, 1, 1), "j": (1, 4, 1, 1)}, ["Conv"]),
        ("c = Conv(x, w) y = Mul(c, k)", W | {"k": (1, 1, 4, 1)}, ["Conv", "Elementwise"]),
        ("c = Conv(x, w) y = Relu(c) y1 = Exp(c)", W, ["Conv", "Elementwise", "Elementwise"]),
        ("y1 = Conv(x, w) y = Relu(y1)", W, ["Conv", "Elementwise"]),
        ("y1 = Conv(x, w) y = BatchNormalization(y1, s, o, m, v)", W | NORM, ["Conv", "Elementwise"]),
        ("c = Conv<pads=[1,1,1,1]>(x, w) a = Add(c, x) y = Relu(a)", W, ["Conv+"]),
        ("c = Conv(x, w) g = Sigmoid(c) y = Mul(c, g)", W, ["Conv+"]),
        ("c = Conv(x, w) g = GlobalAveragePool(x) y = Mul(c, g)", W, ["GlobalAveragePool", "Conv+"]),
        ("p = MaxPool<kernel_shape=[2,2]>(x) y = Relu(p)", {}, ["MaxPool", "Elementwise"]),
        ("p = AveragePool<kernel_shape=[2,2]>(x) y = Relu(p)", {}, ["AveragePool+"]),
        ("a = Relu(x) b = Exp(a) y = Neg(b)", {}, ["Elementwise"]),
        ("a = Relu(x) b = Exp(a) y = Add(b, a)", {}, ["Elementwise"]),
        ("y = Relu(x) y1 = Relu(x)", {}, ["Elementwise", "Identity"]),
        ("d, z = Dropout(x) y = Relu(d)", {}, ["Elementwise"]),
        ("f = Flatten(x) y = Gemm(f, k, l)", {"k": (144, 3), "l": (3,)}, ["Reshape", "Linear"]),
        ("f = Flatten(x) m = MatMul(f, k) a = Add(m, l) y = Relu(a)", {"k": (144, 3), "l": (3,)},
         ["Reshape", "Linear+"]),
        ("r = Reshape(x, s) m = MatMul(r, k) u = Reshape(m, t) y = Relu(u)",
         {"k": (6, 3), "s": [24, 6], "t": [1, 4, 6, 3]}, ["Linear+"]),
        ("r = Reshape(x, s) m = MatMul(r, k) u = Reshape(m, t) y = Relu(u)",
         {"k": (6, 3), "s": [24, 6], "t": [2, 12, 3]}, ["Reshape", "Linear+"]),
        ("t = Transpose<perm=[0,1,3,2]>(x) s = MatMul(x, t) d = Div(s, k) p = Softmax(d) o = MatMul(p, x) "
         "y = Transpose<perm=[0,2,1,3]>(o)", {"k": np.float32(2)}, ["Attention"]),
        ("t = Transpose<perm=[0,1,3,2]>(x) s = MatMul(x, t) d = Mul(s, k) a = Add(m, d) p = Softmax(a) "
         "y = MatMul(p, x)", {"k": np.float32(2), "m": (1, 1, 1, 6)}, ["Attention"]),
        ("a = Mul(x, k) t = Transpose<perm=[0,1,3,2]>(x) b = Mul(t, k) s = MatMul(a, b) p = Softmax(s) "
         "y = MatMul(p, x)", {"k": np.float32(2)}, ["Attention"]),
        ("t = Transpose<perm=[0,1,3,2]>(x) s = MatMul(x, t) p = Softmax<axis=1>(s) y = MatMul(p, x)", {},
         ["Transpose", "MatMul", "Softmax", "MatMul"]),
        ("y = ReduceMean(x, a)", {"a": [2, 3]}, ["GlobalAveragePool"]),
        ("y = ReduceMean<keepdims=0>(x, a)", {"a": [-1, -2]}, ["GlobalAveragePool", "Reshape"]),
        ("y = ReduceMean(x, a)", {"a": [1, 2]}, ["ReduceMean"]),
        ("y = Unsqueeze(x, a)", {"a": [0]}, ["Reshape"]),
        ("y = Squeeze(x)", {}, ["Reshape"]),
        ("s = Shape(x) g = Gather(s, i) u = Unsqueeze(g, a) t = Concat<axis=0>(u, n) y = Reshape(x, t)",
         {"i": np.int64(0), "a": [0], "n": [-1]}, ["Reshape"]),
        ("r = Reshape(x, a) t = Transpose<perm=[0,2,1,3,4]>(r) s = Reshape(t, b) y = Relu(s)",
         {"a": [1, 2, 2, 6, 6], "b": [1, 4, 6, 6]}, ["ChannelGather", "Elementwise"]),
        ("r = Reshape(x, a) t = Transpose<perm=[0,2,1,3,4]>(r) y = Reshape(t, b)",
         {"a": [1, 2, 2, 6, 6], "b": [1, 4, 6, 6]}, ["Reshape", "Transpose", "Reshape"]),
        ("c = Concat<axis=1>(x, x) y = Relu(c)", {}, ["Concat", "Elementwise"]),
        ("z = Exp(x) y = Relu(x)", {}, ["Elementwise"]),
    ],
)  # fmt: skip
def test_what_is_left(body: str, values: dict[str, Any], left: list[str]) -> None:
    assert ops(body, x=X, **values) == left


def test_nodes_keep_the_names_of_the_source() -> None:
    (node,) = optimised(
        case("net", "c = Conv(x, w) n = BatchNormalization(c, s, o, m, v) y = Relu(n)", x=X, **W, **NORM)
    )
    assert nodes_of(node).split() == ["net.0", "net.1", "net.2"]


def test_scalars_become_part_of_the_expression() -> None:
    (node,) = optimised(case("g", "a = Mul(x, k) y = Add(h, a)", x=(3,), k=np.float32(0.5), h=np.float32(3)))
    assert len(node.inputs) == 1
    expr = Expr.parse(attribute(node, "expr"))
    np.testing.assert_array_equal(expr.compute(np.float32(4)), np.float32(5))


def test_an_operand_used_twice_is_read_once() -> None:
    (node,) = optimised(case("g", "a = Mul(x, x1) b = Add(a, x) y = Sub(b, x1)", x=(3,), x1=(3,)))
    assert [value.name for value in node.inputs if value is not None] == ["x", "x1"]
    assert Expr.parse(attribute(node, "expr")).compute(np.float32(3), np.float32(5)) == 3 * 5 + 3 - 5


def test_batch_norm_goes_into_the_weights() -> None:
    one = case("g", "c = Conv(x, w, b) y = BatchNormalization<epsilon=0.1>(c, s, o, m, v)", x=X, b=(4,), **W, **NORM)
    (node,) = optimised(one)
    weights, bias = array_of(node.inputs[1]), array_of(node.inputs[2])
    assert weights is not None
    assert bias is not None
    gain = one.values["s"] / np.sqrt(one.values["v"] + 0.1)
    np.testing.assert_allclose(weights, one.values["w"] * gain.reshape(-1, 1, 1, 1), rtol=1e-6)
    np.testing.assert_allclose(bias, (one.values["b"] - one.values["m"]) * gain + one.values["o"], rtol=1e-5)


@pytest.mark.parametrize(
    ("mode", "expected"), [("SAME_UPPER", [0, 1, 1, 1]), ("SAME_LOWER", [1, 1, 0, 1]), ("VALID", [0, 0, 0, 0])]
)
def test_auto_pad(mode: str, expected: list[int]) -> None:
    assert explicit_pads(mode, (8, 7), (3, 3), (2, 2), (1, 1)) == expected
    (node,) = optimised(case("g", f'y = Conv<auto_pad="{mode}", strides=[2,2]>(x, w)', x=(1, 4, 8, 7), w=(4, 4, 3, 3)))
    assert list(attribute(node, "pads")) == expected
    assert "auto_pad" not in node.attributes


def test_weights_listed_as_inputs() -> None:
    """As models of IR version 3 do; they are constants all the same."""
    model = model_of(case("g", "y = Conv(x, w)", x=X, **W))
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [4, 4, 3, 3]))
    optimised_graph = optimise(load(model.SerializeToString())).graph
    assert [value.name for value in optimised_graph.inputs] == ["x"]
    assert [node.op_type for node in optimised_graph] == ["Conv"]


def test_model_local_functions_are_inlined() -> None:
    value = helper.make_tensor_value_info
    function = helper.make_function(
        "local", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 17)]
    )
    graph = helper.make_graph(
        [helper.make_node("Twice", ["x"], ["y"], domain="local")], "g",
        [value("x", TensorProto.FLOAT, [3])], [value("y", TensorProto.FLOAT, [3])],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    model = helper.make_model(graph, functions=[function], opset_imports=opsets)
    (node,) = optimise(load(model.SerializeToString())).graph
    assert node.op_type == "Elementwise"


def test_what_the_file_says_of_inner_shapes_is_not_believed() -> None:
    model = model_of(case("g", "a = Relu(x) y = Conv(a, w)", x=X, **W))
    for value in (*model.graph.value_info, *model.graph.output):
        for size in value.type.tensor_type.shape.dim:
            size.dim_value = 1000
    graph = optimise(load(model.SerializeToString())).graph
    assert [list(value.shape or ()) for value in graph.outputs] == [[1, 4, 4, 4]]


@pytest.mark.parametrize(("sizes", "left"), [("1024, 64", ["Add"]), ("65536, 8192", ["Expand", "ReduceMax", "Add"])])
def test_what_is_too_large_is_not_computed_when_the_model_is_read(sizes: str, left: list[str]) -> None:
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["": 17]> g (float[2] x) => (float[2] y)
        <float[1] k = {{1}}, int64[2] s = {{{sizes}}}>
        {{ e = Expand(k, s) m = ReduceMax<keepdims=0>(e) y = Add(x, m) }}"""
    )
    read = load(model.SerializeToString())
    tracemalloc.start()
    try:
        assert [node.op_type for node in FoldPass()(read).model.graph] == left
        assert tracemalloc.get_traced_memory()[1] < 1 << 28
    finally:
        tracemalloc.stop()


def test_folding_is_imported_only_where_it_may_find_something(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[ir.passes.PassBase] = []
    real = fold._folding

    def folding() -> ir.passes.PassBase:
        made.append(real())
        return made[-1]

    monkeypatch.setattr(fold, "_folding", folding)
    assert ops("c = Conv(x, w) y = Relu(c)", x=X, **W) == ["Conv+"]
    assert not made
    assert ops("k = Mul(a, b) y = Mul(x, k)", x=X, a=(4, 1, 1), b=(4, 1, 1)) == ["Elementwise"]
    assert made
