"""MACE's operators on shapes, vectors and boxes, read from graphs built here by hand, against NumPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mace_cl.errors import ModelError, UnsupportedError
from mace_cl.frontends.mace import load
from mace_models import Net, run
from support import Array, difference, filled

TOLERANCE = 2e-5


def sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def answer(net: Net, folder: Path, x: Array, *shape: int) -> Array:
    return run(net.save(folder, *shape), x=x)


@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_one_hot(axis: int, tmp_path: Path) -> None:
    """Numbers outside, negative ones and halves turn nothing on."""
    x = np.array([[0, 3, 1], [-1, 4, 1.5]], np.float32)
    place = 2 if axis == -1 else axis
    inside = np.expand_dims(x, place) == np.arange(4).reshape([-1 if one == place else 1 for one in range(3)])
    net = Net(x.shape)
    net.op("OneHot", ["x"], "y", inside.shape, depth=4, on_value=2.5, off_value=-0.5, axis=axis)
    assert difference(answer(net, tmp_path, x, *inside.shape), np.where(inside, 2.5, -0.5)) == 0


@pytest.mark.parametrize("rank", [2, 4])
def test_fill(rank: int, tmp_path: Path) -> None:
    x, shape = filled("x", (2, 3, 4, 5)[-rank:]), (2, 3, 4, 5)[-rank:]
    net = Net(shape)
    net.op(
        "Fill", [net.tensor("s", np.array(shape, np.int32)), net.tensor("v", np.full(1, 1.5, np.float32))], "f", shape
    )
    net.op("Eltwise", ["x", "f"], "y", shape, type=0)
    assert difference(answer(net, tmp_path, x, *shape), x + 1.5) == 0


def test_shape_of_an_image(tmp_path: Path) -> None:
    """In the operator's layout; what is filled by it has the shape that the file tells."""
    x = filled("x", (1, 3, 5, 2))
    net = Net(x.shape)
    net.op("Shape", ["x"], "s", (4,))
    net.op("Fill", ["s", net.tensor("v", np.full(1, 2, np.float32))], "f", x.shape)
    net.op("Eltwise", ["x", "f"], "t", x.shape, type=2)
    net.op("Cast", ["s"], "c", (4,))
    net.op("Reduce", ["t"], "r", (1, 1, 1, 1), reduce_type=4, axis=[1, 2, 3], keepdims=1)
    net.op("Reshape", ["r"], "q", (1,))
    net.op("Eltwise", ["c", "q"], "y", (4,), type=0)
    assert difference(answer(net, tmp_path, x, 4), np.array(x.shape) + 2 * x.sum()) <= TOLERANCE


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize(("shape", "axis"), [((3, 7), -1), ((2, 3, 4), 1), ((2, 3, 4, 5), 1)])
def test_lp_norm(shape: tuple[int, ...], axis: int, p: int, tmp_path: Path) -> None:
    x = filled("x", shape)
    axes = tuple(range(axis % len(shape), len(shape)))
    norm = (np.abs(x) ** p).sum(axes, keepdims=True) ** (1 / p)
    net = Net(shape)
    net.op("LpNorm", ["x"], "y", shape, p=p, axis=axis)
    assert difference(answer(net, tmp_path, x, *shape), x / (norm + 1e-6)) <= TOLERANCE


@pytest.mark.parametrize("p", [0, 1, 2])
def test_p_norm(p: int, tmp_path: Path) -> None:
    x = filled("x", (2, 3, 12))
    x[0, 0, :5] = 0
    groups = np.abs(x.reshape(2, 3, 4, 3))
    expected = (groups > 0).sum(-1) if p == 0 else (groups**p).sum(-1) ** (1 / p)
    net = Net(x.shape)
    net.op("PNorm", ["x"], "y", (2, 3, 4), p=p, output_dim=4)
    assert difference(answer(net, tmp_path, x, 2, 3, 4), expected) <= TOLERANCE


@pytest.mark.parametrize("log", [0, 1])
@pytest.mark.parametrize("block", [0, 4])
def test_target_rms_norm(block: int, log: int, tmp_path: Path) -> None:
    x = filled("x", (3, 12))
    x[1, :4] = 0
    rows = x.reshape(3, -1, block or 12)
    square = np.maximum((rows**2).mean(-1, keepdims=True) / 0.25, 1e-6)
    expected = rows / np.sqrt(square)
    if log:
        expected = np.concatenate([expected, np.log(0.5) + np.log(square) / 2], -1)
    expected = expected.reshape(3, -1)
    net = Net(x.shape)
    net.op("TargetRMSNorm", ["x"], "y", expected.shape, target_rms=0.5, block_dim=block, add_log_stddev=log)
    assert difference(answer(net, tmp_path, x, *expected.shape), expected) <= TOLERANCE


