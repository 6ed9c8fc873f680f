"""Resize and Pad of any axes and type, and ops that look at images by position."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from support import Array, Case, Oracle, Results, Start, agree, case


def small(kind: str, *shape: int) -> Array:
    return np.random.default_rng(shape).integers(0, 100, shape).astype(kind)


def resize(name: str, attributes: str, x: tuple[int, ...] | Array, oracle: Oracle = "reference", **values: Any) -> Case:
    given = {"s": "", "z": "", "r": ""} | {key: key for key in values}
    inputs = f"x, {given['r']}, {given['s']}" + (f", {given['z']}" if given["z"] else "")
    return case(name, f"y = Resize<{attributes}>({inputs})", x=x, oracle=oracle, **values)


def f(*values: float) -> Array:
    return np.array(values, np.float32)


def sizes(*values: int) -> Array:
    return np.array(values, np.int64)


RESIZING = [
    resize("rank_1", 'mode="linear"', (7,), s=f(1.7)),
    resize("rank_2", 'mode="linear"', (5, 7), s=f(0.6, 2)),
    resize("rank_3", 'mode="linear"', (2, 17, 7), s=f(1, 1, 2)),
    resize("rank_3_cubic", 'mode="cubic"', (1, 3, 9), z=sizes(1, 3, 14)),
    resize("rank_5", 'mode="linear"', (1, 2, 3, 4, 5), s=f(1, 1, 2, 1.5, 0.8)),
    resize("rank_5_nearest", 'mode="nearest"', (1, 2, 3, 4, 5), s=f(1, 1, 2, 1.5, 0.8)),
    resize("channels", 'mode="linear"', (2, 3, 4, 5), s=f(1, 2, 1, 2)),
    resize("batch_nearest", 'coordinate_transformation_mode="asymmetric"', (2, 3, 4, 5), s=f(2, 1, 1, 1)),
    *(resize(f"nearest_{kind}", 'mode="nearest"', small(kind, 1, 3, 4, 5), s=f(1, 1, 2, 1.4))
      for kind in ("int8", "uint8", "int32", "int64", "float64", "float16")),
    resize("linear_uint8", 'mode="linear"', small("uint8", 1, 3, 4, 5), "onnxruntime", s=f(1, 1, 2, 2)),
    resize("linear_double", 'mode="linear"', small("float64", 1, 3, 4, 5), s=f(1, 1, 2, 2)),
    resize("antialias_linear", 'mode="linear", antialias=1', (1, 2, 8, 9), s=f(1, 1, 0.6, 0.4)),
    resize("antialias_cubic", 'mode="cubic", antialias=1', (1, 2, 8, 9), s=f(1, 1, 0.6, 0.4)),
    resize("antialias_up", 'mode="cubic", antialias=1', (1, 2, 4, 4), s=f(1, 1, 2, 1.5)),
    resize("antialias_excluded", 'mode="linear", antialias=1, exclude_outside=1', (1, 2, 8, 9), s=f(1, 1, 0.5, 0.3)),
    resize("exclude_outside", 'mode="cubic", exclude_outside=1', (1, 3, 4, 5), s=f(1, 1, 0.8, 2)),
    resize("exclude_outside_a", 'mode="cubic", exclude_outside=1, cubic_coeff_a=-0.5', (1, 3, 4, 5), s=f(1, 1, 2, 2)),
    resize("axes", 'mode="linear", axes=[3,1]', (1, 3, 4, 5), s=f(2, 1.5)),
    resize("axes_sizes", 'mode="linear", axes=[-1,2]', (1, 3, 4, 5), "onnxruntime", z=sizes(9, 3)),
    resize("not_larger", 'mode="linear", axes=[2,3], keep_aspect_ratio_policy="not_larger"', (1, 3, 4, 5),
           z=sizes(7, 8)),
    resize("not_smaller", 'mode="nearest", axes=[2,3], keep_aspect_ratio_policy="not_smaller"', (1, 3, 4, 5),
           z=sizes(7, 8)),
    resize("crop", 'mode="linear", coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=10.0',
           (1, 2, 4, 5), r=f(0, 0, 0.4, 0.6, 1, 1, 0.6, 0.8), z=sizes(1, 2, 3, 3)),
    resize("crop_outside",
           'mode="linear", coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=3.5',
           (1, 1, 4, 4), r=f(0, 0, 0.4, 0.6, 1, 1, 1.2, 1.7), z=sizes(1, 1, 3, 3)),
    resize("crop_axes", 'mode="linear", coordinate_transformation_mode="tf_crop_and_resize", axes=[2,3]',
           (1, 1, 4, 4), r=f(0.4, 0.6, 0.6, 0.8), z=sizes(3, 3)),
    resize("crop_nearest",
           'mode="nearest", coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=2.0',
           (2, 2, 4), r=f(0, 0, -0.3, 1, 1, 1.2), z=sizes(2, 2, 5)),
    case("half_pixel_for_nn", 'y = Resize<mode="nearest", coordinate_transformation_mode="tf_half_pixel_for_nn", '
         'nearest_mode="floor">(x, r, s)', x=(1, 2, 4, 4), r=f(), s=f(1, 1, 2, 1.5), opset=11, oracle="onnxruntime"),
    case("upsample_3d", "y = Upsample(x, s)", x=(1, 2, 3, 4, 5), s=f(1, 1, 2, 2, 2), opset=9, oracle="onnxruntime"),
    resize("nothing", 'mode="linear"', (1, 2, 3), s=f(1, 1, 1)),
]  # fmt: skip

MODES = ("constant", "edge", "reflect", "wrap")

PADDING = [
    *(case(f"{mode}_{len(x)}", f'y = Pad<mode="{mode}">(x, p)', x=x, p=p)
      for mode in MODES for x, p in (((5,), [2, 3]), ((3, 4), [1, 2, 2, 0]), ((2, 3, 4), [1, 2, 3, 1, 0, 2]),
                                     ((2, 3, 3, 4, 5), [1, 0, 2, 1, 0, 0, 1, 0, 3, 2]))),
    *(case(f"{mode}_{kind}", f'y = Pad<mode="{mode}">(x, p)', x=small(kind, 3, 4), p=[1, 2, 2, 0])
      for mode in MODES for kind in ("int8", "int32", "int64", "float64")),
    case("value_int", "y = Pad(x, p, v)", x=small("int32", 3, 4), p=[1, 2, 2, 0], v=np.array(7, np.int32)),
    case("value_computed", "y = Pad(x, p, x1)", x=(3, 4), p=[1, 2, 2, 0], x1=np.array(2.5, np.float32)),
    case("value_bool", "y = Pad(x, p, v)", x=np.array([[True, False]]), p=[1, 2, 2, 0], v=np.array(True)),
    case("axes", 'y = Pad<mode="edge">(x, p, , a)', x=(2, 3, 4), p=[1, 2, 0, 3], a=[-1, 0]),
    case("negative", "y = Pad(x, p)", x=(4, 6), p=[-1, 2, 0, -3], oracle="onnxruntime"),
    case("negative_edge", 'y = Pad<mode="edge">(x, p)', x=(4, 6), p=[-1, 2, 3, -3], oracle="onnxruntime"),
    case("channels", "y = Pad(x, p)", x=(1, 3, 4, 5), p=[0, 1, 0, 0, 0, 2, 0, 0]),
    case("nothing", "y = Pad(x, p)", x=(3, 4), p=[0, 0, 0, 0]),
    case("rank_3_conv", "c = Conv(x, w) y = Pad(c, p)", x=(1, 3, 6), w=(16, 3, 2), p=[0, 0, 2, 0, 0, 1]),
    case("crop_pad", "y = CenterCropPad(x, s)", x=(5, 8, 3), s=[7, 6, 3], opset=18),
    case("crop_pad_axes", "y = CenterCropPad<axes=[1,2]>(x, s)", x=(2, 8, 3), s=[5, 4], opset=18),
]  # fmt: skip

MOVEMENT = [
    *(case(f"depth_to_space_{mode.lower()}_{kind}", f'y = DepthToSpace<blocksize=2, mode="{mode}">(x)',
           x=small(kind, 2, 12, 3, 5)) for mode in ("DCR", "CRD") for kind in ("float32", "int8", "float16")),
    case("depth_to_space_3", 'c = Conv(x, w) y = DepthToSpace<blocksize=3, mode="CRD">(c)', x=(1, 4, 5, 6),
         w=(9, 4, 1, 1)),
    *(case(f"space_to_depth_{kind}", "y = SpaceToDepth<blocksize=2>(x)", x=small(kind, 2, 3, 4, 6))
      for kind in ("float32", "int32")),
    case("reverse_time", "y = ReverseSequence<time_axis=0, batch_axis=1>(x, n)", x=(4, 3, 2), n=[4, 2, 1]),
    case("reverse_batch", "y = ReverseSequence<time_axis=1, batch_axis=0>(x, x1)", x=small("int64", 4, 5, 3),
         x1=np.array([1, 2, 5, 0])),
]  # fmt: skip


def points(*shape: int) -> Array:
    return (np.random.default_rng(shape).random(shape) * 2.6 - 1.3).astype(np.float32)


SAMPLING = [
    *(case(f"{mode}_{padding}_{aligned}",
           f'y = GridSample<mode="{mode}", padding_mode="{padding}", align_corners={aligned}>(x, x1)',
           x=(2, 3, 5, 6), x1=points(2, 4, 3, 2))
      for mode in ("linear", "nearest", "cubic") for padding in ("zeros", "border", "reflection")
      for aligned in (0, 1)),
    *(case(f"{mode}_{padding}_{aligned}_3d",
           f'y = GridSample<mode="{mode}", padding_mode="{padding}", align_corners={aligned}>(x, x1)',
           x=(1, 2, 3, 4, 5), x1=points(1, 2, 3, 4, 3))
      for mode in ("linear", "nearest") for padding in ("zeros", "border", "reflection") for aligned in (0, 1)),
    case("bilinear_16", 'y = GridSample<mode="bilinear">(x, x1)', x=(1, 2, 4, 5), x1=points(1, 3, 3, 2), opset=16,
         oracle="onnxruntime"),
    case("no_numbers", "y = GridSample(x, x1)", x=(1, 1, 4, 4),
         x1=np.array([[[[2e30, -2e30], [-2e30, 0], [-5, 5]]]], np.float32)),
    *(case(f"affine_{len(size)}_{aligned}", f"y = AffineGrid<align_corners={aligned}>(x, s)",
           x=(size[0], len(size) - 2, len(size) - 1), s=list(size), opset=20)
      for size in ((2, 3, 4, 5), (1, 2, 3, 4, 5)) for aligned in (0, 1)),
]  # fmt: skip

ROIS = np.array([[0, 0, 9, 9], [2.5, 1, 4, 7.5], [-3, -2, 3, 4], [6, 7, 20, 22], [3, 3, 3, 3]], np.float32)
IMAGES = np.array([0, 1, 1, 0, 1])

REGIONS = [
    *(case(f"align_{mode}_{half}_{ratio}",
           f'y = RoiAlign<mode="{mode}", coordinate_transformation_mode="{half}", sampling_ratio={ratio}, '
           "output_height=3, output_width=2, spatial_scale=0.9>(x, x1, i)",
           x=np.abs(np.random.default_rng(3).standard_normal((2, 3, 10, 11), np.float32)), x1=ROIS, i=IMAGES,
           oracle="onnxruntime")
      for mode in ("avg", "max") for half in ("half_pixel", "output_half_pixel") for ratio in (0, 2)),
    case("align_10", "y = RoiAlign<output_height=2, output_width=2>(x, x1, i)", x=(2, 3, 10, 11), x1=ROIS, i=IMAGES,
         opset=10, oracle="onnxruntime"),
    case("max_pool", "y = MaxRoiPool<pooled_shape=[2,3], spatial_scale=0.7>(x, x1)", x=(2, 3, 10, 11),
         x1=np.concatenate([IMAGES[:, None].astype(np.float32), ROIS], 1), oracle="onnxruntime"),
]  # fmt: skip

FAMILIES = {"resizing": RESIZING, "padding": PADDING, "movement": MOVEMENT, "sampling": SAMPLING, "regions": REGIONS}


@pytest.fixture(scope="module")
def results(start_whole: Start) -> Results:
    return Results(start_whole, FAMILIES)


@pytest.mark.parametrize(
    ("family", "one"), [pytest.param(family, one, id=f"{family}-{one}") for family, cases in FAMILIES.items()
                        for one in cases]
)  # fmt: skip
def test_spatial(family: str, one: Case, results: Results) -> None:
    half = any(value.dtype == np.float16 for value in one.expected.values())
    agree(results.of(family, one), one.expected, 1e-3 if half else 2e-5)
