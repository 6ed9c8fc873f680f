"""MACE's operators that make images larger or smaller."""

from __future__ import annotations

from mace_cl.frontends.mace.step import Mapper, Step

__all__ = ["OPS"]


def _resize(at: Step) -> None:
    n, channels, *sizes = at.shape(layout="NCHW")
    kind = {"ResizeBilinear": "linear", "ResizeNearestNeighbor": "nearest", "ResizeBicubic": "cubic"}[
        at.definition.type
    ]
    given = at.arguments.get("size")
    if given is None and at.has(1):
        given = at.constant(1).reshape(-1).astype(int).tolist()
    if given is None or min(given) <= 0:
        factors = [float(at.arguments.get(name, 0)) for name in ("height_scale", "width_scale")]
        given = [int(size * factor) for size, factor in zip(sizes, factors, strict=True)]
    at.need(len(given) == 2 and min(given) > 0, f"makes the size {given}")
    mode = int(at.arguments.get("coordinate_transformation_mode", 0))
    where = {1: "half_pixel", 2: "pytorch_half_pixel"}.get(mode, "asymmetric")
    if at.arguments.get("half_pixel_centers"):
        where = "half_pixel"
    corners = bool(at.arguments.get("align_corners")) and mode == 0
    nearest = {"nearest_mode": "round_prefer_ceil" if corners else "floor"} if kind == "nearest" else {}
    full = [n, channels, *given]
    value = at.op(
        "Resize", at.value(layout="NCHW"), None, None, full, mode=kind,
        coordinate_transformation_mode="align_corners" if corners else where, **nearest,
    )  # fmt: skip
    at.image(value, full)


OPS: dict[str, Mapper] = {
    "ResizeBicubic": _resize,
    "ResizeBilinear": _resize,
    "ResizeNearestNeighbor": _resize,
}