def test_lstm_cell(tmp_path: Path) -> None:
    x, w, b = filled("x", (2, 5)), filled("w", (8, 12)), filled("b", (12,))
    h, c = filled("h", (2, 3)), filled("c", (2, 3))
    net = Net(x.shape)
    net.op(
        "LSTMCell",
        ["x", *(net.tensor(name, one) for name, one in zip("hwbc", (h, w, b, c), strict=True))],
        "cell",
        (2, 3),
        scalar_input=0.75,
    )
    net.net.op[-1].output.append("out")
    net.net.op[-1].output_shape.add(dims=(2, 3))
    net.op("Concat", ["cell", "out"], "y", (2, 6), axis=1)
    enters, new, forgets, leaves = np.split(np.concatenate([x, h], 1) @ w + b, 4, 1)
    cell = sigmoid(enters) * np.tanh(new) + sigmoid(forgets + 0.75) * c
    expected = np.concatenate([cell, sigmoid(leaves) * np.tanh(cell)], 1)
    assert difference(answer(net, tmp_path, x, 2, 6), expected) <= TOLERANCE


PRIOR: dict[str, Any] = {
    "min_size": [9.0, 12.0],
    "max_size": [15.0, 20.0],
    "aspect_ratio": [1.0, 2.0, 0.5],
    "variance": [0.1, 0.1, 0.2, 0.3],
}


def priors(cells: tuple[int, int], image: tuple[int, int], step: float, clip: bool) -> Array:
    """``prior_box.cc``, one by one."""
    boxes = []
    steps = [step or whole / part for whole, part in zip(image, cells, strict=True)]
    for row in range(cells[0]):
        for column in range(cells[1]):
            y, x = (row + 0.5) * steps[0], (column + 0.5) * steps[1]
            for least, most in zip(PRIOR["min_size"], PRIOR["max_size"], strict=True):
                middle = np.sqrt(least * most)
                turned = [(least * ratio**0.5, least / ratio**0.5) for ratio in (2.0, 0.5)]
                for w, h in ((least, least), (middle, middle), *turned):
                    boxes.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
    found = np.array(boxes) / [image[1], image[0], image[1], image[0]]
    found = found.clip(0, 1) if clip else found
    return np.stack([found.reshape(-1), np.tile(PRIOR["variance"], len(found))])[None].astype(np.float32)


@pytest.mark.parametrize(("step", "clip"), [(0.0, 0), (7.0, 1)])
def test_prior_box(step: float, clip: int, tmp_path: Path) -> None:
    """Sizes of features and image are those of NCHW, whatever the layout of the file."""
    x = filled("x", (1, 24, 36, 3))
    net = Net(x.shape)
    net.op("Pooling", ["x"], "p", (1, 4, 6, 3), pooling_type=2, kernels=[6, 6], strides=[6, 6], padding=0)
    expected = priors((4, 6), (24, 36), step, bool(clip))
    net.op("PriorBox", ["p", "x"], "y", expected.shape, clip=clip, offset=0.5, step_h=step, step_w=step, **PRIOR)
    assert difference(answer(net, tmp_path, x, *expected.shape), expected) <= 1e-6


def overlap(a: Array, b: Array) -> float:
    both = float(np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0)))
    return both / (float(np.prod(a[2:] - a[:2])) + float(np.prod(b[2:] - b[:2])) - both)


def detections(places: Array, scores: Array, prior: Array, top: int, keep: int) -> Array:
    """``detection_output.cc``: confidence 0.3, overlap 0.45, ordered by score."""
    base, variance = prior[0, 0].reshape(-1, 4), prior[0, 1].reshape(-1, 4)
    moved = places.reshape(-1, 4) * variance
    size, centre = base[:, 2:] - base[:, :2], (base[:, 2:] + base[:, :2]) / 2
    middle, half = moved[:, :2] * size + centre, np.exp(moved[:, 2:]) * size / 2
    boxes, found = np.concatenate([middle - half, middle + half], 1), []
    for label in range(1, scores.shape[1]):
        kept: list[int] = []
        for i in [i for i in np.argsort(-scores[:, label]) if scores[i, label] > 0.3][:top]:
            if all(overlap(boxes[i], boxes[j]) <= 0.45 for j in kept):
                kept.append(i)
        found += [(0, label, scores[i, label], *boxes[i]) for i in kept]
    found.sort(key=lambda row: -row[2])
    return np.array(found[:keep], np.float32).reshape(1, 1, -1, 7)


