"""Kernels on buffers of halves: a kernel's fp32 text, with its loads and stores of some arguments replaced.

Templates are written for fp32, and reach buffers in few ways: ``LOAD``, ``UNALIGNED``, ``STORE``, ``STORE_UNALIGNED``,
an element ``p[i]``, ``(p + i)[j]`` or ``*(p + i)``, and pointers made of other pointers.  `halved` follows the pointers
and writes each access as `mace_cl.kernels.types` loads and stores that type; between them the text stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeGuard

from mace_cl.kernels import types
from mace_cl.kernels.conv2d import Conv2D
from mace_cl.kernels.depthwise import DepthwiseConv2D
from mace_cl.kernels.elementwise import Elementwise
from mace_cl.kernels.gather import Gather
from mace_cl.kernels.map import Map
from mace_cl.kernels.softmax import Softmax
from mace_cl.plan import Problem

__all__ = ["computes_in_halves", "halved", "narrowed", "takes_halves"]

_ARGUMENT = re.compile(r"(__global (?:const )?)float( \*restrict (\w+))")
_ACCESS = re.compile(
    r"(?P<space>__global (?:const )?)float(?P<pointer> \*restrict (?P<name>\w+) = )"
    r"|\b(?P<vector>LOAD|UNALIGNED|STORE|STORE_UNALIGNED)\("
    r"|(?P<star>\*?)\((?=(?P<base>\w+) \+ )"
    r"|\b(?P<element>\w+)\["
)
_STORED = re.compile(r" (\*?)= ")


def takes_halves(problem: Problem, argument: int, arguments: int) -> bool:
    """Whether the argument, of so many with the result as the last, is fp32 and may lie as halves instead."""
    if isinstance(problem, Map):
        one = (*problem.operands, problem.result)[argument]
        return one.type == "float32" and one.access is not None
    if isinstance(problem, Gather):
        return problem.type == "float32" and argument != 1
    if isinstance(problem, Softmax):  # it reads what it wrote, and would round twice
        return problem.log or argument != arguments - 1
    return True


def computes_in_halves(problem: Problem) -> TypeGuard[Conv2D | DepthwiseConv2D | Elementwise]:
    """Whether `narrowed` knows the kernels of this family: elementwise ones, and sums in parts or of few terms."""
    return isinstance(problem, (Conv2D, DepthwiseConv2D, Elementwise))


def narrowed(source: str, width: int) -> str:
    """The text of a kernel for float16 arguments that computes in halves, vectors of ``width`` (`cl_khr_fp16`).

    Where a template sums products in parts, the parts are halves and their total is fp32: a long sum of halves would
    lose what is small beside it.
    """
    text = re.sub(r"\bvec (s\[[^;]*;)", lambda found: "wide " + found[1].replace("(vec)", "(wide)"), source)
    text = text.replace("s[r][t] += a[r][t];", "s[r][t] += WIDENED(a[r][t]);")
    text = text.replace("a[r][t] = s[r][t];", "a[r][t] = NARROWED(s[r][t]);")
    text = re.sub(r"\bfloat(\d*)\b", r"half\1", re.sub(r"\(int(4|8|16)\)", r"(short\1)", text))
    text = re.sub(r"(\b\d+\.?\d*(?:[eE][+-]?\d+)?)f\b", r"\1h", text).replace("aligned(4)", "aligned(2)")
    # the total's own zeros stay fp32
    text = re.sub(r"\(wide\)\(0\.0h\)", "(wide)(0.0f)", text)
    return (
        f"#pragma OPENCL EXTENSION cl_khr_fp16 : enable\n#define wide float{width}\n"
        f"#define WIDENED(v) convert_float{width}(v)\n#define NARROWED(v) convert_half{width}(v)\n{text}"
    )


def halved(source: str, entry: str, kinds: Sequence[str]) -> str:
    """The text of kernel ``entry`` with its arguments of the types ``kinds``; those that are not halves stay.

    Raises:
        ValueError: a pointer to halves is used in a way that is not known.
    """
    head, start, rest = source.partition(f"void {entry}(")
    arguments, end, body = rest.partition(")")
    names = [argument.split()[-1].lstrip("*") for argument in arguments.split(", ")]
    held = {name: kind for name, kind in zip(names, kinds, strict=True) if kind in types.STORED_TYPES}
    arguments = _ARGUMENT.sub(lambda found: found[0].replace("float", _named(held.get(found[3]))), arguments)
    vectors = re.search(r"#define vec float(\d+)\n", head)
    macros = "".join(_macros(kind, int(vectors[1])) for kind in sorted(set(held.values()))) if vectors else ""
    return macros + head + start + arguments + end + _Rewriter(held).text(body)


def _named(kind: str | None) -> str:
    return types.opencl_type(kind or "float32")


def _macros(kind: str, width: int) -> str:
    """Loads and stores of vectors; alike in every kernel, so that they may stand twice in one source."""
    if kind == "float16":
        return (
            f"#define LOAD_float16(p) vload_half{width}(0, p)\n"
            f"#define STORE_float16(p, v) vstore_half{width}_rte(v, 0, p)\n"
        )
    rounded = f"as_uint{width}(v) + (uint{width})(0x7FFFu) + ((as_uint{width}(v) >> 16) & (uint{width})(1u))"
    nan = f"(uint{width})(0x7FC00000u)"
    return (
        f"#define LOAD_bfloat16(p) as_float{width}(convert_uint{width}(vload{width}(0, p)) << 16)\n"
        f"#define STORE_bfloat16(p, v) "
        f"vstore{width}(convert_ushort{width}((isnan(v) ? {nan} : {rounded}) >> 16), 0, p)\n"
    )


class _Rewriter:
    """A walk over a kernel's body, which knows of each pointer to halves what it points to."""

    def __init__(self, held: dict[str, str]) -> None:
        self._held = held

    def text(self, text: str) -> str:
        """``text`` with its accesses replaced."""
        made, at = [], 0
        while found := _ACCESS.search(text, at):
            work: Callable[[str, re.Match[str]], tuple[str, int]] | None = None
            if found["pointer"]:
                work = self._pointer
            elif found["vector"]:
                work = self._vector
            elif (found["element"] or found["base"]) in self._held:
                work = self._element
            made.append(self._plain(text[at : found.start()]))
            replaced, at = work(text, found) if work else (found[0], found.end())
            made.append(replaced)
        return "".join([*made, self._plain(text[at:])])

    def _plain(self, text: str) -> str:
        """``text`` itself, in which no access stands."""
        for word in re.findall(r"[A-Za-z_]\w*", text):
            if word in self._held:
                raise ValueError(f"the pointer {word} to halves is used in {text.strip()!r}")
        return text

    def _kind(self, text: str) -> str | None:
        """What the pointer that ``text`` computes points to; None for fp32."""
        kinds = {self._held[word] for word in re.findall(r"[A-Za-z_]\w*", text) if word in self._held}
        if len(kinds) > 1:
            raise ValueError(f"{text!r} points to {' and '.join(sorted(kinds))}")
        return next(iter(kinds), None)

    def _pointer(self, text: str, found: re.Match[str]) -> tuple[str, int]:
        end = text.index(";", found.end())
        value = text[found.end() : end]
        kind = self._kind(value)
        self._held.pop(found["name"], None)
        if kind is not None:
            self._held[found["name"]] = kind
        return f"{found['space']}{_named(kind)}{found['pointer']}{value}", end

    def _vector(self, text: str, found: re.Match[str]) -> tuple[str, int]:
        inside, end = _balanced(text, found.end() - 1)
        pointer, comma, value = _first(inside) if "STORE" in found[0] else (inside, "", "")
        kind = self._kind(pointer)
        name = found["vector"] if kind is None else f"{found['vector'].removesuffix('_UNALIGNED')}_{kind}"
        name = f"LOAD_{kind}" if name == f"UNALIGNED_{kind}" else name
        return f"{name}({pointer}{comma}{self.text(value)})", end

    def _element(self, text: str, found: re.Match[str]) -> tuple[str, int]:
        inside, end = _balanced(text, found.end() - 1)
        if found["element"]:
            pointer, at = found["element"], self.text(inside)
        elif found["star"]:
            pointer, at = f"({inside})", "0"
        elif text[end] == "[":
            pointer, (at, end) = f"({inside})", _balanced(text, end)
        else:
            raise ValueError(f"the address {inside!r} of halves is used as something else")
        kind = self._kind(pointer)
        assert kind is not None
        if not (stored := _STORED.match(text, end)):
            return types.load(kind, pointer, at), end
        stop = text.index(";", stored.end())
        value = self.text(text[stored.end() : stop])
        if stored[1]:
            value = f"{types.load(kind, pointer, at)} * ({value})"
        return types.store(kind, pointer, at, value), stop + 1


def _balanced(text: str, at: int) -> tuple[str, int]:
    """What stands in the bracket that opens at ``at``, and where the text after it begins."""
    depth, end = 0, at
    while True:
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(text[end], 0)
        end += 1
        if depth == 0:
            return text[at + 1 : end - 1], end


def _first(text: str) -> tuple[str, str, str]:
    """The first of several arguments, the comma, and the others."""
    depth = 0
    for at, character in enumerate(text):
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(character, 0)
        if character == "," and depth == 0:
            return text[:at], ",", text[at + 1 :]
    raise ValueError(f"{text!r} has one argument")
