from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DataType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DT_INVALID: _ClassVar[DataType]
    DT_FLOAT: _ClassVar[DataType]
    DT_UINT8: _ClassVar[DataType]
    DT_HALF: _ClassVar[DataType]
    DT_INT32: _ClassVar[DataType]
    DT_FLOAT16: _ClassVar[DataType]
    DT_BFLOAT16: _ClassVar[DataType]
    DT_INT16: _ClassVar[DataType]
    DT_INT8: _ClassVar[DataType]
    DT_UINT16: _ClassVar[DataType]
    DT_UINT32: _ClassVar[DataType]
    DT_BOOL: _ClassVar[DataType]
DT_INVALID: DataType
DT_FLOAT: DataType
DT_UINT8: DataType
DT_HALF: DataType
DT_INT32: DataType
DT_FLOAT16: DataType
DT_BFLOAT16: DataType
DT_INT16: DataType
DT_INT8: DataType
DT_UINT16: DataType
DT_UINT32: DataType
DT_BOOL: DataType

class MultiNetDef(_message.Message):
    __slots__ = ("version_code", "name", "net_def", "input_tensor", "output_tensor")
    VERSION_CODE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    NET_DEF_FIELD_NUMBER: _ClassVar[int]
    INPUT_TENSOR_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TENSOR_FIELD_NUMBER: _ClassVar[int]
    version_code: int
    name: str
    net_def: _containers.RepeatedCompositeFieldContainer[NetDef]
    input_tensor: _containers.RepeatedScalarFieldContainer[str]
    output_tensor: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, version_code: _Optional[int] = ..., name: _Optional[str] = ..., net_def: _Optional[_Iterable[_Union[NetDef, _Mapping]]] = ..., input_tensor: _Optional[_Iterable[str]] = ..., output_tensor: _Optional[_Iterable[str]] = ...) -> None: ...

class NetDef(_message.Message):
    __slots__ = ("op", "arg", "tensors", "data_type", "name", "data_offset", "data_size", "infer_order", "input_info", "output_info")
    OP_FIELD_NUMBER: _ClassVar[int]
    ARG_FIELD_NUMBER: _ClassVar[int]
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    DATA_TYPE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    DATA_OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_SIZE_FIELD_NUMBER: _ClassVar[int]
    INFER_ORDER_FIELD_NUMBER: _ClassVar[int]
    INPUT_INFO_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_INFO_FIELD_NUMBER: _ClassVar[int]
    op: _containers.RepeatedCompositeFieldContainer[OperatorDef]
    arg: _containers.RepeatedCompositeFieldContainer[Argument]
    tensors: _containers.RepeatedCompositeFieldContainer[ConstTensor]
    data_type: DataType
    name: str
    data_offset: int
    data_size: int
    infer_order: int
    input_info: _containers.RepeatedCompositeFieldContainer[InputOutputInfo]
    output_info: _containers.RepeatedCompositeFieldContainer[InputOutputInfo]
    def __init__(self, op: _Optional[_Iterable[_Union[OperatorDef, _Mapping]]] = ..., arg: _Optional[_Iterable[_Union[Argument, _Mapping]]] = ..., tensors: _Optional[_Iterable[_Union[ConstTensor, _Mapping]]] = ..., data_type: _Optional[_Union[DataType, str]] = ..., name: _Optional[str] = ..., data_offset: _Optional[int] = ..., data_size: _Optional[int] = ..., infer_order: _Optional[int] = ..., input_info: _Optional[_Iterable[_Union[InputOutputInfo, _Mapping]]] = ..., output_info: _Optional[_Iterable[_Union[InputOutputInfo, _Mapping]]] = ...) -> None: ...

class OperatorDef(_message.Message):
    __slots__ = ("input", "output", "name", "type", "device_type", "arg", "output_shape", "output_type", "quantize_info")
    INPUT_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_TYPE_FIELD_NUMBER: _ClassVar[int]
    ARG_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_SHAPE_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TYPE_FIELD_NUMBER: _ClassVar[int]
    QUANTIZE_INFO_FIELD_NUMBER: _ClassVar[int]
    input: _containers.RepeatedScalarFieldContainer[str]
    output: _containers.RepeatedScalarFieldContainer[str]
    name: str
    type: str
    device_type: int
    arg: _containers.RepeatedCompositeFieldContainer[Argument]
    output_shape: _containers.RepeatedCompositeFieldContainer[OutputShape]
    output_type: _containers.RepeatedScalarFieldContainer[DataType]
    quantize_info: _containers.RepeatedCompositeFieldContainer[QuantizeActivationInfo]
    def __init__(self, input: _Optional[_Iterable[str]] = ..., output: _Optional[_Iterable[str]] = ..., name: _Optional[str] = ..., type: _Optional[str] = ..., device_type: _Optional[int] = ..., arg: _Optional[_Iterable[_Union[Argument, _Mapping]]] = ..., output_shape: _Optional[_Iterable[_Union[OutputShape, _Mapping]]] = ..., output_type: _Optional[_Iterable[_Union[DataType, str]]] = ..., quantize_info: _Optional[_Iterable[_Union[QuantizeActivationInfo, _Mapping]]] = ...) -> None: ...

