"""Kernels that differ in numbers alone, as one text: a third less to compile for a network of many such layers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from mace_cl.schedule import Kernel

__all__ = ["Alike", "alike", "kind"]

_FAMILIES = ("conv2d", "depthwise", "matmul", "pool2d", "winograd_input", "winograd_output")
"""Those whose numbers bound loops or are strides, so that they are as fast without literals."""

_NUMBER = re.compile(r"#pragma unroll\n.*|(?<![\w.\[])(?<!get_global_id\()(\d{1,9})(?![\w.\]])")
"""A number that may be a variable, or what must stay: loops that are unrolled."""


@dataclass(frozen=True)
class Alike:
    """Kernels by their index, with the numbers in which they differ by the names that ``text`` has for them.

    The text is otherwise that of the first, whose ``name`` it has.
    """

    name: str
    text: str
    kernels: tuple[int, ...]
    numbers: Mapping[str, tuple[int, ...]]


def kind(kernel: Kernel) -> str:
    """What kernels have in common that differ in numbers alone, which stand in the kernel itself."""
    before, body = _parted(kernel)
    return (before + (_written(body, lambda _: "") if kernel.family in _FAMILIES else body)).replace(kernel.name, "")


def alike(kernels: Mapping[int, Kernel]) -> Iterator[Alike]:
    """All kernels, those of a kind together."""
    numbers = {index: _numbers(_parted(kernel)[1]) for index, kernel in kernels.items()}
    kinds: dict[tuple[str, int], list[int]] = {}
    for index, kernel in kernels.items():  # a file's names may hide numbers
        kinds.setdefault((kind(kernel), len(numbers[index])), []).append(index)
    for group in kinds.values():
        first = kernels[group[0]]
        before, body = _parted(first)
        places = list(zip(*(numbers[index] for index in group), strict=True))
        different = dict.fromkeys(place for place in places if len(set(place)) > 1)
        names = {place: f"number{at}" for at, place in enumerate(different)}
        written = iter([names.get(place, str(place[0])) for place in places])
        text = before + _written(body, lambda _, written=written: next(written))  # type: ignore[misc]
        yield Alike(first.name, text, tuple(group), {name: place for place, name in names.items()})


def _parted(kernel: Kernel) -> tuple[str, str]:
    """The text before the kernel, such as tables and functions, and from its name on."""
    before, name, body = kernel.source.partition(f"void {kernel.name}(")
    return before, name + body


def _numbers(text: str) -> list[int]:
    return [int(found[1]) for found in _NUMBER.finditer(text) if found[1]]


def _written(text: str, number: Callable[[str], str]) -> str:
    """The text with other words for its numbers."""
    return _NUMBER.sub(lambda found: number(found[1]) if found[1] else found[0], text)
