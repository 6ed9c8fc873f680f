"""What each of MACE's operators is in ONNX ops; ``OPS`` is the table.  Source: MACE's ops."""

from __future__ import annotations

from mace_cl.frontends.mace import (
    convolution,
    detection,
    elementwise,
    movement,
    normalisation,
    product,
    recurrent,
    reduction,
    resize,
    shape,
)
from mace_cl.frontends.mace.step import Mapper

__all__ = ["OPS"]

OPS: dict[str, Mapper] = {
    **convolution.OPS,
    **product.OPS,
    **elementwise.OPS,
    **normalisation.OPS,
    **movement.OPS,
    **resize.OPS,
    **reduction.OPS,
    **recurrent.OPS,
    **shape.OPS,
    **detection.OPS,
}