class OutputShape(_message.Message):
    __slots__ = ("dims",)
    DIMS_FIELD_NUMBER: _ClassVar[int]
    dims: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, dims: _Optional[_Iterable[int]] = ...) -> None: ...

class QuantizeActivationInfo(_message.Message):
    __slots__ = ("scale", "zero_point", "minval", "maxval")
    SCALE_FIELD_NUMBER: _ClassVar[int]
    ZERO_POINT_FIELD_NUMBER: _ClassVar[int]
    MINVAL_FIELD_NUMBER: _ClassVar[int]
    MAXVAL_FIELD_NUMBER: _ClassVar[int]
    scale: float
    zero_point: int
    minval: float
    maxval: float
    def __init__(self, scale: _Optional[float] = ..., zero_point: _Optional[int] = ..., minval: _Optional[float] = ..., maxval: _Optional[float] = ...) -> None: ...

class Argument(_message.Message):
    __slots__ = ("name", "f", "i", "s", "floats", "ints")
    NAME_FIELD_NUMBER: _ClassVar[int]
    F_FIELD_NUMBER: _ClassVar[int]
    I_FIELD_NUMBER: _ClassVar[int]
    S_FIELD_NUMBER: _ClassVar[int]
    FLOATS_FIELD_NUMBER: _ClassVar[int]
    INTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    f: float
    i: int
    s: bytes
    floats: _containers.RepeatedScalarFieldContainer[float]
    ints: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, name: _Optional[str] = ..., f: _Optional[float] = ..., i: _Optional[int] = ..., s: _Optional[bytes] = ..., floats: _Optional[_Iterable[float]] = ..., ints: _Optional[_Iterable[int]] = ...) -> None: ...

class ConstTensor(_message.Message):
    __slots__ = ("dims", "data_type", "float_data", "int32_data", "name", "offset", "data_size", "scale", "zero_point", "minval", "maxval", "quantized")
    DIMS_FIELD_NUMBER: _ClassVar[int]
    DATA_TYPE_FIELD_NUMBER: _ClassVar[int]
    FLOAT_DATA_FIELD_NUMBER: _ClassVar[int]
    INT32_DATA_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_SIZE_FIELD_NUMBER: _ClassVar[int]
    SCALE_FIELD_NUMBER: _ClassVar[int]
    ZERO_POINT_FIELD_NUMBER: _ClassVar[int]
    MINVAL_FIELD_NUMBER: _ClassVar[int]
    MAXVAL_FIELD_NUMBER: _ClassVar[int]
    QUANTIZED_FIELD_NUMBER: _ClassVar[int]
    dims: _containers.RepeatedScalarFieldContainer[int]
    data_type: DataType
    float_data: _containers.RepeatedScalarFieldContainer[bytes]
    int32_data: _containers.RepeatedScalarFieldContainer[int]
    name: str
    offset: int
    data_size: int
    scale: float
    zero_point: int
    minval: float
    maxval: float
    quantized: bool
    def __init__(self, dims: _Optional[_Iterable[int]] = ..., data_type: _Optional[_Union[DataType, str]] = ..., float_data: _Optional[_Iterable[bytes]] = ..., int32_data: _Optional[_Iterable[int]] = ..., name: _Optional[str] = ..., offset: _Optional[int] = ..., data_size: _Optional[int] = ..., scale: _Optional[float] = ..., zero_point: _Optional[int] = ..., minval: _Optional[float] = ..., maxval: _Optional[float] = ..., quantized: bool = ...) -> None: ...

class InputOutputInfo(_message.Message):
    __slots__ = ("name", "dims", "data_type", "data_format", "scale", "zero_point", "alias")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DIMS_FIELD_NUMBER: _ClassVar[int]
    DATA_TYPE_FIELD_NUMBER: _ClassVar[int]
    DATA_FORMAT_FIELD_NUMBER: _ClassVar[int]
    SCALE_FIELD_NUMBER: _ClassVar[int]
    ZERO_POINT_FIELD_NUMBER: _ClassVar[int]
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    name: str
    dims: _containers.RepeatedScalarFieldContainer[int]
    data_type: DataType
    data_format: int
    scale: float
    zero_point: int
    alias: str
    def __init__(self, name: _Optional[str] = ..., dims: _Optional[_Iterable[int]] = ..., data_type: _Optional[_Union[DataType, str]] = ..., data_format: _Optional[int] = ..., scale: _Optional[float] = ..., zero_point: _Optional[int] = ..., alias: _Optional[str] = ...) -> None: ...
