"""What a .tflite file holds: subgraphs of operators over tensors.  Slots are those of TensorFlow's ``schema.fbs``."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from mace_cl.errors import UnsupportedError
from mace_cl.frontends.tflite.flatbuffer import Buffer, Table
from mace_cl.wire import damaged

__all__ = ["OPERATORS", "TYPES", "Grid", "Operator", "Subgraph", "Tensor", "read"]

OPERATORS = (
    "ADD", "AVERAGE_POOL_2D", "CONCATENATION", "CONV_2D", "DEPTHWISE_CONV_2D", "DEPTH_TO_SPACE", "DEQUANTIZE",
    "EMBEDDING_LOOKUP", "FLOOR", "FULLY_CONNECTED", "HASHTABLE_LOOKUP", "L2_NORMALIZATION", "L2_POOL_2D",
    "LOCAL_RESPONSE_NORMALIZATION", "LOGISTIC", "LSH_PROJECTION", "LSTM", "MAX_POOL_2D", "MUL", "RELU",
    "RELU_N1_TO_1", "RELU6", "RESHAPE", "RESIZE_BILINEAR", "RNN", "SOFTMAX", "SPACE_TO_DEPTH", "SVDF", "TANH",
    "CONCAT_EMBEDDINGS", "SKIP_GRAM", "CALL", "CUSTOM", "EMBEDDING_LOOKUP_SPARSE", "PAD",
    "UNIDIRECTIONAL_SEQUENCE_RNN", "GATHER", "BATCH_TO_SPACE_ND", "SPACE_TO_BATCH_ND", "TRANSPOSE", "MEAN", "SUB",
    "DIV", "SQUEEZE", "UNIDIRECTIONAL_SEQUENCE_LSTM", "STRIDED_SLICE", "BIDIRECTIONAL_SEQUENCE_RNN", "EXP", "TOPK_V2",
    "SPLIT", "LOG_SOFTMAX", "DELEGATE", "BIDIRECTIONAL_SEQUENCE_LSTM", "CAST", "PRELU", "MAXIMUM", "ARG_MAX",
    "MINIMUM", "LESS", "NEG", "PADV2", "GREATER", "GREATER_EQUAL", "LESS_EQUAL", "SELECT", "SLICE", "SIN",
    "TRANSPOSE_CONV", "SPARSE_TO_DENSE", "TILE", "EXPAND_DIMS", "EQUAL", "NOT_EQUAL", "LOG", "SUM", "SQRT", "RSQRT",
    "SHAPE", "POW", "ARG_MIN", "FAKE_QUANT", "REDUCE_PROD", "REDUCE_MAX", "PACK", "LOGICAL_OR", "ONE_HOT",
    "LOGICAL_AND", "LOGICAL_NOT", "UNPACK", "REDUCE_MIN", "FLOOR_DIV", "REDUCE_ANY", "SQUARE", "ZEROS_LIKE", "FILL",
    "FLOOR_MOD", "RANGE", "RESIZE_NEAREST_NEIGHBOR", "LEAKY_RELU", "SQUARED_DIFFERENCE", "MIRROR_PAD", "ABS",
    "SPLIT_V", "UNIQUE", "CEIL", "REVERSE_V2", "ADD_N", "GATHER_ND", "COS", "WHERE", "RANK", "ELU",
    "REVERSE_SEQUENCE", "MATRIX_DIAG", "QUANTIZE", "MATRIX_SET_DIAG", "ROUND", "HARD_SWISH", "IF", "WHILE",
    "NON_MAX_SUPPRESSION_V4", "NON_MAX_SUPPRESSION_V5", "SCATTER_ND", "SELECT_V2", "DENSIFY", "SEGMENT_SUM",
    "BATCH_MATMUL", "PLACEHOLDER", "CUMSUM", "CALL_ONCE", "BROADCAST_TO", "RFFT2D", "CONV_3D", "IMAG", "REAL",
    "COMPLEX_ABS", "HASHTABLE", "HASHTABLE_FIND", "HASHTABLE_IMPORT", "HASHTABLE_SIZE", "REDUCE_ALL",
    "CONV_3D_TRANSPOSE", "VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "BROADCAST_ARGS", "RANDOM_STANDARD_NORMAL",
    "BUCKETIZE", "RANDOM_UNIFORM", "MULTINOMIAL", "GELU", "DYNAMIC_UPDATE_SLICE", "RELU_0_TO_1",
    "UNSORTED_SEGMENT_PROD", "UNSORTED_SEGMENT_MAX", "UNSORTED_SEGMENT_SUM", "ATAN2", "UNSORTED_SEGMENT_MIN", "SIGN",
    "BITCAST", "BITWISE_XOR", "RIGHT_SHIFT",
)  # fmt: skip
"""Names of the built-in operators by their code; those after are StableHLO's."""

