"""Inputs that are parameters of ops: which they are, and making constants of them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from mace_cl.errors import InputError
from mace_cl.frontends.parameters import fix, parameter_inputs
from mace_cl.frontends.read import load
from support import Case, case, model_of


def inputs_of(one: Case) -> tuple[str, ...]:
    return parameter_inputs(ir.serde.deserialize_model(model_of(one)))


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (case("direct", "y = Reshape(x, x1)", x=(2, 3), x1=np.array([3, 2])), ("x1",)),
        (case("computed", "s = Add(x1, x2) y = Expand(x, s)", x=(1, 3), x1=np.array([1, 0]), x2=np.array([1, 3])),
         ("x1", "x2")),
        (case("shape_only", "s = Shape(x1) y = Reshape(x, s)", x=(2, 3), x1=(3, 2)), ()),
        (case("constant", "y = Reshape(x, s)", x=(2, 3), s=[3, 2]), ()),
        (case("data", "y = Add(x, x1)", x=(2, 3), x1=(3,)), ()),
        (case("large", "y = Reshape(x, x1)", x=(2, 3), x1=np.ones(65, np.int64)), ()),
    ],
    ids=lambda value: str(value) if isinstance(value, Case) else "",
)  # fmt: skip
def test_inputs(one: Case, expected: tuple[str, ...]) -> None:
    assert inputs_of(one) == expected


SIZES = model_of(case("sizes", "y = Reshape(x, x1)", x=(2, 3), x1=np.array([3, 2])))


def test_fixed() -> None:
    model = load(SIZES.SerializeToString(), values={"x1": np.array([6, 1])})
    assert [value.name for value in model.graph.inputs] == ["x"]
    assert model.graph.initializers["x1"].const_value.numpy().tolist() == [6, 1]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"z": np.array([6, 1])}, "value is given for 'z', but the inputs are"),
        ({"x1": np.array([6, 1], np.int32)}, "'x1' is INT64 of shape .*the value given INT32"),
        ({"x1": np.array([6, 1, 1])}, r"'x1' is INT64 of shape \(2,\), the value given INT64 of shape \(3,\)"),
    ],
)
def test_refused(values: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(InputError, match=message):
        fix(ir.serde.deserialize_model(SIZES), values, "model")
