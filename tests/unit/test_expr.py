"""Elementwise expressions: text form, composition, and agreement of what is printed with what is computed."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mace_cl.expr import OPERATIONS, Expr, Instruction, literal

SAFE = ["add", "sub", "mul", "max", "min", "neg", "abs", "relu", "sigmoid", "clip", "leaky_relu", "linear", "const"]
"""Operations that stay finite on small numbers."""


@st.composite
def expressions(draw: st.DrawFn, operations: list[str] = sorted(OPERATIONS)) -> Expr:  # noqa: B008
    arity = draw(st.integers(1, 4))
    body = []
    for index in range(draw(st.integers(1, 6))):
        name = draw(st.sampled_from(operations))
        operation = OPERATIONS[name]
        args = tuple(draw(st.integers(0, arity + index - 1)) for _ in range(operation.operands))
        numbers = st.floats(-3, 3, width=32)
        body.append(Instruction(name, args, tuple(draw(numbers) for _ in range(operation.attributes))))
    return Expr(arity, tuple(body))


def values(count: int) -> list[np.ndarray[tuple[int], np.dtype[np.float32]]]:
    return [np.linspace(-2, 2 + index, 5, dtype=np.float32) for index in range(count)]


@given(expressions())
def test_text_round_trip(expr: Expr) -> None:
    assert Expr.parse(str(expr)) == expr


@given(st.floats(width=32, allow_nan=False))
def test_attributes_keep_all_their_bits(number: float) -> None:
    expr = Expr.of("leaky_relu", number)
    assert Expr.parse(str(expr)) == expr


@given(expressions(SAFE), expressions(SAFE), st.data())
def test_substitute_composes(outer: Expr, inner: Expr, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, outer.arity - 1))
    whole = outer.substitute(position, inner)
    given_values = values(inner.arity + outer.arity - 1)
    mine, others = given_values[: inner.arity], given_values[inner.arity :]
    step_by_step = outer.compute(*others[:position], inner.compute(*mine), *others[position:])
    np.testing.assert_array_equal(whole.compute(*given_values), step_by_step)


@given(expressions(SAFE), st.data())
def test_merge_inputs_reads_one_value_twice(expr: Expr, data: st.DataObject) -> None:
    if expr.arity < 2:
        return
    second = data.draw(st.integers(1, expr.arity - 1))
    first = data.draw(st.integers(0, second - 1))
    fewer = values(expr.arity - 1)
    full = [*fewer[:second], fewer[first], *fewer[second:]]
    np.testing.assert_array_equal(expr.merge_inputs(first, second).compute(*fewer), expr.compute(*full))


@given(expressions(SAFE))
def test_code_declares_before_use(expr: Expr) -> None:
    lines, result = expr.code([f"in{index}" for index in range(expr.arity)], "float", "t")
    known = {f"in{index}" for index in range(expr.arity)}
    for line in lines:
        name, _, text = line.removeprefix("const float ").partition(" = ")
        assert set(re.findall(r"\b(?:in|t)\d+\b", text)) <= known
        known.add(name)
    assert result in known


@given(expressions(SAFE), st.data())
def test_keeps_zero_is_never_too_hopeful(expr: Expr, data: st.DataObject) -> None:
    splat = [data.draw(st.booleans()) for _ in range(expr.arity)]
    if expr.keeps_zero(splat):
        inputs = [np.float32(0.25 if arbitrary else 0) for arbitrary in splat]
        if not any(splat):
            assert expr.compute(*inputs) == 0


def test_keeps_zero() -> None:
    assert Expr.of("relu").keeps_zero([False])
    assert Expr.of("mul").keeps_zero([False, True])
    assert not Expr.of("add").keeps_zero([False, True])
    assert not Expr.of("sigmoid").keeps_zero([False])
    assert not Expr.of("linear", 1.0, 0.5).keeps_zero([False])
    assert not Expr.of("div").keeps_zero([True, False])


@pytest.mark.parametrize("text", ["1: nonsense", "1: 1=unknown(0)", "1: 1=relu(0", "x: 1=relu(0)"])
def test_parse_refuses(text: str) -> None:
    with pytest.raises(ValueError, match=r"not an expression|invalid literal"):
        Expr.parse(text)


@given(st.floats(width=32))
def test_literal_reads_back(number: float) -> None:
    text = literal(number)
    if math.isnan(number):
        assert text == "NAN"
    elif math.isinf(number):
        assert text == ("INFINITY" if number > 0 else "-INFINITY")
    else:
        assert text.endswith("f")
        assert "." in text or "e" in text
        assert np.float32(text[:-1]) == np.float32(number)


def test_nan_reaches_the_result() -> None:
    nan, one = np.array([np.nan], np.float32), np.array([1], np.float32)
    for name, operation in OPERATIONS.items():
        expr = Expr.of(name, *[0.5] * operation.attributes)
        chosen = 1 if name == "prelu" else operation.operands  # a slope that is not used does not count
        for position in range(chosen):
            inputs = [nan if index == position else one + 1 for index in range(operation.operands)]
            assert np.isnan(expr.compute(*inputs)).all(), name