@pytest.mark.parametrize(("top", "keep"), [(400, 200), (9, 200), (400, 7)])
def test_detection_output(top: int, keep: int, tmp_path: Path) -> None:
    prior = priors((4, 4), (40, 40), 0.0, False)
    count, classes = prior.shape[2] // 4, 4
    places = filled("places", (1, count * 4)) * np.float32(0.3)
    net = Net((1, count * classes))
    names = [net.tensor("places", places), "x", net.tensor("prior", prior)]
    net.op(
        "DetectionOutput",
        names,
        "y",
        (1, 1, keep, 7),
        num_classes=classes,
        nms_threshold=0.45,
        nms_top_k=top,
        keep_top_k=keep,
        confidence_threshold=0.3,
    )
    path = net.save(tmp_path, 1, 1, keep, 7)
    likely = np.exp(filled("scores", (count, classes)) * 2)
    likely /= likely.sum(1, keepdims=True)
    for scores in (likely, likely * np.float32(0.1)):
        expected = detections(places[0], scores, prior, top, keep)
        got = run(path, x=scores.reshape(1, -1))
        assert got.shape == expected.shape
        assert not expected.size or difference(got, expected) <= TOLERANCE


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        ("OneHot", {"depth": 0}, "the depth 0"),
        ("OneHot", {"depth": 1 << 40}, "the depth 1099511627776"),
        ("OneHot", {"depth": 4, "axis": 5}, "the axis 5 of 3"),
        ("LpNorm", {"p": 3}, "the p 3"),
        ("LpNorm", {"axis": 2}, "the axis 2 of 2"),
        ("PNorm", {"output_dim": 5}, "makes 5 of 12"),
        ("TargetRMSNorm", {"block_dim": 5}, "blocks of 5 in 12"),
        ("TargetRMSNorm", {"target_rms": float("nan")}, "has nan for target_rms"),
        ("LSTMCell", {}, "contradicts itself|needs 2 inputs"),
        ("PriorBox", {}, "needs 2 inputs"),
        ("DetectionOutput", {}, "needs 2 inputs"),
    ],
)
def test_wrong(kind: str, arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    net = Net((3, 12))
    net.op(kind, ["x"], "y", (3, 12), **arguments)
    with pytest.raises(ModelError, match=f"net.pb.*'{kind}/y'.*({message})"):
        load(net.save(tmp_path, 3, 12), {})


def test_fill_of_too_much(tmp_path: Path) -> None:
    """A few bytes do not ask for gigabytes."""
    net = Net((1,))
    sizes = net.tensor("s", np.array([1 << 14, 1 << 16], np.int32))
    net.op("Fill", [sizes, net.tensor("v", np.ones(1, np.float32))], "y", (1 << 14, 1 << 16))
    with pytest.raises(ModelError, match=r"'Fill/y'.*fills the shape \[16384, 65536\]"):
        load(net.save(tmp_path, 1 << 14, 1 << 16), {})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"min_size": [-1.0, 2.0]}, "min_size -1"),
        ({"max_size": [10.0]}, "not as many max_size"),
        ({"aspect_ratio": [2.0]}, "one must be 1"),
        ({"variance": [0.1]}, "1 variances"),
        ({"min_size": [float("inf")]}, "for min_size"),
    ],
)
def test_wrong_priors(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    net = Net((1, 8, 8, 3))
    net.op("PriorBox", ["x", "x"], "y", (1, 2, 1), **(PRIOR | changes))
    with pytest.raises(ModelError, match=f"'PriorBox/y'.*{message}"):
        load(net.save(tmp_path, 1, 2, 1), {})


@pytest.mark.parametrize("kind", ["LpNorm", "PNorm", "TargetRMSNorm"])
def test_rows_of_an_image(kind: str, tmp_path: Path) -> None:
    """Which axis is the last one differs between MACE's devices."""
    net = Net((1, 8, 8, 4))
    net.op(kind, ["x"], "y", (1, 8, 8, 4), axis=3, output_dim=2)
    with pytest.raises(UnsupportedError, match=rf"'{kind}/y' \({kind}\): "):
        load(net.save(tmp_path, 1, 8, 8, 4), {})
