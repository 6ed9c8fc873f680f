"""LSTM, GRU and RNN: the input's share of all steps as one matrix product, then per step a product and a gate kernel.

Formulas are those of the ONNX operators of the same names.  The states after each step lie in one buffer, a slot per
step; sequences that have ended keep their state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from mace_cl.expr import literal
from mace_cl.graph import array_of, attribute, is_used
from mace_cl.kernels.base import ceil_div
from mace_cl.kernels.elementwise import Access
from mace_cl.kernels.map import Map, Operand
from mace_cl.kernels.matmul import MatMul
from mace_cl.ops.builder import Builder
from mace_cl.ops.points import Term, given, pointer, table
from mace_cl.plan import Constant, Region

__all__ = ["lower_recurrent"]

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_DEFAULTS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}

_ACTIVATIONS: dict[str, tuple[str, float, float]] = {
    "Affine": ("a * v + b", 1.0, 0.0),
    "Elu": ("v >= 0.0f ? v : a * (exp(v) - 1.0f)", 1.0, 0.0),
    "HardSigmoid": ("clamp(a * v + b, 0.0f, 1.0f)", 0.2, 0.5),
    "LeakyRelu": ("v >= 0.0f ? v : a * v", 0.01, 0.0),
    "Relu": ("fmax(v, 0.0f)", 0.0, 0.0),
    "ScaledTanh": ("a * tanh(b * v)", 1.0, 1.0),
    "Sigmoid": ("1.0f / (1.0f + exp(-v))", 0.0, 0.0),
    "Softplus": ("log(1.0f + exp(v))", 0.0, 0.0),
    "Softsign": ("v / (1.0f + fabs(v))", 0.0, 0.0),
    "Tanh": ("tanh(v)", 0.0, 0.0),
    "ThresholdedRelu": ("v >= a ? v : 0.0f", 1.0, 0.0),
}
"""OpenCL C of each activation over ``v``, and the defaults of ``a`` and ``b``."""

_SCALED = frozenset(("Affine", "Elu", "HardSigmoid", "LeakyRelu", "ScaledTanh", "ThresholdedRelu"))
_SHIFTED = frozenset(("Affine", "HardSigmoid", "ScaledTanh"))


@dataclass(frozen=True)
class _Shape:
    """Sizes of a layer; ``by_batch`` is the attribute layout: batches before steps."""

    steps: int
    batch: int
    inputs: int
    hidden: int
    directions: int
    by_batch: bool


def lower_recurrent(builder: Builder, node: ir.Node) -> None:
    """All directions, layouts, lengths, initial states, activations, peepholes; fp32."""
    x, r = node.inputs[0], node.inputs[2]
    assert x is not None
    if builder.type(x) != "float32":
        raise builder.unsupported(node, f"{x.name!r} is {builder.type(x)}, and the op runs on float32 so far")
    by_batch, gates = bool(attribute(node, "layout", 0)), _GATES[node.op_type]
    first, second, inputs = builder.shape(x)
    directions, _, hidden = builder.shape(r)
    steps, batch = (second, first) if by_batch else (first, second)
    size = _Shape(steps, batch, inputs, hidden, directions, by_batch)
    state = (batch, directions, hidden) if by_batch else (directions, batch, hidden)
    expected = {1: (gates * hidden, inputs), 2: (gates * hidden, hidden), 3: (2 * gates * hidden,), 7: (3 * hidden,)}
    for position, rest in expected.items():
        builder.expect(node, given(node, position), (directions, *rest))
    builder.expect(node, given(node, 4), (batch,))
    for position in (5, 6):
        builder.expect(node, given(node, position), state)
    functions = _functions(builder, node, directions)
    histories = [_direction(builder, node, size, d, functions[d]) for d in range(directions)]
    _outputs(builder, node, size, histories)


def _functions(builder: Builder, node: ir.Node, directions: int) -> list[str]:
    """OpenCL C functions ``f``, ``g``, ``h`` per direction."""
    each = len(_DEFAULTS[node.op_type])
    names = attribute(node, "activations") or list(_DEFAULTS[node.op_type]) * directions
    alphas, betas = list(attribute(node, "activation_alpha", ())), list(attribute(node, "activation_beta", ()))
    clip = attribute(node, "clip")
    texts = []
    for position, given_name in enumerate(names):
        name = next((one for one in _ACTIVATIONS if one.lower() == str(given_name).lower()), None)
        if name is None or len(names) != each * directions:
            raise builder.unsupported(node, f"the activations {list(names)} are not known")
        body, a, b = _ACTIVATIONS[name]
        a = alphas.pop(0) if name in _SCALED and alphas else a
        b = betas.pop(0) if name in _SHIFTED and betas else b
        bound = "" if clip is None or position % each == 2 else f"v = clamp(v, {literal(-clip)}, {literal(clip)}); "
        texts.append(
            f"float ENTRY_{'fgh'[position % each]}(float v) {{ const float a = {literal(a)}, b = {literal(b)}; "
            f"{bound}return {body}; }}"
        )
    return ["\n".join(texts[d * each : (d + 1) * each]) for d in range(directions)]


def _matrix(
    builder: Builder, node: ir.Node, value: ir.Value | None, d: int, rows: range, columns: int
) -> Region | Constant:
    """``value[d, rows]`` transposed: ``[columns, rows]``."""
    assert value is not None
    array = array_of(value)
    if array is not None:
        turned = np.ascontiguousarray(array[d, rows.start : rows.stop].T)
        return Constant(f"{value.name}.{d}.{rows.start}", turned)
    target = builder.scratch(f"{value.name}.transposed", 4 * len(rows) * columns)
    offset = (d * builder.shape(value)[1] + rows.start) * columns
    copy = builder.copy("float32", Access((1, columns), offset), Access((len(rows), 1)), (columns, len(rows)))
    builder.emit(copy, [builder.region(value)], target, node)
    return target


def _product(
    builder: Builder, node: ir.Node, left: Region, right: Region | Constant, size: tuple[int, int, int]
) -> Region:
    target = builder.scratch(f"{node.name}.product", 4 * size[0] * size[2])
    builder.emit(MatMul(builder.block, (), ((), ()), size), [left, right], target, node)
    return target


@dataclass(frozen=True)
class _History:
    """The states: slot s holds those before step s, ``slot`` floats apart; ``reverse`` runs from the end."""

    region: Region
    slot: int
    reverse: bool


def _direction(builder: Builder, node: ir.Node, size: _Shape, d: int, functions: str) -> _History:
    """One direction's steps."""
    x, w, r = node.inputs[:3]
    assert x is not None
    op, h, b = node.op_type, size.hidden, size.batch
    rows, reverse = _GATES[op] * h, d == 1 or attribute(node, "direction", "forward") == "reverse"
    states = 2 if op == "LSTM" else 1
    align = builder.layout.view_alignment
    slot = ceil_div(4 * states * b * h, align) * align
    history = builder.scratch(f"{node.name}.states", (size.steps + 1) * slot)
    slots = [Region(history.buffer, step * slot, slot) for step in range(size.steps + 1)]
    shares = _product(
        builder, node, builder.region(x), _matrix(builder, node, w, d, range(rows), size.inputs),
        (size.steps * b, size.inputs, rows),
    )  # fmt: skip
    _start(builder, node, size, d, states, slots[0])
    split = op == "GRU" and not attribute(node, "linear_before_reset", 0)
    columns = 2 * h if split else rows
    first = _matrix(builder, node, r, d, range(columns), h)
    second = _matrix(builder, node, r, d, range(2 * h, 3 * h), h) if split else None
    extras = {name: given(node, position) for name, position in (("bias", 3), ("lengths", 4), ("peep", 7))}
    for step in range(size.steps):
        before = Region(history.buffer, step * slot, 4 * b * h)
        common = [
            Term(shares, "float32"), Term(_product(builder, node, before, first, (b, h, columns)), "float32"),
            Term(slots[step], "float32"), table(f"{node.name}.step", np.array([step], np.int32)),
            *(pointer(builder, value) for value in extras.values() if value is not None),
        ]  # fmt: skip
        names = [name for name, value in extras.items() if value is not None]
        head = _head(size, d, rows, reverse, names, columns)
        if second is not None:
            reset = builder.scratch(f"{node.name}.reset", 4 * b * h)
            text = f"{head}\ny[at] = done ? 0.0f : ENTRY_f(X(1) + H(1) + B(1)) * before[at];"
            _emit(builder, node, "gru_reset", common, text, (b, h), reset, functions)
            product = _product(builder, node, reset, second, (b, h, h))
            common.append(Term(product, "float32"))
        body = f"{head}\n{_step(node, states * b * h, b * h, names, len(common) - 1 if split else 0)}"
        _emit(builder, node, op.lower(), common, body, (b, h), slots[step + 1], functions)
    return _History(history, slot // 4, reverse)


def _emit(
    builder: Builder, node: ir.Node, op: str, reads: Sequence[Term], body: str, dims: tuple[int, ...],
    target: Region, functions: str = "",
) -> None:  # fmt: skip
    operands = tuple(Operand(term.kind) for term in reads)
    clean = "".join(f"\n#undef {name}" for name in "XHWRBP" if f"#undef {name}\n" in body)
    problem = Map(op, dims, operands, Operand("float32"), body + clean, functions, 64)
    builder.emit(problem, [term.operand for term in reads], target, node)


def _start(builder: Builder, node: ir.Node, size: _Shape, d: int, states: int, target: Region) -> None:
    """The initial states, zero where none are given."""
    at = f"(i1 * {size.directions} + {d})" if size.by_batch else f"({d} * {size.batch} + i1)"
    reads, values = [], []
    for position in (5, 6)[:states]:
        value = given(node, position)
        if value is not None:
            reads.append(pointer(builder, value))
        values.append("0.0f" if value is None else f"x{len(reads) - 1}[{at} * {size.hidden} + i2]")
    if not reads:
        reads = [table("zero", np.zeros(1, np.float32))]
    body = f"y[at] = {values[0] if states == 1 else f'i0 == 0 ? {values[0]} : {values[1]}'};"
    _emit(builder, node, "initial_state", reads, body, (states, size.batch, size.hidden), target)


def _head(size: _Shape, d: int, rows: int, reverse: bool, names: Sequence[str], columns: int) -> str:
    """Where the point (batch, hidden) reads: macros for the shares of input, state, biases and peephole in a gate."""
    h = size.hidden
    place = {name: f"x{4 + number}" for number, name in enumerate(names)}
    length = f"(int)clamp((long){place['lengths']}[i0], 0L, {size.steps}L)" if "lengths" in place else str(size.steps)
    row = f"i0 * {size.steps} + t" if size.by_batch else f"t * {size.batch} + i0"
    macros = {
        "X(g)": f"x0[({row}) * {rows} + (g) * {h} + i1]",
        "H(g)": f"x1[i0 * {columns} + (g) * {h} + i1]",
        "W(g)": f"{place['bias']}[{2 * d * rows} + (g) * {h} + i1]" if "bias" in place else "0.0f",
        "R(g)": f"{place['bias']}[{(2 * d + 1) * rows} + (g) * {h} + i1]" if "bias" in place else "0.0f",
        "B(g)": "(W(g) + R(g))",
        "P(g)": f"{place['peep']}[{3 * d * h} + (g) * {h} + i1]" if "peep" in place else "0.0f",
    }
    return "\n".join([
        f"const int length = {length}, step = x3[0];",
        "const bool done = step >= length;",
        f"const int t = done ? 0 : {'length - 1 - step' if reverse else 'step'};",
        "__global const float *before = x2;",
        *(f"#undef {name[0]}\n#define {name} {text}" for name, text in macros.items()),
    ])  # fmt: skip


def _step(node: ir.Node, states: int, state: int, names: Sequence[str], product: int) -> str:
    """The gates' formulas; ``state`` floats are between hidden and cell state."""
    keep = "if (done) {\ny[at] = before[at];" + (f"\ny[at + {state}] = before[at + {state}];" if states > state else "")
    if node.op_type == "RNN":
        rule = "y[at] = ENTRY_f(X(0) + H(0) + B(0));"
    elif node.op_type == "GRU":
        hidden = f"x{product}[at] + B(2)" if product else "H(2) + B(2)"
        rule = f"const float z = ENTRY_f(X(0) + H(0) + B(0));\nconst float v = ENTRY_g(X(2) + {hidden});"
        if not product:
            rule = (
                "const float z = ENTRY_f(X(0) + H(0) + B(0)), reset = ENTRY_f(X(1) + H(1) + B(1));\n"
                "const float v = ENTRY_g(X(2) + W(2) + reset * (H(2) + R(2)));"
            )
        rule += "\ny[at] = (1.0f - z) * v + z * before[at];"
    else:
        peep = [f" + P({g}) * {c}" if "peep" in names else "" for g, c in ((0, "c"), (1, "n"), (2, "c"))]
        forget = "1.0f - i" if attribute(node, "input_forget", 0) else f"ENTRY_f(X(2) + H(2) + B(2){peep[2]})"
        rule = (
            f"const float c = before[at + {state}], i = ENTRY_f(X(0) + H(0) + B(0){peep[0]}), f = {forget};\n"
            f"const float n = f * c + i * ENTRY_g(X(3) + H(3) + B(3));\n"
            f"y[at + {state}] = n;\ny[at] = ENTRY_f(X(1) + H(1) + B(1){peep[1]}) * ENTRY_h(n);"
        )
    return f"{keep}\n}} else {{\n{rule}\n}}"


def _outputs(builder: Builder, node: ir.Node, size: _Shape, histories: Sequence[_History]) -> None:
    """All hidden states, the last hidden and the last cell state."""
    used = [len(node.outputs) > index and is_used(node.outputs[index]) for index in range(3)]
    targets = [builder.allocate(node.outputs[index], "nchw") if used[index] else None for index in range(3)]
    lengths = given(node, 4)
    count, h = size.directions, size.hidden
    for d, one in enumerate(histories):
        if targets[0] is not None:
            reads = [Term(one.region, "float32"), *([] if lengths is None else [pointer(builder, lengths)])]
            length = str(size.steps) if lengths is None else f"(int)clamp((long)x1[i1], 0L, {size.steps}L)"
            place = (
                f"((i1 * {size.steps} + i0) * {count} + {d}) * {h}"
                if size.by_batch else f"((i0 * {count} + {d}) * {size.batch} + i1) * {h}"
            )  # fmt: skip
            body = (
                f"const int length = {length}, step = {'length - 1 - i0' if one.reverse else 'i0'};\n"
                f"y[{place} + i2] = i0 < length ? x0[(step + 1) * {one.slot} + i1 * {h} + i2] : 0.0f;"
            )
            _emit(builder, node, "states", reads, body, (size.steps, size.batch, h), targets[0])
        for cell in (0, 1):
            target = targets[1 + cell]
            if target is None:
                continue
            place = f"(i0 * {count} + {d})" if size.by_batch else f"({d} * {size.batch} + i0)"
            source = f"x0[{size.steps * one.slot + cell * size.batch * h} + at]"
            body = f"y[{place} * {h} + i1] = {source};"
            _emit(builder, node, "last_state", [Term(one.region, "float32")], body, (size.batch, h), target)
