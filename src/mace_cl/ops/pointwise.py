"""Elementwise ops in any type: what `ops.elementwise` can't express in fp32, one kernel each.

Formulas are those of the ONNX operators of the same name.  Integers wrap around; a division by zero, which C
leaves undefined and some processors answer with a signal, gives 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_ir as ir

from mace_cl.graph import attribute
from mace_cl.kernels import types
from mace_cl.ops.builder import Builder
from mace_cl.ops.points import broadcast, emit_node

__all__ = ["POINTWISE", "lower_cast", "lower_pointwise"]

Body = Callable[[ir.Node, Sequence[str]], str | None]
"""The statement for operands of these computed types, or None if there is none."""

_FLOATS = ("float32", "float64")
_UNSIGNED = ("uint8", "uint16", "uint32", "uint64", "bool")


def _any(text: str) -> Body:
    """For every type; ``T`` stands for the first operand's."""
    return lambda node, kinds: f"r = {text.replace('T', types.OPENCL_TYPES[kinds[0]])};"


def _floats(text: str) -> Body:
    return lambda node, kinds: _any(text)(node, kinds) if kinds[0] in _FLOATS else None


def _integers(text: str) -> Body:
    return lambda node, kinds: _any(text)(node, kinds) if kinds[0] not in _FLOATS else None


def _chain(step: str, mean: bool = False) -> Body:
    """A variadic op: ``step`` takes ``r`` and ``x``."""

    def body(node: ir.Node, kinds: Sequence[str]) -> str:
        lines = ["r = a0;"]
        lines += [f"r = {step.replace('x', f'a{index}')};" for index in range(1, len(kinds))]
        return "\n".join([*lines, f"r = r / {len(kinds)};"] if mean else lines)

    return body


def _divide(node: ir.Node, kinds: Sequence[str]) -> str:
    if kinds[0] in _FLOATS:
        return "r = a0 / a1;"
    if kinds[0] in _UNSIGNED:
        return "r = a1 == 0 ? 0 : a0 / a1;"
    return "r = a1 == 0 ? 0 : a1 == -1 ? 0 - a0 : a0 / a1;"


def _modulo(node: ir.Node, kinds: Sequence[str]) -> str:
    if kinds[0] in _FLOATS:
        if attribute(node, "fmod", 0):
            return "r = fmod(a0, a1);"
        return "r = fmod(a0, a1);\nif (r != 0 && (r < 0) != (a1 < 0)) r += a1;"
    rest = "r = (a1 == 0 || a1 == -1) ? 0 : a0 % a1;" if kinds[0] not in _UNSIGNED else "r = a1 == 0 ? 0 : a0 % a1;"
    return rest if attribute(node, "fmod", 0) else f"{rest}\nif (r != 0 && (r < 0) != (a1 < 0)) r += a1;"


def _power(node: ir.Node, kinds: Sequence[str]) -> str:
    base, exponent = kinds
    if base in _FLOATS:
        return f"r = pow(a0, ({types.OPENCL_TYPES[base]})a1);"
    if exponent in _FLOATS:
        return f"r = ({types.OPENCL_TYPES[base]})pow((float)a0, (float)a1);"
    lines = ["r = 1;", "long e = (long)a1;", f"{types.OPENCL_TYPES[base]} b = a0;"]
    lines += ["if (e < 0) { r = b == 1 ? 1 : b == -1 ? (e & 1 ? -1 : 1) : 0; }" if base not in _UNSIGNED
              else "if (e < 0) { r = b == 1; }"]  # fmt: skip
    return "\n".join([*lines, "for (; e > 0; e >>= 1) { if (e & 1) r *= b; b *= b; }"])


def _shift(node: ir.Node, kinds: Sequence[str]) -> str | None:
    if kinds[0] in _FLOATS:
        return None
    sign = "<<" if attribute(node, "direction") == "LEFT" else ">>"
    bits = 8 * types.item_bytes(kinds[0])
    beyond = "0" if sign == "<<" or kinds[0] in _UNSIGNED else "(a0 < 0 ? -1 : 0)"
    return f"r = a1 < 0 || a1 >= {bits} ? {beyond} : a0 {sign} a1;"


def _infinite(node: ir.Node, kinds: Sequence[str]) -> str | None:
    if kinds[0] not in _FLOATS:
        return None
    signs = [f"(isinf(a0) && a0 {sign} 0)" for sign, name in ((">", "detect_positive"), ("<", "detect_negative"))
             if attribute(node, name, 1)]  # fmt: skip
    return f"r = {' || '.join(signs) or '0'};"


def _clip(node: ir.Node, kinds: Sequence[str]) -> str:
    """The upper bound wins where the bounds cross; an input that is left out is not given as an operand."""
    lines, following = ["r = a0;"], 1
    for index, sign in ((1, "<"), (2, ">")):
        if len(node.inputs) > index and node.inputs[index] is not None:
            lines.append(f"r = r {sign} a{following} ? a{following} : r;")
            following += 1
        elif (name := ("min", "max")[index - 1]) in node.attributes:
            bound = attribute(node, name)
            lines.append(f"r = r {sign} {bound!r} ? {bound!r} : r;")
    return "\n".join(lines)


def _cast_like(node: ir.Node, kinds: Sequence[str]) -> str:
    return _converted(kinds[0], kinds[1])


