"""Tensors of every type: arithmetic, comparison, logic, casts and movement, against the ONNX reference evaluator."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from support import Array, Case, Results, Start, case, difference

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
NUMBERS = (*INTEGERS, "float16", "float32", "float64")
TYPES = (*NUMBERS, "bool")


def some(kind: str, *shape: int, low: int = -7, high: int = 8) -> Array:
    """Small numbers of a type, which depend on type and shape only."""
    rng = np.random.default_rng([len(kind), *shape])
    if kind == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    low = max(0, low) if kind.startswith("uint") else low
    return rng.integers(low, high, shape).astype(kind)


def other(kind: str, *shape: int) -> Array:
    """As `some`, without zeros."""
    return np.maximum(some(kind, *shape, low=1), 1).astype(kind)


MOVEMENT = [
    one
    for kind in TYPES
    for one in (
        case(f"transpose_{kind}", "y = Transpose<perm=[2,0,1]>(x)", x=some(kind, 3, 5, 7)),
        case(f"concat_{kind}", "y = Concat<axis=1>(x, x1)", x=some(kind, 3, 5), x1=some(kind, 3, 2)),
        case(f"concat_outer_{kind}", "y = Concat<axis=0>(x, x1)", x=some(kind, 3, 5), x1=some(kind, 2, 5)),
        case(f"slice_{kind}", "y = Slice(x, s, e, a, d)", x=some(kind, 7, 9), s=[1, 8], e=[6, 0], a=[0, 1], d=[2, -3]),
        case(f"split_{kind}", "y, y1 = Split<num_outputs=2, axis=1>(x)", x=some(kind, 3, 7)),
        case(f"expand_{kind}", "y = Expand(x, s)", x=some(kind, 3, 1), s=[2, 3, 4]),
        case(f"gather_{kind}", "y = Gather<axis=1>(x, x1)", x=some(kind, 3, 5), x1=np.array([[4, 0], [-1, 2]])),
        case(f"where_{kind}", "y = Where(x, x1, x2)", x=some("bool", 4, 1), x1=some(kind, 4, 5), x2=some(kind, 5)),
        case(f"reshape_{kind}", "y = Reshape(x, s)", x=some(kind, 6, 4), s=[3, 8]),
        case(f"equal_{kind}", "y = Equal(x, x1)", x=some(kind, 40), x1=some(kind, 3, 40)),
    )
]

ARITHMETIC = [
    one
    for kind in NUMBERS
    for one in (
        *(
            case(f"{name.lower()}_{kind}", f"y = {name}(x, x1)", x=some(kind, 6, 7), x1=some(kind, 7))
            for name in ("Add", "Sub", "Mul", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Max", "Min")
        ),
        case(f"div_{kind}", "y = Div(x, x1)", x=some(kind, 60), x1=other(kind, 60), oracle="onnxruntime"),
        case(f"abs_{kind}", "y = Abs(x)", x=some(kind, 60)),
        case(f"sign_{kind}", "y = Sign(x)", x=some(kind, 60)),
        case(f"pow_{kind}", "y = Pow(x, x1)", x=some(kind, 30, high=4), x1=some("int64", 30, low=0, high=4))
        if kind in ("int32", "int64", "float16", "float32", "float64")
        else case(f"clip_{kind}", "y = Clip(x, x1, x2)", x=some(kind, 60),
                  x1=np.array(1, kind), x2=np.array(4, kind)),
    )
    # neither evaluator of ONNX has these
    if not (kind in ("int8", "int16", "uint8", "uint16") and one.name.startswith("div_"))
]  # fmt: skip

MODULO = [
    *(case(f"mod_{kind}", "y = Mod(x, x1)", x=some(kind, 60), x1=other(kind, 60)) for kind in INTEGERS),
    case("mod_negative", "y = Mod(x, x1)", x=some("int32", 60), x1=(-other("int32", 60)).astype(np.int32)),
    case("fmod_int", "y = Mod<fmod=1>(x, x1)", x=some("int64", 60), x1=other("int64", 60)),
    case("fmod_float", "y = Mod<fmod=1>(x, x1)", x=some("float32", 60), x1=other("float32", 60)),
]

LOGIC = [
    *(
        case(name.lower(), f"y = {name}(x, x1)", x=some("bool", 5, 8), x1=some("bool", 8))
        for name in ("And", "Or", "Xor", "Equal")
    ),
    case("not", "y = Not(x)", x=some("bool", 5, 8)),
    *(
        case(f"{name.lower()}_{kind}", f"y = {name}(x, x1)", x=some(kind, 60), x1=some(kind, 60, low=-3))
        for name in ("BitwiseAnd", "BitwiseOr", "BitwiseXor")
        for kind in INTEGERS
    ),
    *(case(f"bitwise_not_{kind}", "y = BitwiseNot(x)", x=some(kind, 60)) for kind in INTEGERS),
    *(
        case(f"shift_{way.lower()}_{kind}", f'y = BitShift<direction="{way}">(x, x1)', x=some(kind, 30),
             x1=some(kind, 30, high=6))
        for way in ("LEFT", "RIGHT")
        for kind in ("uint8", "uint16", "uint32", "uint64")
    ),
    case("isnan", "y = IsNaN(x)", x=np.array([np.nan, 1, np.inf, -np.inf], np.float32)),
    case("isinf", "y = IsInf(x)", x=np.array([np.nan, 1, np.inf, -np.inf], np.float32)),
    case("isinf_positive", "y = IsInf<detect_negative=0>(x)", x=np.array([np.nan, 1, np.inf, -np.inf], np.float32)),
]  # fmt: skip

_NUMBER = {"float16": 10, "float32": 1, "float64": 11, "bool": 9, "bfloat16": 16, "int8": 3, "int16": 5, "int32": 6,
           "int64": 7, "uint8": 2, "uint16": 4, "uint32": 12, "uint64": 13}  # fmt: skip

CASTS = [
    *(
        case(f"{source}_to_{target}", f"y = Cast<to={_NUMBER[target]}>(x)", x=some(source, 60, low=0))
        for source in TYPES
        for target in TYPES
    ),
    case("rounds_to_float16", "h = Cast<to=10>(x) y = Cast<to=1>(h)", x=(5, 40)),
    case("rounds_to_bfloat16", "h = Cast<to=16>(x) y = Cast<to=1>(h)", x=(5, 40)),
    case("float16_edges", "y = Cast<to=10>(x)", x=np.array([1e-8, 65519, 65520, np.inf, -np.inf], np.float32)),
    case("bfloat16_input", "y = Cast<to=1>(x)", x=np.arange(40).astype(ml_dtypes.bfloat16)),
]

HALVES = [
    case(f"{name}_{kind}", body, **{key: value.astype(kind) for key, value in values.items()})  # type: ignore[arg-type]
    for kind in ("float16",)
    for name, body, values in (
        ("conv", "c = Conv(x, w, b) y = Relu(c)",
         {"x": some("float32", 1, 5, 6, 7), "w": some("float32", 8, 5, 3, 3), "b": some("float32", 8)}),
        ("matmul", "y = MatMul(x, x1)", {"x": some("float32", 5, 16), "x1": some("float32", 16, 7)}),
        ("gemm", "y = Gemm(x, w)", {"x": some("float32", 5, 16), "w": some("float32", 16, 7)}),
        ("chain", "a = Add(x, x1) b = Sigmoid(a) y = Mul(a, b)",
         {"x": some("float32", 1, 17, 3, 3), "x1": some("float32", 17, 1, 1)}),
        ("softmax", "y = Softmax(x)", {"x": some("float32", 5, 9)}),
    )
]  # fmt: skip

FLOAT_FUNCTIONS = [
    *(
        case(f"{name.lower()}_{kind}", f"y = {name}(x)", x=np.linspace(0.1, 0.9, 40).astype(kind))
        for name in ("Acos", "Asin", "Asinh", "Atan", "Atanh", "Cosh", "Erf", "Exp", "Log", "Reciprocal", "Round",
                     "Sigmoid", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Tan", "Tanh")
        for kind in ("float32", "float64")
    ),
    case("acosh", "y = Acosh(x)", x=np.linspace(1, 5, 40, dtype=np.float32)),
    *(
        case(name, f"y = {text}(x)", x=(3, 17))
        for name, text in (
            ("celu", "Celu<alpha=1.7>"), ("gelu", "Gelu"), ("gelu_tanh", 'Gelu<approximate="tanh">'),
            ("mish", "Mish"), ("selu", "Selu"), ("shrink", "Shrink<lambd=0.6, bias=0.2>"), ("sign", "Sign"),
            ("thresholded_relu", "ThresholdedRelu<alpha=0.4>"),
        )
    ),
    case("prelu", "y = PRelu(x, x1)", x=(2, 5, 3, 3), x1=(5, 1, 1)),
    case("prelu_slope", "c = Conv(x, w) y = PRelu(c, s)", x=(1, 5, 6, 6), w=(17, 5, 3, 3), s=(17, 1, 1)),
    case("mean", "y = Mean(x, x1, x2)", x=(5, 7), x1=(7,), x2=(5, 1)),
]  # fmt: skip

FAMILIES = {"movement": MOVEMENT, "arithmetic": ARITHMETIC, "modulo": MODULO, "logic": LOGIC, "casts": CASTS,
            "halves": HALVES, "functions": FLOAT_FUNCTIONS}  # fmt: skip


@pytest.fixture(scope="module")
def results(start: Start) -> Results:
    return Results(start, FAMILIES)


@pytest.mark.parametrize(
    ("family", "one"), [pytest.param(family, one, id=f"{family}-{one}") for family, cases in FAMILIES.items()
                        for one in cases]
)  # fmt: skip
def test_type(family: str, one: Case, results: Results) -> None:
    """Integers and booleans exactly; floats to what their type holds."""
    got = results.of(family, one)
    for name, expected in one.expected.items():
        assert got[name].dtype == expected.dtype
        if expected.dtype.kind not in "fV":
            np.testing.assert_array_equal(got[name], expected)
        else:
            bound = {2: 1e-3, 4: 2e-6, 8: 2e-6}[expected.dtype.itemsize]
            wide = (got[name].astype(np.float64), expected.astype(np.float64))
            assert difference(*wide) <= bound, f"{name}: {got[name]} instead of {expected}"
