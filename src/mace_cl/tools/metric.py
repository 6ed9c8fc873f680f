"""A user's own metric: a function in a Python file, which runs because the user named the file."""

from __future__ import annotations

import linecache
import traceback
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mace_cl.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FUNCTION", "load_metric", "measured"]

FUNCTION = "metric"
"""The function that a script has to define: ``metric(ours, reference, inputs, names)``.

Each argument is a list with an item for each sample: the outputs here, those of the reference and the inputs as dicts
of arrays by name, and the sample's name.  It returns a number, or a dict of numbers by name.
"""

Arrays = Mapping[str, "NDArray[Any]"]
Metric = Callable[[Sequence[Arrays], Sequence[Arrays], Sequence[Arrays], Sequence[str]], Any]


def load_metric(path: Path) -> Metric:
    """Run the script, and give its function.

    Raises:
        InputError: it can't be read, fails, or lacks the function; says in which line.
    """
    try:
        code = compile(path.read_bytes(), str(path), "exec")
    except OSError as error:
        raise InputError(f"--script {path}: can't be read ({error.strerror or error}); check the path") from error
    except (SyntaxError, ValueError) as error:
        line = f":{error.lineno}" if isinstance(error, SyntaxError) else ""
        raise InputError(f"--script {path}{line}: is no Python: {error}") from error
    scope: dict[str, Any] = {"__name__": path.stem, "__file__": str(path)}
    _guarded(path, lambda: exec(code, scope))
    function: Metric | None = scope.get(FUNCTION)
    if not callable(function):
        raise InputError(f"--script {path}: defines no function {FUNCTION}(ours, reference, inputs, names); add it")
    return function


def measured(
    path: Path, metric: Metric, ours: Sequence[Arrays], reference: Sequence[Arrays], inputs: Sequence[Arrays],
    names: Sequence[str],
) -> dict[str, float]:  # fmt: skip
    """What the function returns, as numbers by name.

    Raises:
        InputError: it fails, says in which line; or what it returns are no numbers.
    """
    found = _guarded(path, lambda: metric(ours, reference, inputs, names))
    numbers = found if isinstance(found, Mapping) else {FUNCTION: found}
    for name, number in numbers.items():
        if not isinstance(number, Real) and not (getattr(number, "ndim", None) == 0 and number.dtype.kind in "fiu"):
            raise InputError(f"--script {path}: {FUNCTION} returned {number!r} as {name}; it should return numbers")
    return {str(name): float(number) for name, number in numbers.items()}


def _guarded(path: Path, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:
        lines = [one.lineno for one in traceback.extract_tb(error.__traceback__) if one.filename == str(path)]
        line = lines[-1] if lines and lines[-1] else 0
        text = linecache.getline(str(path), line).strip()
        raise InputError(f"--script {path}:{line}: {type(error).__name__}: {error}, in `{text}`") from error
