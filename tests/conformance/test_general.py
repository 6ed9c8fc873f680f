"""Reductions, walks along an axis, gathers, scatters, contractions and empty tensors in every type."""

from __future__ import annotations

import numpy as np
import pytest

from support import Array, Case, Results, Start, case, difference, filled

KINDS = ("int32", "int64", "uint8", "float16", "float32", "float64")


def some(kind: str, *shape: int) -> Array:
    return np.random.default_rng([len(kind), *shape]).integers(0, 9, shape).astype(kind)


REDUCTIONS = [
    one
    for kind in ("int32", "int64", "float32", "float64")
    for one in (
        *(
            case(f"{name.lower()}_{kind}", f"y = Reduce{name}(x, a)", x=some(kind, 3, 4, 5), a=[0, 2])
            for name in ("L1", "Max", "Mean", "Min", "Prod", "Sum")
        ),
        case(f"sumsquare_{kind}", "y = ReduceSumSquare(x, a)", x=some(kind, 3, 4, 5), a=[0, 2], oracle="onnxruntime"),
        case(f"all_{kind}", "y = ReduceSum<keepdims=0>(x)", x=some(kind, 3, 4, 5)),
    )
]
REDUCTIONS += [
    case(f"{name.lower()}_{kind}", f"y = Reduce{name}<keepdims=0>(x, a)", x=some(kind, 3, 4, 5) + some(kind, 1), a=[1])
    for kind in ("float32", "float64")
    for name in ("L2", "LogSum", "LogSumExp")
]
REDUCTIONS += [
    case("max_bool", "y = ReduceMax(x, a)", x=some("int32", 3, 4) > 4, a=[1]),
    case("max_int8", "y = ReduceMax(x, a)", x=-some("int8", 3, 4), a=[1]),
    case("min_uint8", "y = ReduceMin(x, a)", x=some("uint8", 3, 4), a=[0]),
    case("logsumexp_large", "y = ReduceLogSumExp(x, a)", x=filled("large", (3, 7)) * np.float32(100), a=[1]),
    case("nothing_sum", "y = ReduceSum(x, a)", x=np.zeros((2, 0, 3), np.float32), a=[1]),
    case("nothing_prod", "y = ReduceProd(x, a)", x=np.zeros((2, 0, 3), np.int64), a=[1]),
]

ALONG = [
    one
    for kind in KINDS
    for one in (
        case(f"argmax_{kind}", "y = ArgMax<axis=1>(x)", x=some(kind, 3, 7, 2)),
        case(f"argmin_{kind}", "y = ArgMin<axis=-1, keepdims=0>(x)", x=some(kind, 3, 7)),
        case(f"topk_{kind}", "y, y1 = TopK<axis=1>(x, k)", x=some(kind, 3, 9, 2), k=[4]),
        case(f"topk_least_{kind}", "y, y1 = TopK<largest=0>(x, k)", x=some(kind, 3, 9), k=[9]),
    )
]
ALONG += [
    case("argmax_last", "y = ArgMax<axis=1, select_last_index=1>(x)", x=some("int32", 5, 20)),
    case("topk_indices_only", "v, y = TopK(x, k)", x=(5, 20), k=[3]),
    case("hardmax", "y = Hardmax<axis=1>(x)", x=(3, 5, 2)),
    case("hardmax_11", "y = Hardmax<axis=1>(x)", x=(3, 5, 2), opset=11, oracle="onnxruntime"),
    *(
        case(f"{name.lower()}_{number}", f"y = {name}{attributes}(x, a)", x=some("int32", 3, 6, 2), a=np.int64(1),
             opset=21 if name == "CumSum" else 26)
        for name in ("CumSum", "CumProd")
        for number, attributes in enumerate(("", "<exclusive=1>", "<reverse=1>", "<exclusive=1, reverse=1>"))
    ),
    case("cumsum_float", "y = CumSum(x, a)", x=(40,), a=np.int64(0)),
]  # fmt: skip

