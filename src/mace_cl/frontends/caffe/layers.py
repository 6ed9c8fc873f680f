"""What each of Caffe's layers is in ONNX ops; ``LAYERS`` is the table.

Each function adds a layer's nodes and gives the shapes of what it writes, as Caffe computes them.  Sources: the
layers' own files in BVLC's Caffe, and in the forks that `caffe.proto` names.
"""

from __future__ import annotations

from mace_cl.frontends.caffe import (
    convolution,
    detection,
    elementwise,
    movement,
    normalisation,
    product,
    reduction,
    resize,
)
from mace_cl.frontends.caffe.step import Mapper

__all__ = ["LAYERS"]

LAYERS: dict[str, Mapper] = {
    **convolution.LAYERS,
    **product.LAYERS,
    **normalisation.LAYERS,
    **elementwise.LAYERS,
    **movement.LAYERS,
    **resize.LAYERS,
    **reduction.LAYERS,
    **detection.LAYERS,
}