TYPES: tuple[Any, ...] = (
    np.float32, np.float16, np.int32, np.uint8, np.int64, None, np.bool_, np.int16, np.complex64, np.int8, np.float64,
    np.complex128, np.uint64, None, None, np.uint32, np.uint16, ml_dtypes.int4, ml_dtypes.bfloat16,
)  # fmt: skip
"""NumPy's type for each type of tensor; None for strings, resources and variants."""

_GRIDDED = (np.int8, np.uint8, np.int16, np.int32, np.int64, ml_dtypes.int4)
_MOST_ELEMENTS = 1 << 40
_VERSION = 3


@dataclass(frozen=True)
class Grid:
    """Quantisation: real = ``scales`` × (stored − ``zeros``), one number of each, or one for each index of ``axis``."""

    scales: tuple[float, ...]
    zeros: tuple[int, ...]
    axis: int

    @property
    def per_axis(self) -> bool:
        return len(self.scales) > 1


@dataclass(frozen=True)
class Tensor:
    """A tensor: ``shape`` as in the file, None for unknown sizes in ``signature``; ``data`` if it is a constant."""

    name: str
    dtype: Any
    shape: tuple[int, ...]
    signature: tuple[int | None, ...]
    grid: Grid | None
    data: NDArray[Any] | None
    variable: bool
    sparsity: Table | None

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def quantised(self) -> bool:
        """Whether it stands for real numbers on a grid."""
        return self.grid is not None and self.dtype in _GRIDDED


@dataclass(frozen=True)
class Operator:
    """An operator: tensors by index, -1 for an optional input that is not given; ``name`` is its custom code if any."""

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Table | None
    custom: bytes
    layer: str = field(compare=False)

    def option(self, slot: int, form: str = "i", default: Any = 0) -> Any:
        """A number from its options."""
        return self.options.number(slot, form, default) if self.options is not None else default


