"""LSTM, GRU and RNN against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from support import Case, Results, Start, agree, case, filled

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
STEPS, BATCH, INPUTS, HIDDEN = 4, 3, 5, 7


def layer(
    name: str, op: str, attributes: str = "", extra: str = "", directions: int = 1, steps: int = STEPS,
    outputs: int | None = None, computed: bool = False, **values: object,
) -> Case:  # fmt: skip
    rows, hidden = GATES[op] * HIDDEN, f"hidden_size={HIDDEN}"
    count = outputs or (3 if op == "LSTM" else 2)
    names = ", ".join(["y", "y1", "y2"][:count])
    by = ", ".join([hidden, attributes] if attributes else [hidden])
    weight = "x8" if computed else "w"
    given = {
        "x": (steps, BATCH, INPUTS), weight: (directions, rows, INPUTS),
        ("x9" if computed else "r"): (directions, rows, HIDDEN), "b": (directions, 2 * rows),
        **values,
    }  # fmt: skip
    body = f"{names} = {op}<{by}>(x, {weight}, {'x9' if computed else 'r'}, {extra or 'b'})"
    if extra and not extra.startswith("b"):
        del given["b"]
    return case(f"{op.lower()}_{name}", body, oracle="onnxruntime", **given)  # type: ignore[arg-type]


STATE = {"h": (1, BATCH, HIDDEN)}
LENGTHS = np.array([4, 1, 3], np.int32)

CASES = [
    *(
        one
        for op in GATES
        for one in (
            layer("plain", op),
            layer("reverse", op, 'direction="reverse"'),
            layer("both", op, 'direction="bidirectional"', directions=2),
            layer("no_bias", op, "", ", "),
            layer("lengths", op, "", "b, x1", x1=LENGTHS),
            layer("lengths_reverse", op, 'direction="reverse"', "b, n", n=LENGTHS),
            layer("lengths_both", op, 'direction="bidirectional"', "b, n", directions=2, n=LENGTHS),
            layer("initial", op, "", "b, , x1", x1=(1, BATCH, HIDDEN)),
            layer("initial_both", op, 'direction="bidirectional"', "b, , h", directions=2, h=(2, BATCH, HIDDEN)),
            layer("clip", op, "clip=0.3"),
            layer("computed", op, computed=True),
            layer("one_output", op, outputs=1),
            layer("one_step", op, steps=1),
        )
    ),
    layer("cell", "LSTM", "", "b, , h, c", h=(1, BATCH, HIDDEN), c=(1, BATCH, HIDDEN)),
    layer("peepholes", "LSTM", "", "b, , h, c, p", h=(1, BATCH, HIDDEN), c=(1, BATCH, HIDDEN), p=(1, 3 * HIDDEN)),
    layer("input_forget", "LSTM", "input_forget=1"),
    layer("activations", "LSTM", 'activations=["HardSigmoid","Relu","Softsign"], activation_alpha=[0.3], '
          "activation_beta=[0.4]"),
    layer("before_reset", "GRU", "linear_before_reset=1"),
    layer("before_reset_both", "GRU", 'linear_before_reset=1, direction="bidirectional"', directions=2),
    layer("activations", "GRU", 'activations=["Sigmoid","LeakyRelu"], activation_alpha=[0.2]'),
    layer("activations", "RNN", 'activations=["ScaledTanh"], activation_alpha=[1.5], activation_beta=[0.7]'),
    layer("affine", "RNN", 'activations=["Affine"], activation_alpha=[0.5], activation_beta=[0.1]'),
]  # fmt: skip

BY_BATCH = [
    case(f"{op.lower()}_by_batch", f"y, y1 = {op}<hidden_size=7, layout=1>(x, w, r, b)", x=(3, 1, 5),
         w=(1, rows * 7, 5), r=(1, rows * 7, 7), b=(1, 2 * rows * 7))
    for op, rows in GATES.items()
]  # fmt: skip

FAMILIES = {"layers": CASES, "by_batch": BY_BATCH}


@pytest.fixture(scope="module")
def results(start_whole: Start) -> Results:
    return Results(start_whole, FAMILIES)


@pytest.mark.parametrize(
    ("family", "one"), [pytest.param(family, one, id=str(one)) for family, cases in FAMILIES.items() for one in cases]
)
def test_recurrent(family: str, one: Case, results: Results) -> None:
    agree(results.of(family, one), one.expected, 1e-5)


@pytest.mark.parametrize("op", GATES)
def test_batches_first(op: str, start_whole: Start) -> None:
    """``layout=1`` with several steps, which neither evaluator has, gives what ``layout=0`` gives, transposed."""
    from support import model_of

    rows = GATES[op] * HIDDEN
    values = {"w": (2, rows, INPUTS), "r": (2, rows, HIDDEN), "b": (2, 2 * rows)}
    weights: dict[str, Any] = {key: filled(f"{op}/{key}", shape) for key, shape in values.items()}
    x = filled(op, (STEPS, BATCH, INPUTS))
    body = f'y, y1 = {op}<hidden_size={HIDDEN}, direction="bidirectional", layout=%d>(x, w, r, b, n)'
    first = case("steps", body % 0, x=x, n=LENGTHS, **weights)
    second = case("batches", body % 1, x=x.transpose(1, 0, 2).copy(), n=LENGTHS, **weights)
    with start_whole(model_of(first)) as executor:
        expected = executor.run(first.inputs)
    with start_whole(model_of(second)) as executor:
        got = executor.run(second.inputs)
    np.testing.assert_allclose(got["y"], expected["y"].transpose(2, 0, 1, 3), atol=1e-6)
    np.testing.assert_allclose(got["y1"], expected["y1"].transpose(1, 0, 2), atol=1e-6)
