"""Nodes that move what is there as MACE's operators."""

from __future__ import annotations

import numpy as np

from mace_cl.export.mace.graph import TO_NHWC, nhwc_axis, perm_of
from mace_cl.export.mace.node import Mapper, Node
from mace_cl.graph import array_of

__all__ = ["NODES"]


def _identity(at: Node) -> None:
    at.alias(at.value())


def _concat(at: Node) -> None:
    rank = len(at.shape())
    axis = nhwc_axis(int(at.get("axis")) % rank, rank)
    at.end("Concat", [at.tensor(place) for place in range(len(at.node.inputs))], axis=axis)


def _split(at: Node) -> None:
    shape, outputs = at.shape(), at.node.outputs
    axis = int(at.get("axis", 0)) % len(shape)
    at.need(shape[axis] % len(outputs) == 0, "uneven pieces")
    at.need(len({at.writer.shape(one) for one in outputs}) == 1, "uneven pieces")
    full = at.writer.shape(outputs[0])
    op = at.writer.operator(
        "Split", [at.tensor()], str(outputs[0].name), at.name, full, axis=nhwc_axis(axis, len(shape)),
        num_split=len(outputs),
    )  # fmt: skip
    for other in outputs[1:]:
        op.output.append(str(other.name))
        op.output_shape.add(dims=op.output_shape[0].dims)


def _reshape(at: Node) -> None:
    shape = at.writer.shape(at.out)
    if _shuffled(at):
        return
    readers = [node for node, _ in at.out.uses()]
    if len(at.shape()) == 4 and len(shape) == 2 and readers and at.out not in at.writer.outputs:
        matrices = [array_of(node.inputs[1]) for node in readers if node.op_type in ("Gemm", "MatMul")]
        if len(matrices) == len(readers) and all(matrix is not None and matrix.ndim == 2 for matrix in matrices):
            return  # FullyConnected reads the image itself
    at.end("Reshape", [at.tensor(), at.store(np.array(shape), "shape")], image=False)


def _shuffled(at: Node) -> bool:
    """A shuffle of channels: [N, C, H, W] as [N, g, C/g, H, W], turned, and back."""
    shape, wide = at.shape(), at.writer.shape(at.out)
    if len(shape) != 4 or len(wide) != 5 or wide[0] != shape[0] or wide[3:] != shape[2:] or len(at.out.uses()) != 1:
        return False
    turn = next(iter(at.out.uses()))[0]
    if perm_of(turn) != (0, 2, 1, 3, 4) or len(turn.outputs[0].uses()) != 1:
        return False
    back = next(iter(turn.outputs[0].uses()))[0]
    if back.op_type != "Reshape" or at.writer.shape(back.outputs[0]) != shape:
        return False
    at.writer.done |= {turn, back}
    output = str(back.outputs[0].name)
    at.writer.operator("ChannelShuffle", [at.tensor()], output, at.name, shape, group=wide[1])
    return True


def _transpose(at: Node) -> None:
    perm, rank = perm_of(at.node), len(at.shape())
    perm = perm or tuple(reversed(range(rank)))
    if perm == TO_NHWC and at.out in at.writer.outputs and not at.out.uses():
        source = at.value()
        made = source.producer()
        # the operator before may be the only one to write what is put out: its output takes the name
        if made is not None and len(source.uses()) == 1 and source not in at.writer.outputs:
            old, new = at.writer.tensor(source), str(at.out.name)
            for op in at.writer.net.op:
                for place, name in enumerate(op.output):
                    if name == old:
                        op.output[place] = new
                        at.writer.turned.add(at.out)
                        return
    at.end("Transpose", [at.tensor()], image=False, dims=list(perm))


def _slice(at: Node) -> None:
    shape = at.shape()
    starts, ends = (at.known(place, "a limit").astype(int).tolist() for place in (1, 2))
    axes = at.known(3, "an axis").astype(int).tolist() if at.has(3) else list(range(len(starts)))
    steps = at.known(4, "a step").astype(int).tolist() if at.has(4) else [1] * len(starts)
    at.need(min(steps) > 0, "goes backwards")
    full = [slice(None)] * len(shape)
    for axis, begin, end, step in zip(axes, starts, ends, steps, strict=True):
        full[axis % len(shape)] = slice(begin, end, step)
    ranges = [range(size)[part] for size, part in zip(shape, full, strict=True)]
    words = ("begin", "end", "strides")
    numbers = ([one.start for one in ranges], [one.stop for one in ranges], [one.step for one in ranges])
    stored = [at.store(np.array(one), word) for one, word in zip(numbers, words, strict=True)]
    at.end("StridedSlice", [at.tensor(), *stored], image=False)


def _gather(at: Node) -> None:
    index = at.known(1, "its index")
    axis = int(at.get("axis", 0)) % len(at.shape())
    if index.ndim == 0:
        shape = at.shape()
        place = int(index) % shape[axis]
        begin, end = [0] * len(shape), list(shape)
        begin[axis], end[axis] = place, place + 1
        limits = zip((begin, end, [1] * len(shape)), ("begin", "end", "strides"), strict=True)
        stored = [at.store(np.array(one), word) for one, word in limits]
        at.end("StridedSlice", [at.tensor(), *stored], image=False, shrink_axis_mask=1 << axis)
        return
    at.end("Gather", [at.tensor(), at.store(index % at.shape()[axis], "index")], image=False, axis=axis)


def _tile(at: Node) -> None:
    at.end("Tile", [at.tensor(), at.store(at.known(1, "its repeats"), "repeats")], image=False)


def _pad(at: Node) -> None:
    shape, mode = at.shape(), at.get("mode", "constant")
    pads = [int(one) for one in at.known(1, "its pads").reshape(-1)]
    at.need(len(shape) == 4 and len(pads) == 8 and min(pads) >= 0 and not at.has(3), f"the pads {pads}")
    at.need(mode in ("constant", "reflect"), f"the mode {mode}")
    order = TO_NHWC
    paddings = [one for axis in order for one in (pads[axis], pads[axis + 4])]
    fill = float(at.known(2, "its value").reshape(-1)[0]) if at.has(2) else 0.0
    at.end("Pad", [at.tensor()], paddings=paddings, constant_value=fill, pad_type=0 if mode == "constant" else 1)


def _depth_to_space(at: Node) -> None:
    at.need(at.get("mode", "DCR") == "DCR", "the mode CRD")
    at.end(at.node.op_type, [at.tensor()], block_size=int(at.get("blocksize")))


NODES: dict[str, Mapper] = {
    "Concat": _concat,
    "DepthToSpace": _depth_to_space,
    "Dropout": _identity,
    "Flatten": _reshape,
    "Gather": _gather,
    "Identity": _identity,
    "Pad": _pad,
    "Reshape": _reshape,
    "Slice": _slice,
    "SpaceToDepth": _depth_to_space,
    "Split": _split,
    "Squeeze": _reshape,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _reshape,
}
