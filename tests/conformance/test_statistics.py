"""Normalisations of any rank, type and with computed parameters."""

from __future__ import annotations

import numpy as np
import pytest

from support import Array, Case, Results, Start, agree, case, filled


def variance(*shape: int) -> Array:
    return filled("variance", shape, 0.1)


CHANNELS = [
    case("batch_computed", "y = BatchNormalization(x, x1, x2, x3, x4)", x=(2, 5, 3, 4), x1=(5,), x2=(5,), x3=(5,),
         x4=variance(5)),
    case("batch_computed_relu", "n = BatchNormalization(x, x1, b, m, v) y = Relu(n)", x=(2, 5, 3), x1=(5,), b=(5,),
         m=(5,), v=variance(5)),
    case("batch_double", "y = BatchNormalization(x, s, b, m, v)", x=np.arange(24.0).reshape(2, 3, 4), s=np.ones(3),
         b=np.zeros(3), m=np.ones(3), v=np.ones(3)),
    case("batch_training", "y, y1, y2 = BatchNormalization<training_mode=1, momentum=0.7>(x, s, b, m, v)",
         x=(3, 5, 3, 4), s=(5,), b=(5,), m=(5,), v=variance(5)),
    case("instance_3d", "y = InstanceNormalization(x, s, b)", x=(2, 5, 17), s=(5,), b=(5,)),
    case("instance_5d", "y = InstanceNormalization(x, s, b)", x=(2, 17, 3, 4, 5), s=(17,), b=(17,)),
    case("instance_computed", "y = InstanceNormalization<epsilon=0.01>(x, x1, x2)", x=(2, 5, 4, 3), x1=(5,), x2=(5,)),
    case("instance_computed_relu", "n = InstanceNormalization(x, x1, b) y = Relu(n)", x=(1, 5, 4, 3), x1=(5,), b=(5,)),
    case("group_21", "y = GroupNormalization<num_groups=2>(x, s, b)", x=(2, 6, 4, 5), s=(6,), b=(6,)),
    case("group_3d", "y = GroupNormalization<num_groups=3, epsilon=0.1>(x, s, b)", x=(2, 9, 7), s=(9,), b=(9,)),
    case("group_each", "y = GroupNormalization<num_groups=6>(x, s, b)", x=(1, 6, 3, 3), s=(6,), b=(6,)),
    case("group_computed", "y = GroupNormalization<num_groups=1>(x, x1, x2)", x=(1, 6, 3, 3), x1=(6,), x2=(6,)),
    *(case(f"lrn_{size}", f"y = LRN<size={size}, alpha=0.01, beta=0.6, bias=1.5>(x)", x=(2, 7, 3, 4),
           oracle="onnxruntime") for size in (1, 3, 5)),
    case("lrn_default", "y = LRN<size=5>(x)", x=(1, 17, 5, 5), oracle="onnxruntime"),
]  # fmt: skip

ROWS = [
    case("layer_outputs", "y, y1, y2 = LayerNormalization(x, s, b)", x=(2, 3, 19), s=(19,), b=(19,)),
    case("layer_outputs_axis", "y, y1, y2 = LayerNormalization<axis=1, epsilon=0.1>(x, s)", x=(2, 3, 5), s=(3, 5)),
    case("layer_inverse", "y, z, y1 = LayerNormalization<axis=-2>(x, s)", x=(2, 3, 5), s=(3, 5)),
    case("layer_computed", "y = LayerNormalization(x, x1, x2)", x=(2, 3, 19), x1=(19,), x2=(19,)),
    case("layer_broadcast", "y = LayerNormalization<axis=1>(x, s, b)", x=(2, 3, 5), s=(5,), b=(3, 1),
         oracle="onnxruntime"),
    case("layer_large_mean", "y = LayerNormalization(x, x1)", x=filled("mean", (4, 64)) + np.float32(1000), x1=(64,)),
    case("rms", "y = RMSNormalization(x, s)", x=(2, 3, 19), s=(19,), opset=23),
    case("rms_axis", "y = RMSNormalization<axis=1, epsilon=0.1>(x, x1)", x=(2, 3, 5), x1=(3, 5), opset=23),
    case("mvn", "y = MeanVarianceNormalization(x)", x=(2, 3, 4, 5)),
    case("mvn_axes", "y = MeanVarianceNormalization<axes=[1,2]>(x)", x=(2, 3, 4)),
    *(case(f"lp_{p}_{axis}", f"y = LpNormalization<p={p}, axis={axis}>(x)", x=(2, 3, 5), oracle="onnxruntime")
      for p in (1, 2) for axis in (-1, 0, 1)),
    case("lp_zero", "y = LpNormalization(x)", x=np.zeros((2, 3), np.float32), oracle="onnxruntime"),
]  # fmt: skip

FAMILIES = {"channels": CHANNELS, "rows": ROWS}


@pytest.fixture(scope="module")
def results(start_whole: Start) -> Results:
    return Results(start_whole, FAMILIES)


@pytest.mark.parametrize(
    ("family", "one"), [pytest.param(family, one, id=f"{family}-{one}") for family, cases in FAMILIES.items()
                        for one in cases]
)  # fmt: skip
def test_statistics(family: str, one: Case, results: Results) -> None:
    agree(results.of(family, one), one.expected, 5e-4 if one.name == "layer_large_mean" else 1e-5)
