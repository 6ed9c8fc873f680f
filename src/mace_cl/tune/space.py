"""What can be tuned: the kernels' parameter spaces and the choice of algorithm, and how records name them.

A problem's identity in records is its family and its fields as JSON, without the epilogue, the bias and
how halves are read: these hardly move the best parameters, and equal shapes then share what was measured.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeGuard, get_args, get_origin, get_type_hints

import mace_cl.kernels
import mace_cl.lower
from mace_cl.kernels.conv2d import Conv2D
from mace_cl.kernels.depthwise import DepthwiseConv2D
from mace_cl.kernels.matmul import MatMul
from mace_cl.lower.winograd import estimated, possible
from mace_cl.plan import Parameters, Problem, Traits, Tunable

__all__ = [
    "FAMILIES", "Convolution", "Space", "digest", "is_tunable", "legal", "name", "named", "read_problem", "read_traits",
    "shape",
]  # fmt: skip


@dataclass(frozen=True)
class Convolution:
    """The choice of algorithm for a convolution: ``winograd`` is m of F(m×m, 3×3), 0 the direct kernel."""

    problem: Conv2D

    @property
    def family(self) -> str:
        return "convolution"

    def space(self, traits: Traits) -> Iterable[dict[str, int]]:
        """The algorithms that can compute it."""
        return [{"winograd": m} for m in possible(self.problem)]

    def default(self, traits: Traits) -> dict[str, int]:
        """The one that is estimated to be fastest."""
        return {"winograd": estimated(self.problem, traits.near_cache)}


Space = Tunable | Convolution

_CONV2D = ("kernels/conv2d.py", "kernels/conv2d_tiles.py", "kernels/conv2d_groups.py")

FAMILIES: Mapping[str, tuple[type, tuple[str, ...]]] = MappingProxyType(
    {
        "convolution": (Convolution, ("lower/winograd.py", "kernels/winograd.py", *_CONV2D)),
        "conv2d": (Conv2D, _CONV2D),
        "depthwise": (DepthwiseConv2D, ("kernels/depthwise.py",)),
        "matmul": (MatMul, ("kernels/matmul.py",)),
    }
)
"""What is tuned: the class of its problems, and the files whose text the records speak of."""

_LAYOUTS = ("blocked", "nchw", "nhwc")
_LEFT_OUT = ("epilogue", "bias", "staged")
_MOST = 1 << 31
_MOST_WORDS = 1 << 14


def is_tunable(problem: Problem) -> TypeGuard[Tunable]:
    """Whether a kernel's parameters are tuned."""
    return problem.family in FAMILIES and isinstance(problem, Tunable)


def shape(problem: Space) -> dict[str, Any]:
    """The problem as records have it."""
    inner = problem.problem if isinstance(problem, Convolution) else problem
    assert is_dataclass(inner)
    assert not isinstance(inner, type)
    given = {key: value for key, value in asdict(inner).items() if key not in _LEFT_OUT}
    plain: dict[str, Any] = json.loads(json.dumps(given))
    return plain


def name(problem: Space) -> str:
    """The problem in one line for people."""
    return named(problem.family, shape(problem))


def named(family: str, given: Mapping[str, Any]) -> str:
    """As `name`, from what `shape` gave."""

    def sizes(one: Any) -> str:
        return "x".join(map(str, one)) if isinstance(one, list) else str(one)

    if "window" not in given:
        return f"{family} {sizes([*given['batch'], *given['size']])}"
    window, channels = given["window"], given["channels"]
    stride = "" if window["strides"] == [1, 1] else f"/{window['strides'][0]}"
    groups = f" in {given['groups']} groups" if given.get("groups", 1) > 1 else ""
    between = "→".join(map(str, channels)) if isinstance(channels, list) else channels
    return f"{family} {sizes(window['kernel'])}{stride} {between}{groups} @{sizes(window['output'])}"


@cache
def digest(family: str) -> str:
    """A fingerprint of the code that writes a family's kernels: a record speaks of no other."""
    root, made = Path(mace_cl.kernels.__file__).parents[1], hashlib.sha256()
    for module in FAMILIES[family][1]:
        made.update((root / module).read_bytes())
    return made.hexdigest()[:16]


def legal(problem: Space, parameters: Parameters, traits: Traits) -> dict[str, int] | None:
    """The same parameters as the space has them, or None: with others no kernel may be rendered."""
    return next((one for one in problem.space(traits) if one == parameters), None)


def read_problem(family: str, given: object) -> Space:
    """The problem that a record names.

    Raises:
        ValueError: it is none of its family.
    """
    if family not in FAMILIES:
        raise ValueError(f"the family {family!r} is not one of {', '.join(FAMILIES)}")
    kind = Conv2D if family == "convolution" else FAMILIES[family][0]
    problem = _read(kind, given, "problem")
    return Convolution(problem) if family == "convolution" else problem


def read_traits(given: object) -> Traits:
    """The traits that a record names.

    Raises:
        ValueError: they are none, or no device's.
    """
    traits: Traits = _read(Traits, given, "traits")
    if not (0 < traits.cores <= 1 << 20 and 0 < traits.vector_registers <= 1 << 10):
        raise ValueError(f"traits: {traits} are no device's")
    return traits


def _read(hint: Any, given: object, where: str) -> Any:
    """``given`` as a value of type ``hint``: a dataclass, a tuple, a number or a word."""
    if is_dataclass(hint) and isinstance(hint, type):
        hints = get_type_hints(hint)
        wanted = {field.name for field in fields(hint)} - set(_LEFT_OUT)
        if not isinstance(given, dict) or set(given) != wanted:
            raise ValueError(f"{where}: needs the fields {', '.join(sorted(wanted))}")
        return hint(**{key: _read(hints[key], value, f"{where}.{key}") for key, value in given.items()})
    if get_origin(hint) is tuple:
        parts = get_args(hint)
        if not isinstance(given, list) or len(given) > _MOST_WORDS:
            raise ValueError(f"{where}: is no list of at most {_MOST_WORDS}")
        if parts[-1] is Ellipsis:
            parts = parts[:1] * len(given)
        if len(parts) != len(given):
            raise ValueError(f"{where}: has {len(given)} elements, not {len(parts)}")
        return tuple(_read(part, value, where) for part, value in zip(parts, given, strict=True))
    if hint is int and type(given) is int and 0 <= given < _MOST:
        return given
    if hint is bool and type(given) is bool:
        return given
    if hint is str and given in _LAYOUTS:
        return given
    raise ValueError(f"{where}: {given!r} is no {getattr(hint, '__name__', hint)} in range")