INDEXING = [
    one
    for kind in (*KINDS, "bool")
    for one in (
        case(
            f"gather_elements_{kind}",
            "y = GatherElements<axis=1>(x, x1)",
            x=some(kind, 3, 5, 2),
            x1=np.random.default_rng(0).integers(-5, 5, (3, 4, 2)),
        ),
        case(f"gather_nd_{kind}", "y = GatherND(x, x1)", x=some(kind, 3, 5, 2), x1=np.array([[0, 4], [-1, 2]])),
        case(
            f"scatter_elements_{kind}",
            "y = ScatterElements<axis=1>(x, x1, x2)",
            x=some(kind, 3, 5),
            x1=np.array([[0, 4], [-1, 2], [3, 1]]),
            x2=some(kind, 3, 2),
        ),
        case(
            f"scatter_nd_{kind}",
            "y = ScatterND(x, x1, x2)",
            x=some(kind, 4, 5),
            x1=np.array([[3], [0]]),
            x2=some(kind, 2, 5),
        ),
        case(f"tile_{kind}", "y = Tile(x, r)", x=some(kind, 3, 2), r=[2, 3]),
        case(f"triu_{kind}", "y = Trilu(x, k)", x=some(kind, 2, 5, 4), k=np.int64(-1)),
        case(f"tril_{kind}", "y = Trilu<upper=0>(x)", x=some(kind, 5, 4)),
    )
]
INDEXING += [
    *(
        case(f"one_hot_{kind}", "y = OneHot<axis=1>(x, d, v)", x=np.array([[0, 3], [-1, 7]]), d=np.int64(5),
             v=some(kind, 2))
        for kind in KINDS
    ),
    case("gather_nd_batch", "y = GatherND<batch_dims=1>(x, x1)", x=(2, 3, 4), x1=np.array([[1], [2]])),
    case("gather_nd_elements", "y = GatherND(x, x1)", x=(2, 3), x1=np.array([[[0, 1]], [[1, 2]]])),
    *(
        case(f"scatter_elements_{how}", f'y = ScatterElements<axis=0, reduction="{how}">(x, x1, x2)', x=(4, 3),
             x1=np.array([[0, 0, 0], [0, 3, 0], [1, 3, 0]]), x2=(3, 3))
        for how in ("add", "mul", "max", "min")
    ),
    *(
        case(f"scatter_nd_{how}", f'y = ScatterND<reduction="{how}">(x, x1, x2)', x=(4, 3), x1=np.array([[1], [1]]),
             x2=(2, 3))
        for how in ("add", "mul", "max", "min")
    ),
    case("scatter_after_use", "a = Relu(x) b = ScatterND(a, i, u) y = Add(a, b)", x=(4, 3), i=np.array([[1], [3]]),
         u=filled("update", (2, 3))),
    case("eye_like", "y = EyeLike<k=1>(x)", x=(3, 5)),
]  # fmt: skip

EQUATIONS: list[tuple[str, dict[str, tuple[int, ...]]]] = [
    ("ij,jk->ik", {"x": (3, 4), "x1": (4, 5)}),
    ("bij,bjk->bik", {"x": (2, 3, 4), "x1": (2, 4, 5)}),
    ("...ii->...i", {"x": (2, 3, 3)}),
    ("ij->ji", {"x": (3, 4)}),
    ("ij->", {"x": (3, 4)}),
    ("i,j->ij", {"x": (3,), "x1": (4,)}),
    ("ij,jk", {"x": (3, 4), "x1": (4, 5)}),
    ("...ij,...jk->...ik", {"x": (2, 3, 4), "x1": (1, 4, 5)}),
    ("bhid,bhjd->bhij", {"x": (2, 2, 3, 4), "x1": (2, 2, 5, 4)}),
    ("a,ab,bc->c", {"x": (3,), "x1": (3, 4), "x2": (4, 5)}),
]

CONTRACTIONS = [
    Case(f"einsum_{number}", f'y = Einsum<equation="{equation}">({", ".join(shapes)})',
         {name: filled(f"{equation}/{name}", shape) for name, shape in shapes.items()}, 21, "reference")
    for number, (equation, shapes) in enumerate(EQUATIONS)
]  # fmt: skip
CONTRACTIONS += [
    case("matmul_int", "y = MatMul(x, x1)", x=some("int64", 2, 3, 4), x1=some("int64", 4, 5)),
    case("matmul_double", "y = MatMul(x, x1)", x=some("float64", 3), x1=some("float64", 2, 3, 4)),
    case("gemm_computed", "y = Gemm<transA=1, transB=1, alpha=0.5, beta=2.0>(x, x1, x2)", x=(5, 3), x1=(4, 5),
         x2=(3, 1)),
    case("gemm_int", "y = Gemm(x, x1, x2)", x=some("int32", 3, 5), x1=some("int32", 5, 4), x2=some("int32", 4)),
    case("gemm_transposed", "y = Gemm<transA=1>(x, w)", x=(5, 3), w=(5, 4)),
]  # fmt: skip

