"""Images in NHWC for models in NCHW, and the other way round."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mace_cl.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["NCHW_TO_NHWC", "NHWC_TO_NCHW", "order", "turned"]

NHWC_TO_NCHW, NCHW_TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)


def order(
    shape: Sequence[int], wanted: Sequence[object], first: tuple[int, ...] | None = None
) -> tuple[int, ...] | None:
    """The order of axes in which ``shape`` fits ``wanted``, whose sizes may be open: as it is, or channels moved.

    ``first`` is tried before all others.  None where no order fits.
    """
    as_it_is = tuple(range(len(shape)))
    for axes in (*([first] if first else []), as_it_is, NHWC_TO_NCHW, NCHW_TO_NHWC):
        if len(axes) == len(shape) == len(wanted) and all(
            shape[axis] == want or not isinstance(want, int) for axis, want in zip(axes, wanted, strict=True)
        ):
            return axes
    return None


def turned(array: NDArray[Any], wanted: Sequence[object], what: str, flag: str) -> NDArray[Any]:
    """The array as it is where its shape fits ``wanted``, else with its channels moved.

    Raises:
        InputError: it fits neither way.
    """
    axes = order(array.shape, wanted)
    if axes is None:
        raise InputError(f"{flag}: {list(array.shape)} does not fit {what}, which has {list(wanted)} in this model")
    return array.transpose(axes)
