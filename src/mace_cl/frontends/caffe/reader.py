"""Caffe's networks: a ``.prototxt`` with its ``.caffemodel``, or a ``.caffemodel`` that holds its own network.

The network is read as Caffe runs it in the phase TEST: layers of training and their inputs fall away, a blob that
several layers write in place is the last one's under its own name.  All shapes are static, as Caffe's are; `load`
can give inputs others.  Source: BVLC's ``caffe.proto``, ``net.cpp`` and ``upgrade_proto.cpp``.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from google.protobuf import text_format
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from mace_cl.errors import InputError, ModelError, UnsupportedError
from mace_cl.frontends.caffe import caffe_pb2 as pb
from mace_cl.frontends.caffe.layers import LAYERS
from mace_cl.frontends.caffe.step import Blob, LacksError, Step
from mace_cl.frontends.formats import caffe_partner, sniff_caffe
from mace_cl.frontends.graphs import GraphBuilder

__all__ = ["load"]

MAX_TEXT = 1 << 24
"""Bytes of a .prototxt; the largest that are known have half a million."""
MAX_ELEMENTS = 1 << 31
_SHOWN = 8

_V1_NAMES = {
    "ABSVAL": "AbsVal", "ARGMAX": "ArgMax", "BNLL": "BNLL", "HDF5_DATA": "HDF5Data", "HDF5_OUTPUT": "HDF5Output",
    "LRN": "LRN", "MVN": "MVN", "RELU": "ReLU", "SOFTMAX_LOSS": "SoftmaxWithLoss", "TANH": "TanH",
}  # fmt: skip
_TRAINING = {"Accuracy", "DetectionEvaluate", "HDF5Output", "Silence", "SoftmaxWithLoss"}
_SOURCES = {
    "AnnotatedData", "Data", "DummyData", "HDF5Data", "ImageData", "Input", "MemoryData", "VideoData", "WindowData",
}  # fmt: skip
_HARMLESS = {
    "annotated_data_param", "bias_filler", "blob_share_mode", "blobs_lr", "data_param", "debug_info", "dropout_param",
    "engine", "filler", "force_backward", "hdf5_data_param", "image_data_param", "loss_param", "loss_weight",
    "moving_average_fraction", "param", "propagate_down", "save_output_param", "scale_filler", "scale_train",
    "stable_prod_grad", "state", "transform_param", "weight_decay", "weight_filler", "window_data_param",
}  # fmt: skip
"""Fields that say nothing about inference."""

_TOKENS = re.compile(
    r"#[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'"
    r"|(?P<open>[A-Za-z_]\w*)\s*:?\s*[{<]|(?P<leaf>[A-Za-z_]\w*)\s*:|(?P<close>[}>])"
)

logger = logging.getLogger("mace_cl")


def load(source: Path | bytes, shapes: Mapping[str, Sequence[int]], weights: Path | None = None) -> ir.Model:
    """Read a network and its weights.

    Args:
        source: the .prototxt, or the .caffemodel; the other is the file of the same name beside it, or the only
            one there.  A .caffemodel without a .prototxt must hold the network itself.
        shapes: shapes of inputs in place of the network's.
        weights: the .caffemodel, where it lies elsewhere.

    Raises:
        ModelError: a file is not Caffe's, is damaged or missing, or the network contradicts itself or its weights.
        UnsupportedError: layers without a mapping, all of them.
        InputError: ``shapes`` names no input or does not fit it, or an input has no shape.
    """
    name = str(source) if isinstance(source, Path) else f"model of {len(source)} bytes"
    data = source.read_bytes() if isinstance(source, Path) else source
    if sniff_caffe(memoryview(data)):
        text = caffe_partner(source) if isinstance(source, Path) and weights is None else None
        net = _binary(pb.Net, data, name) if text is None else _text(text.read_bytes(), str(text))
        blobs = _blobs(data, name)
        if text is None and not any(layer.bottom or layer.top for layer in _layers(net)):
            raise ModelError(f"{name}: holds weights but no network; put its .prototxt beside it")
    else:
        net = _text(data, name)
        weights = weights or (caffe_partner(source) if isinstance(source, Path) else None)
        if weights is None:
            raise ModelError(
                f"{name}: is a network without weights; put its .caffemodel beside it, under the same name or as the "
                "only one"
            )
        blobs = _blobs(weights.read_bytes(), str(weights))
    return _Reader(net, blobs, shapes, name).model()


def _binary(kind: Any, data: bytes, name: str) -> Any:
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise ModelError(
            f"{name}: not a .caffemodel, or truncated ({error}); check that it was copied whole"
        ) from error


def _text(data: bytes, name: str) -> pb.Net:
    """A .prototxt; fields that are not known here are skipped, and named in the log."""
    if len(data) > MAX_TEXT:
        raise ModelError(f"{name}: a .prototxt of {len(data)} bytes, more than {MAX_TEXT}; is it one?")
    net = pb.Net()
    try:
        text = data.decode()
        text_format.Parse(text, net, allow_unknown_field=True)
    except (text_format.ParseError, UnicodeDecodeError, ValueError) as error:
        raise ModelError(f"{name}: not a Caffe network ({error}); check it with Caffe, or copy it anew") from error
    except RecursionError as error:
        raise ModelError(f"{name}: its messages are nested too deeply to be a Caffe network") from error
    unknown = sorted(set(_unknown(text)))
    if unknown:
        logger.warning("%s: fields that are not known here were skipped: %s", name, ", ".join(unknown[:_SHOWN]))
    return net


def _unknown(text: str) -> Iterator[str]:
    """The names of fields that `pb.Net` does not have and that may matter, with the message that they are in."""
    stack: list[Any] = [pb.Net.DESCRIPTOR]
    for found in _TOKENS.finditer(text):
        name = found["open"] or found["leaf"]
        inside = stack[-1]
        field = inside.fields_by_name.get(name) if inside and name else None
        if name and inside and field is None and name not in _HARMLESS:
            yield f"{inside.name}.{name}"
        if found["open"]:
            stack.append(field.message_type if field else None)
        elif found["close"] and len(stack) > 1:
            stack.pop()


def _blobs(data: bytes, name: str) -> dict[str, list[pb.Blob]]:
    """The blobs of each layer that has any, by its name."""
    found = _binary(pb.Weights, data, name)
    layers = [*found.layers, *found.layer]
    if not layers:
        raise ModelError(f"{name}: holds no layers; give the .caffemodel that was trained")
    return {str(layer.name): list(layer.blobs) for layer in layers if layer.blobs}


def _array(blob: pb.Blob) -> NDArray[np.float32]:
    """A blob's values.

    Raises:
        ValueError: they are fewer or more than its shape asks for.
    """
    shape = list(blob.shape.dim)
    if not blob.HasField("shape"):
        shape = [blob.num, blob.channels, blob.height, blob.width]
    if blob.raw_data:
        if blob.raw_data_type > 2:
            raise ValueError(f"its values are of type {blob.raw_data_type}, which is not known")
        kind, data = ("<f8", "<f4", "<f2")[blob.raw_data_type], blob.raw_data
    elif blob.double_data:
        kind, data = "<f8", b"".join(blob.double_data)
    else:
        kind, data = "<f4", b"".join(blob.data)
    needed = math.prod(shape) * np.dtype(kind).itemsize
    if min(shape, default=0) < 0 or len(data) != needed:
        raise ValueError(f"the shape {shape} needs {needed} bytes of values, but there are {len(data)}")
    return np.frombuffer(data, kind).reshape(shape).astype(np.float32, copy=False)


def _layers(net: pb.Net) -> list[pb.Layer]:
    """The layers, older ones turned into newer."""
    if not net.layers:
        return list(net.layer)
    upgraded = []
    for old in net.layers:
        layer = pb.Layer(name=old.name, bottom=old.bottom, top=old.top)
        word = pb.V1Layer.LayerType.Name(old.type)
        layer.type = _V1_NAMES.get(word, word.title().replace("_", ""))
        layer.include.extend(old.include)
        layer.exclude.extend(old.exclude)
        for field, value in old.ListFields():
            if field.name.endswith("_param"):
                getattr(layer, field.name).CopyFrom(value)
        upgraded.append(layer)
    return upgraded


def _in_test(layer: pb.Layer) -> bool:
    """Whether Caffe has the layer in the phase TEST, at level 0 and in no stage."""
    if layer.include:
        return any(_meets(rule) for rule in layer.include)
    return not any(_meets(rule) for rule in layer.exclude)


def _meets(rule: pb.NetStateRule) -> bool:
    return (
        (not rule.HasField("phase") or rule.phase == pb.TEST)
        and rule.min_level <= 0
        and (not rule.HasField("max_level") or rule.max_level >= 0)
        and not rule.stage
    )


class _Reader:
    """The road from layers to a graph; a blob that maps to None can't be had at inference, or not here."""

    def __init__(
        self, net: pb.Net, weights: Mapping[str, list[pb.Blob]], shapes: Mapping[str, Sequence[int]], name: str
    ) -> None:
        self.layers = [layer for layer in _layers(net) if _in_test(layer) and not self._trains(layer)]
        self.net, self.weights, self.shapes, self.name = net, weights, dict(shapes), name
        self.graph = GraphBuilder(str(net.name) or "caffe")
        self.blobs: dict[str, Blob | None] = {}
        self.used: set[str] = set()
        self.lacking: list[str] = []

    @staticmethod
    def _trains(layer: pb.Layer) -> bool:
        return layer.type in _TRAINING or str(layer.type).endswith("Loss")

    def model(self) -> ir.Model:
        """The whole network."""
        last = {top: number for number, layer in enumerate(self.layers) for top in layer.top}
        made: dict[str, None] = {}
        for name, shape in self._declared():
            self._input(name, shape)
        for number, layer in enumerate(self.layers):
            if layer.type in _SOURCES:
                self._source(layer)
                continue
            names = [top if last[top] == number else f"{top}/{layer.name}" for top in layer.top]
            self._layer(layer, names)
            made |= dict.fromkeys(layer.top)
        if self.lacking:
            more = f"; and {len(self.lacking) - _SHOWN} more" if len(self.lacking) > _SHOWN else ""
            raise UnsupportedError(
                f"{self.name}: {'; '.join(self.lacking[:_SHOWN])}{more}: mace-cl can't read these layers. Replace "
                "them in the network, cut the network before them, or export it as ONNX"
            )
        unknown = sorted(set(self.shapes) - {str(value.name) for value in self.graph.inputs})
        if unknown:
            inputs = [value.name for value in self.graph.inputs]
            raise InputError(f"{self.name}: shapes given for {unknown}, but the inputs are {inputs}")
        ends = {top: self.blobs[top] for top in made if top not in self.used}
        outputs = {top: blob.value for top, blob in ends.items() if blob is not None}
        if not outputs:
            raise ModelError(f"{self.name}: the network has no output in the phase TEST; is it one for training?")
        return self.graph.model(outputs, "Caffe")

    def _declared(self) -> Iterator[tuple[str, list[int]]]:
        """The inputs that stand before the layers, as networks of before 2016 have them."""
        for number, name in enumerate(self.net.input):
            if len(self.net.input_shape) > number:
                yield name, list(self.net.input_shape[number].dim)
            else:
                yield name, list(self.net.input_dim[4 * number : 4 * number + 4])

    def _source(self, layer: pb.Layer) -> None:
        """A layer that brings data: its first blob is an input, the others, labels, are not there at inference."""
        shapes: list[list[int]] = []
        if layer.type == "Input":
            shapes = [list(shape.dim) for shape in layer.input_param.shape]
        elif layer.type == "DummyData":
            dummy = layer.dummy_data_param
            old = zip(dummy.num, dummy.channels, dummy.height, dummy.width, strict=False)
            shapes = [list(shape.dim) for shape in dummy.shape] or [list(one) for one in old]
        elif layer.type == "MemoryData":
            memory = layer.memory_data_param
            shapes = [[memory.batch_size, memory.channels, memory.height, memory.width]]
        several = layer.type in ("DummyData", "Input")
        for number, top in enumerate(layer.top):
            if number and not several:
                self.blobs[top] = None
            else:
                self._input(top, shapes[min(number, len(shapes) - 1)] if shapes else [])

    def _input(self, name: str, shape: list[int]) -> None:
        given = self.shapes.get(name)
        if given is not None:
            if shape and len(given) != len(shape):
                raise InputError(f"{self.name}: shape {tuple(given)} does not fit input {name!r} of shape {shape}")
            shape = list(given)
        if not shape:
            raise InputError(
                f"{self.name}: input {name!r} has no shape; give one (shapes={{{name!r}: (1, 3, 224, 224)}}, or "
                f"--shape {name}=1,3,224,224)"
            )
        self._check(f"input {name!r}", shape)
        self.blobs[name] = Blob(self.graph.input(name, ir.DataType.FLOAT, shape), tuple(shape))

    def _check(self, what: str, shape: Sequence[int]) -> None:
        if any(size < 1 for size in shape) or math.prod(shape) >= MAX_ELEMENTS:
            raise ModelError(
                f"{self.name}: {what} has the shape {list(shape)}; each size must be at least 1, and the elements "
                f"fewer than {MAX_ELEMENTS}"
            )

    def _layer(self, layer: pb.Layer, names: list[str]) -> None:
        where = f"layer {layer.name!r} ({layer.type})"
        missing = [bottom for bottom in layer.bottom if bottom not in self.blobs]
        if missing:
            raise ModelError(f"{self.name}: {where} reads {missing[0]!r}, which no layer before it writes")
        bottoms = [self.blobs[bottom] for bottom in layer.bottom]
        known = [bottom for bottom in bottoms if bottom is not None]
        convert = LAYERS.get(layer.type)
        found: list[Blob] = []
        if convert is None:
            self.lacking.append(where)
        elif len(known) == len(bottoms):
            try:
                blobs = [_array(blob) for blob in self.weights.get(layer.name, ())]
                step = Step(self.graph, layer, known, blobs, names)
                convert(step)
                found = step.tops
            except LacksError as error:
                self.lacking.append(f"{where}: {error}")
            except ModelError as error:
                raise ModelError(f"{self.name}: {error}") from error
            except (ArithmeticError, LookupError, TypeError, ValueError) as error:
                raise ModelError(
                    f"{self.name}: {where} contradicts itself, its input or its weights: {error}"
                ) from error
            for top, blob in zip(layer.top, found, strict=False):
                self._check(f"{where}, output {top!r},", blob.shape)
            self.used.update(layer.bottom)
        # in place: what is written now has not been read yet
        self.used.difference_update(layer.top)
        for number, top in enumerate(layer.top):
            self.blobs[top] = found[number] if found else None