@dataclass(frozen=True)
class Subgraph:
    """Operators in the order of their execution."""

    name: str
    tensors: tuple[Tensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operators: tuple[Operator, ...]


def read(view: memoryview, name: str) -> list[Subgraph]:
    """All subgraphs of the file with the content ``view``; the first is the model.

    Raises:
        DamagedError: not a TensorFlow Lite model, truncated, or it contradicts itself; says where.
        UnsupportedError: another version of the format.
    """
    return _Reader(view, name).subgraphs()


class _Reader:
    def __init__(self, view: memoryview, name: str) -> None:
        self.view, self.name = view, name
        if bytes(view[4:8]) != b"TFL3":
            raise damaged("the model", 4, "the mark TFL3 is missing")
        self.model = Buffer(view).root()
        version = self.model.number(0, "I")
        if version != _VERSION:
            raise UnsupportedError(f"{name}: version {version} of TensorFlow Lite's format; mace-cl reads {_VERSION}")
        self.buffers = self.model.tables(4)
        self.codes = [self._code(code) for code in self.model.tables(1)]

    def subgraphs(self) -> list[Subgraph]:
        found = [self._subgraph(table) for table in self.model.tables(2)]
        if not found:
            raise damaged("the model", 0, "it has no subgraph")
        return found

    def _code(self, code: Table) -> str:
        number = max(code.number(0, "b"), code.number(3, "i"))
        if not 0 <= number < len(OPERATORS):
            return f"operator {number}"
        return code.text(1) if OPERATORS[number] == "CUSTOM" else OPERATORS[number]

    def _subgraph(self, table: Table) -> Subgraph:
        tensors = tuple(map(self._tensor, table.tables(0)))
        inputs, outputs = (self._indices(table, slot, len(tensors), 0) for slot in (1, 2))
        operators = tuple(self._operator(one, tensors) for one in table.tables(3))
        made = {index for operator in operators for index in operator.outputs}
        given = {index for index, one in enumerate(tensors) if one.data is not None or one.variable or not one.size}
        known = {-1, *inputs, *(given - made)}
        for operator in operators:
            for index in operator.inputs:
                if index not in known:
                    raise damaged(
                        "the model", table.at, f"the operator {operator.layer!r} reads the tensor "
                        f"{tensors[index].name!r} before it is made: the graph has a cycle, or no order",
                    )  # fmt: skip
            for index in operator.outputs:
                if index in known:
                    raise damaged("the model", table.at, f"the tensor {tensors[index].name!r} is made twice")
            known.update(operator.outputs)
        for index in outputs:
            if index not in known:
                raise damaged("the model", table.at, f"the output {tensors[index].name!r} is never made")
        return Subgraph(table.text(4), tensors, inputs, outputs, operators)

    def _indices(self, table: Table, slot: int, count: int, least: int) -> tuple[int, ...]:
        found = tuple(table.numbers(slot))
        wrong = [index for index in found if not least <= index < count]
        if wrong:
            raise damaged("the model", table.at, f"there is no tensor {wrong[0]} among {count}")
        return found

    def _operator(self, table: Table, tensors: tuple[Tensor, ...]) -> Operator:
        code = table.number(0, "I")
        if code >= len(self.codes):
            raise damaged("the model", table.at, f"there is no operator code {code} among {len(self.codes)}")
        outputs = self._indices(table, 2, len(tensors), 0)
        layer = tensors[outputs[0]].name if outputs else self.codes[code]
        inputs = self._indices(table, 1, len(tensors), -1)
        options = table.table(4) or table.table(12)
        return Operator(self.codes[code], inputs, outputs, options, table.array(5, "u1").tobytes(), layer)

    def _tensor(self, table: Table) -> Tensor:
        shape, name = tuple(table.numbers(0)), table.text(3) or "tensor"
        signature = tuple(table.numbers(7)) or shape
        if len(signature) != len(shape) or any(size < 0 for size in shape) or math.prod(shape) > _MOST_ELEMENTS:
            raise damaged("the model", table.at, f"the tensor {name!r} has the shape {shape}")
        code = table.number(1, "b")
        if not 0 <= code < len(TYPES):
            raise damaged("the model", table.at, f"the tensor {name!r} has the unknown type {code}")
        return Tensor(
            name=name,
            dtype=TYPES[code],
            shape=shape,
            signature=tuple(None if size < 0 else size for size in signature),
            grid=self._grid(table.table(4), shape, name),
            data=self._data(table, name),
            variable=bool(table.number(5, "b")),
            sparsity=table.table(6),
        )

    def _grid(self, table: Table | None, shape: tuple[int, ...], name: str) -> Grid | None:
        if table is None:
            return None
        scales, zeros = table.numbers(2, "<f4"), table.numbers(3, "<i8")
        if not scales:
            return None
        zeros = zeros or [0] * len(scales)
        axis = table.number(6)
        fits = len(scales) == len(zeros) and all(math.isfinite(scale) and scale >= 0 for scale in scales)
        if len(scales) > 1:
            fits &= 0 <= axis < len(shape) and shape[axis] == len(scales)
        if not fits:
            raise damaged("the model", table.at, f"the quantisation of {name!r} does not fit its shape {shape}")
        return Grid(tuple(scales), tuple(zeros), axis)

    def _data(self, table: Table, name: str) -> NDArray[Any] | None:
        index = table.number(2, "I")
        if index >= len(self.buffers):
            raise damaged("the model", table.at, f"the tensor {name!r} lies in the missing buffer {index}")
        buffer = self.buffers[index]
        offset, size = buffer.number(1, "Q"), buffer.number(2, "Q")
        if offset > 1:  # outside the table, where models of more than 2 GB have them
            if offset + size > len(self.view):
                raise damaged("the model", table.at, f"the weights of {name!r} are cut off")
            return np.frombuffer(self.view, np.uint8, size, offset)
        found = buffer.array(0, "u1")
        return found if found.size else None