EMPTY = [
    case("relu", "y = Relu(x)", x=np.zeros((0, 3), np.float32)),
    case("concat", "y = Concat<axis=0>(x, x1)", x=np.zeros((0, 3), np.int64), x1=some("int64", 2, 3)),
    case("matmul", "y = MatMul(x, x1)", x=np.zeros((0, 3)), x1=np.zeros((3, 2))),
    case("matmul_constant", "y = MatMul(x, w)", x=np.zeros((2, 0), np.int64), w=np.zeros((0, 3), np.int64)),
    case("split", "y, y1 = Split<axis=0>(x, s)", x=(2, 3), s=[0, 2]),
    case("pool", "y = MaxPool<kernel_shape=[2,2]>(x)", x=(1, 1, 1, 1), oracle="onnxruntime"),
    case("conv", "y = Conv(x, w)", x=np.zeros((0, 3, 5, 5), np.float32), w=(4, 3, 3, 3)),
    case(
        "conv_channels",
        "s = Slice(x, b, b, b) c = Conv<pads=[1,1,1,1]>(s, w) y = Erf(c)",
        x=(2, 3, 5, 5),
        b=[1],
        w=np.zeros((4, 0, 3, 3), np.float32),
    ),  # ONNX Runtime 1.31 never ends
    case(
        "conv_bias",
        "s = Slice(x, b, b, b) y = Conv(s, w, v)",
        x=(2, 3, 5, 5),
        b=[1],
        w=np.zeros((4, 0, 3, 3), np.float32),
        v=(4,),
    ),
    case("slice", "s = Slice(x, b, b) y = Relu(s)", x=(3, 2), b=[1]),
    case("constant", "y = Identity(e) y1 = Relu(x)", x=(2,), e=np.zeros((0,), np.int64)),
]

CONSTANTS = [
    case("shape", "y = Shape(x)", x=(2, 3)),
    case("size_of_shape", "y = Size(x) y1 = Relu(x)", x=(2, 3)),
    case("filled", "y = ConstantOfShape(s) y1 = Add(x, y)", x=(2, 3), s=[2, 3]),
]

FAMILIES = {"reductions": REDUCTIONS, "along": ALONG, "indexing": INDEXING, "contractions": CONTRACTIONS,
            "empty": EMPTY, "constants": CONSTANTS}  # fmt: skip


@pytest.fixture(scope="module")
def results(start: Start) -> Results:
    return Results(start, FAMILIES)


@pytest.mark.parametrize(
    ("family", "one"),
    [pytest.param(family, one, id=f"{family}-{one}") for family, cases in FAMILIES.items() for one in cases],
)
def test_general(family: str, one: Case, results: Results) -> None:
    """Integers and booleans exactly; floats to what their type holds."""
    got = results.of(family, one)
    for name, expected in one.expected.items():
        expected = np.asarray(expected)
        assert got[name].dtype == expected.dtype
        assert got[name].shape == expected.shape
        if expected.dtype.kind != "f":
            np.testing.assert_array_equal(got[name], expected)
        elif expected.size:
            bound = 1e-3 if expected.dtype.itemsize == 2 else 2e-6
            assert difference(got[name].astype(np.float64), expected.astype(np.float64)) <= bound, got[name]


@pytest.mark.parametrize("op", ["RandomNormal", "RandomUniform"])
def test_random(op: str, start: Start) -> None:
    """The same numbers at each run, distributed as asked for, and others for another seed."""
    from support import model_of

    drawn = []
    for seed in (1.0, 1.0, 2.0):
        one = case(op, f"r = {op}<shape=[200, 50], seed={seed}>() y = Add(r, x)", x=np.zeros((1,), np.float32))
        with start(model_of(one)) as executor:
            drawn.append(executor.run(one.inputs)["y"])
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0] != drawn[2]).mean() > 0.99
    mean, deviation = (0.0, 1.0) if op == "RandomNormal" else (0.5, 12**-0.5)
    assert abs(drawn[0].mean() - mean) < 0.05
    assert abs(drawn[0].std() - deviation) < 0.05


def test_bernoulli(start: Start) -> None:
    from support import model_of

    one = case("bernoulli", "y = Bernoulli<seed=3.0>(x)", x=np.full((100, 100), 0.3, np.float32))
    with start(model_of(one)) as executor:
        got = executor.run(one.inputs)["y"]
    assert set(np.unique(got)) == {0.0, 1.0}
    assert abs(got.mean() - 0.3) < 0.02
