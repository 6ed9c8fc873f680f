"""The mapping of each TensorFlow Lite operator.

Semantics: https://www.tensorflow.org/mlir/tfl_ops and the reference kernels of TensorFlow Lite.
"""

from __future__ import annotations

from mace_cl.frontends.tflite import convolution, detection, elementwise, movement, recurrent, reduction, shape, space
from mace_cl.frontends.tflite.family import Mapper

__all__ = ["OPS"]

OPS: dict[str, Mapper] = {
    **elementwise.OPS,
    **convolution.OPS,
    **reduction.OPS,
    **movement.OPS,
    **space.OPS,
    **shape.OPS,
    **recurrent.OPS,
    **detection.OPS,
}