def _converted(source: str, target: str) -> str:
    """C's own conversion; to bool, "is not zero"; floats outside an integer's range saturate where C is undefined."""
    if target == "bool":
        return "r = a0 != 0;"
    kind = types.OPENCL_TYPES[target]
    if source in _FLOATS and target not in _FLOATS:
        wide = "ulong" if target == "uint64" else "long"
        return f"r = ({kind})convert_{wide}_sat_rtz(a0);" if target != wide else f"r = convert_{wide}_sat_rtz(a0);"
    return f"r = ({kind})a0;"


_ABS: Body = lambda node, kinds: (  # noqa: E731
    "r = fabs(a0);" if kinds[0] in _FLOATS else "r = a0;" if kinds[0] in _UNSIGNED else "r = a0 < 0 ? -a0 : a0;"
)

POINTWISE: dict[str, Body] = {
    "Abs": _ABS,
    "Acos": _floats("acos(a0)"),
    "Acosh": _floats("acosh(a0)"),
    "Add": _any("a0 + a1"),
    "And": _any("a0 && a1"),
    "Asin": _floats("asin(a0)"),
    "Asinh": _floats("asinh(a0)"),
    "Atan": _floats("atan(a0)"),
    "Atanh": _floats("atanh(a0)"),
    "BitShift": _shift,
    "BitwiseAnd": _integers("a0 & a1"),
    "BitwiseNot": _integers("~a0"),
    "BitwiseOr": _integers("a0 | a1"),
    "BitwiseXor": _integers("a0 ^ a1"),
    "CastLike": _cast_like,
    "Ceil": _floats("ceil(a0)"),
    "Clip": _clip,
    "Cos": _floats("cos(a0)"),
    "Cosh": _floats("cosh(a0)"),
    "Div": _divide,
    "Equal": _any("a0 == a1"),
    "Erf": _floats("erf(a0)"),
    "Exp": _floats("exp(a0)"),
    "Floor": _floats("floor(a0)"),
    "Greater": _any("a0 > a1"),
    "GreaterOrEqual": _any("a0 >= a1"),
    "IsInf": _infinite,
    "IsNaN": _floats("isnan(a0)"),
    "Less": _any("a0 < a1"),
    "LessOrEqual": _any("a0 <= a1"),
    "Log": _floats("log(a0)"),
    "Max": _chain("(x > r || x != x) ? x : r"),
    "Mean": _chain("r + x", mean=True),
    "Min": _chain("(x < r || x != x) ? x : r"),
    "Mod": _modulo,
    "Mul": _any("a0 * a1"),
    "Neg": _any("-a0"),
    "Not": _any("!a0"),
    "Or": _any("a0 || a1"),
    "PRelu": _any("a0 < 0 ? a0 * a1 : a0"),
    "Pow": _power,
    "Reciprocal": _floats("1 / a0"),
    "Relu": _any("a0 < 0 ? 0 : a0"),
    "Round": _floats("rint(a0)"),
    "Sigmoid": _floats("1 / (1 + exp(-a0))"),
    "Sign": _any("(a0 > 0) - (a0 < 0)"),
    "Sin": _floats("sin(a0)"),
    "Sinh": _floats("sinh(a0)"),
    "Softplus": _floats("(a0 > 0 ? a0 : 0) + log1p(exp(-fabs(a0)))"),
    "Softsign": _floats("a0 / (1 + fabs(a0))"),
    "Sqrt": _floats("sqrt(a0)"),
    "Sub": _any("a0 - a1"),
    "Sum": _chain("r + x"),
    "Tan": _floats("tan(a0)"),
    "Tanh": _floats("tanh(a0)"),
    "Where": _any("a0 ? a1 : a2"),
    "Xor": _any("!a0 != !a1"),
}


def lower_pointwise(builder: Builder, node: ir.Node) -> None:
    """Operands are broadcast to the result's shape."""
    inputs = [value for value in node.inputs if value is not None]
    kinds = [builder.type(value) for value in inputs]
    body = POINTWISE[node.op_type](node, kinds)
    if body is None:
        raise builder.unsupported(node, f"does not run on {', '.join(dict.fromkeys(kinds))}")
    _emit(builder, node, inputs, body, node.op_type.lower())


def _emit(builder: Builder, node: ir.Node, inputs: Sequence[ir.Value], body: str, name: str) -> None:
    dims = builder.shape(node.outputs[0])
    for value in inputs:
        own = builder.shape(value)
        if len(own) > len(dims) or any(a not in (1, b) for a, b in zip(own[::-1], dims[::-1], strict=False)):
            builder.expect(node, value, dims)
    reads = [(value, broadcast(builder.shape(value), dims)) for value in inputs]
    emit_node(builder, node, reads, body, name=name)


def lower_cast(builder: Builder, node: ir.Node) -> None:
    """``Cast``; to float16 and bfloat16, the value is rounded to what they hold and goes on in fp32."""
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    assert y.dtype is not None
    source, target, stored = builder.type(x), builder.type(y), builder.stored_type(y)
    if stored in types.STORED_TYPES and builder.stored_type(x) != stored:
        body = f"float v = (float)a0;\n{_ROUNDED[stored]}"
    elif source == target:
        builder.place(y, "nchw", builder.region(x))
        return
    else:
        body = _converted(source, target)
    _emit(builder, node, [x], body, "cast")


_ROUNDED = {
    "float16": "ushort h;\nvstore_half_rte(v, 0, (half *)&h);\nr = vload_half(0, (const half *)&h);",
    "bfloat16": "const uint u = as_uint(v);\n"
    "r = isnan(v) ? v : as_float((u + 0x7FFFu + ((u >> 16) & 1u)) & 0xFFFF0000u);",
}
