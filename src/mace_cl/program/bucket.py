"""Models of many shapes: what a model leaves open, and the sizes and values that a part was compiled for.

A part of a program is for one `Bucket`: a shape for each input, and the values of those inputs that are
parameters of ops (axes, sizes, repeats).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mace_cl.errors import InputError
from mace_cl.record import record
from mace_cl.schedule import ITEM_BYTES, Port

__all__ = ["MOST_VALUES", "Bucket", "Input", "Value", "bucket_of", "is_array", "usual"]

MOST_VALUES = 64
"""Elements that a parameter of ops may have."""


def is_array(dtype: str) -> bool:
    """Whether values of an element type have a shape: sequences and optional values have none."""
    return dtype in ITEM_BYTES or dtype == "string"


@record
class Input:
    """An input as the model declares it: a size of None is symbolic, a shape of None is of any rank.

    A ``parameter`` is a number that ops are compiled for: its values, too, make a bucket.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None
    parameter: bool = False

    @property
    def open(self) -> bool:
        """Whether it may differ from bucket to bucket."""
        return self.parameter or (is_array(self.dtype) and (self.shape is None or None in self.shape))

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether an array of that shape may be given."""
        own = self.shape
        return own is None or (
            len(own) == len(shape) and all(one in (None, size) for one, size in zip(own, shape, strict=True))
        )

    def check(self) -> None:
        """Raises ValueError where it is none that a model can have."""
        sizes = [size for size in self.shape or () if size is not None]
        if any(size < 0 for size in sizes):
            raise ValueError(f"input {self.name!r} of shape {self.shape}")
        small = self.shape is not None and len(self.shape) <= 1 and None not in self.shape
        if self.parameter and not (small and prod(sizes) <= MOST_VALUES and _is_plain(self.dtype)):
            raise ValueError(f"input {self} can't be a parameter of ops")

    def __str__(self) -> str:
        sizes = "of any shape" if self.shape is None else [size if size is not None else "?" for size in self.shape]
        return f"{self.name!r} {self.dtype} {sizes}".replace("'?'", "?")


def _is_plain(dtype: str) -> bool:
    return dtype in ITEM_BYTES and dtype != "bfloat16"


@record
class Value:
    """The value of a parameter: ``data`` are its elements, row-major and little-endian."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: bytes

    @classmethod
    def of(cls, name: str, array: NDArray[Any]) -> Value:
        """``array`` as the value of the input ``name``."""
        return cls(name, array.dtype.name, array.shape, array.astype(array.dtype.newbyteorder("<")).tobytes())

    @property
    def array(self) -> NDArray[Any]:
        """The value as an array, which can't be written to."""
        dtype = np.dtype(self.dtype)
        return np.frombuffer(self.data, dtype.newbyteorder("<")).astype(dtype).reshape(self.shape)

    def check(self) -> None:
        """Raises ValueError where type, shape and data do not fit each other."""
        sound = _is_plain(self.dtype) and len(self.shape) <= 1 and prod(self.shape) <= MOST_VALUES
        if not sound or prod(self.shape) * ITEM_BYTES[self.dtype] != len(self.data):
            raise ValueError(f"the value of {self.name!r}, {self.dtype} {self.shape}, has {len(self.data)} bytes")

    def __str__(self) -> str:
        return f"{self.name}={self.array.tolist()}".replace(" ", "")


@record
class Bucket:
    """What a part was compiled for: the inputs' shapes, and the parameters' values; both by name, in its order."""

    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    values: tuple[Value, ...] = ()

    @classmethod
    def of(cls, ports: Sequence[Port], values: Sequence[Value]) -> Bucket:
        """That of a schedule with these inputs and of these values."""
        shapes = {port.name: port.shape for port in ports if port.shape is not None and is_array(port.dtype)}
        return cls(tuple(sorted(shapes.items())), tuple(sorted(values, key=lambda value: value.name)))

    def digest(self) -> str:
        """A name of 64 hexadecimal digits."""
        values = [(value.name, value.dtype, value.shape, value.data) for value in self.values]
        return hashlib.sha256(repr((self.shapes, values)).encode()).hexdigest()

    def __str__(self) -> str:
        shapes = [f"{name}={','.join(map(str, shape)) or '()'}" for name, shape in self.shapes]
        return " ".join([*shapes, *map(str, self.values)])


def bucket_of(inputs: Sequence[Input], data: Mapping[str, Any]) -> Bucket:
    """The bucket that the arrays ``data`` belong to.

    Raises:
        InputError: a name, dtype, rank or fixed size does not fit.
    """
    known = {one.name: one for one in inputs}
    unknown, absent = sorted(set(data) - set(known)), sorted(set(known) - set(data))
    if unknown or absent:
        said = (f"unknown inputs {unknown}; " if unknown else "") + (f"missing inputs {absent}; " if absent else "")
        raise InputError(f"{said}the model takes {', '.join(map(str, inputs))}")
    shapes, values = [], []
    for name, one in sorted(known.items()):
        if not is_array(one.dtype):
            continue
        array = data[name] if isinstance(data[name], np.ndarray) else np.asarray(data[name])
        if one.dtype != "string" and array.dtype != one.dtype:
            raise InputError(
                f"input {name!r} is {array.dtype}, the model has {one.dtype}; convert it with .astype({one.dtype!r})"
            )
        if not one.fits(array.shape):
            raise InputError(f"input {name!r} has shape {list(array.shape)}, the model has {one}")
        if one.parameter:
            values.append(Value.of(name, array))
        else:
            shapes.append((name, array.shape))
    return Bucket(tuple(shapes), tuple(values))


def values_of(inputs: Sequence[Input], given: Mapping[str, Any], name: str) -> tuple[Value, ...]:
    """The value of each parameter of the model ``name``: numbers, as an array or a sequence.

    Raises:
        InputError: one is missing, or none of the parameters, or does not fit its type and shape.
    """
    parameters = {one.name: one for one in inputs if one.parameter}
    if missing := ", ".join(sorted(parameters.keys() - given.keys())):
        raise InputError(
            f"{name}: is compiled for the values of {missing}, which are parameters of its ops; give each "
            "(--value NAME=N,N,… or values={…}), or run the model with them: that compiles it, too"
        )
    found = []
    for key, numbers in given.items():
        if key not in parameters:
            known = ", ".join(map(str, parameters.values())) or "none"
            raise InputError(f"{name}: a value is given for {key!r}; the inputs that are parameters of ops: {known}")
        one = parameters[key]
        try:
            array = np.asarray(numbers)
            exact = array.astype(one.dtype)
            same = bool((exact == array).all()) or array.dtype.kind == "f" == exact.dtype.kind
        except (TypeError, ValueError, OverflowError):
            same = False
        if same and one.shape == () and exact.size == 1:
            exact = exact.reshape(())
        if not same or not one.fits(exact.shape):
            raise InputError(f"{name}: {key} can't be {numbers!r}; it is {one}")
        found.append(Value.of(key, exact))
    return tuple(found)


def usual(inputs: Sequence[Input]) -> Bucket | None:
    """The bucket of a start that is given nothing: symbolic first sizes are 1.  None where more than those is open."""
    shapes = []
    for one in inputs:
        if not is_array(one.dtype):
            continue
        if one.parameter or one.shape is None or None in one.shape[1:]:
            return None
        shapes.append((one.name, tuple(1 if size is None else size for size in one.shape)))
    return Bucket(tuple(sorted(shapes)))
