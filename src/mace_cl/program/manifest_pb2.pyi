from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    KIND_UNSPECIFIED: _ClassVar[Kind]
    KIND_SOURCE: _ClassVar[Kind]
    KIND_BINARY: _ClassVar[Kind]
    KIND_CONSTANTS: _ClassVar[Kind]
    KIND_GOLDEN: _ClassVar[Kind]
    KIND_HOST: _ClassVar[Kind]

class Space(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SPACE_UNSPECIFIED: _ClassVar[Space]
    SPACE_ARENA: _ClassVar[Space]
    SPACE_CONSTANTS: _ClassVar[Space]
KIND_UNSPECIFIED: Kind
KIND_SOURCE: Kind
KIND_BINARY: Kind
KIND_CONSTANTS: Kind
KIND_GOLDEN: Kind
KIND_HOST: Kind
SPACE_UNSPECIFIED: Space
SPACE_ARENA: Space
SPACE_CONSTANTS: Space

class Manifest(_message.Message):
    __slots__ = ("producer", "engine", "model", "options", "requires", "sections", "targets", "key", "inputs")
    PRODUCER_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    REQUIRES_FIELD_NUMBER: _ClassVar[int]
    SECTIONS_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    producer: str
    engine: str
    model: Model
    options: _containers.RepeatedCompositeFieldContainer[Pair]
    requires: _containers.RepeatedScalarFieldContainer[str]
    sections: _containers.RepeatedCompositeFieldContainer[Section]
    targets: _containers.RepeatedCompositeFieldContainer[Target]
    key: str
    inputs: _containers.RepeatedCompositeFieldContainer[Input]
    def __init__(self, producer: _Optional[str] = ..., engine: _Optional[str] = ..., model: _Optional[_Union[Model, _Mapping]] = ..., options: _Optional[_Iterable[_Union[Pair, _Mapping]]] = ..., requires: _Optional[_Iterable[str]] = ..., sections: _Optional[_Iterable[_Union[Section, _Mapping]]] = ..., targets: _Optional[_Iterable[_Union[Target, _Mapping]]] = ..., key: _Optional[str] = ..., inputs: _Optional[_Iterable[_Union[Input, _Mapping]]] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("name", "sha256")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    name: str
    sha256: str
    def __init__(self, name: _Optional[str] = ..., sha256: _Optional[str] = ...) -> None: ...

class Input(_message.Message):
    __slots__ = ("name", "dtype", "shape", "open", "parameter")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    PARAMETER_FIELD_NUMBER: _ClassVar[int]
    name: str
    dtype: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    open: bool
    parameter: bool
    def __init__(self, name: _Optional[str] = ..., dtype: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ..., open: bool = ..., parameter: bool = ...) -> None: ...

class Value(_message.Message):
    __slots__ = ("name", "dtype", "shape", "data")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    name: str
    dtype: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    data: bytes
    def __init__(self, name: _Optional[str] = ..., dtype: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ..., data: _Optional[bytes] = ...) -> None: ...

class Pair(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: str
    def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class Section(_message.Message):
    __slots__ = ("kind", "offset", "length", "crc32", "sha256", "nonce")
    KIND_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    CRC32_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    kind: Kind
    offset: int
    length: int
    crc32: int
    sha256: str
    nonce: bytes
    def __init__(self, kind: _Optional[_Union[Kind, str]] = ..., offset: _Optional[int] = ..., length: _Optional[int] = ..., crc32: _Optional[int] = ..., sha256: _Optional[str] = ..., nonce: _Optional[bytes] = ...) -> None: ...

class Target(_message.Message):
    __slots__ = ("signature", "schedule", "units", "constants", "provenance", "golden", "values")
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    SCHEDULE_FIELD_NUMBER: _ClassVar[int]
    UNITS_FIELD_NUMBER: _ClassVar[int]
    CONSTANTS_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    GOLDEN_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    signature: Signature
    schedule: Schedule
    units: _containers.RepeatedCompositeFieldContainer[Unit]
    constants: int
    provenance: _containers.RepeatedCompositeFieldContainer[Pair]
    golden: _containers.RepeatedCompositeFieldContainer[Golden]
    values: _containers.RepeatedCompositeFieldContainer[Value]
    def __init__(self, signature: _Optional[_Union[Signature, _Mapping]] = ..., schedule: _Optional[_Union[Schedule, _Mapping]] = ..., units: _Optional[_Iterable[_Union[Unit, _Mapping]]] = ..., constants: _Optional[int] = ..., provenance: _Optional[_Iterable[_Union[Pair, _Mapping]]] = ..., golden: _Optional[_Iterable[_Union[Golden, _Mapping]]] = ..., values: _Optional[_Iterable[_Union[Value, _Mapping]]] = ...) -> None: ...

class Golden(_message.Message):
    __slots__ = ("output", "values")
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    output: str
    values: int
    def __init__(self, output: _Optional[str] = ..., values: _Optional[int] = ...) -> None: ...

class Signature(_message.Message):
    __slots__ = ("vendor", "device", "driver", "platform", "platform_version", "device_version", "c_version", "properties")
    VENDOR_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    DRIVER_FIELD_NUMBER: _ClassVar[int]
    PLATFORM_FIELD_NUMBER: _ClassVar[int]
    PLATFORM_VERSION_FIELD_NUMBER: _ClassVar[int]
    DEVICE_VERSION_FIELD_NUMBER: _ClassVar[int]
    C_VERSION_FIELD_NUMBER: _ClassVar[int]
    PROPERTIES_FIELD_NUMBER: _ClassVar[int]
    vendor: str
    device: str
    driver: str
    platform: str
    platform_version: str
    device_version: str
    c_version: str
    properties: _containers.RepeatedCompositeFieldContainer[Pair]
    def __init__(self, vendor: _Optional[str] = ..., device: _Optional[str] = ..., driver: _Optional[str] = ..., platform: _Optional[str] = ..., platform_version: _Optional[str] = ..., device_version: _Optional[str] = ..., c_version: _Optional[str] = ..., properties: _Optional[_Iterable[_Union[Pair, _Mapping]]] = ...) -> None: ...

class Unit(_message.Message):
    __slots__ = ("kernels", "binary", "safe", "bond")
    KERNELS_FIELD_NUMBER: _ClassVar[int]
    BINARY_FIELD_NUMBER: _ClassVar[int]
    SAFE_FIELD_NUMBER: _ClassVar[int]
    BOND_FIELD_NUMBER: _ClassVar[int]
    kernels: _containers.RepeatedScalarFieldContainer[int]
    binary: int
    safe: bool
    bond: bytes
    def __init__(self, kernels: _Optional[_Iterable[int]] = ..., binary: _Optional[int] = ..., safe: bool = ..., bond: _Optional[bytes] = ...) -> None: ...

class Schedule(_message.Message):
    __slots__ = ("arena_bytes", "constant_bytes", "build_options", "inputs", "outputs", "kernels", "slots", "launches", "hosts", "nodes", "shares")
    ARENA_BYTES_FIELD_NUMBER: _ClassVar[int]
    CONSTANT_BYTES_FIELD_NUMBER: _ClassVar[int]
    BUILD_OPTIONS_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    KERNELS_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    LAUNCHES_FIELD_NUMBER: _ClassVar[int]
    HOSTS_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    SHARES_FIELD_NUMBER: _ClassVar[int]
    arena_bytes: int
    constant_bytes: int
    build_options: str
    inputs: _containers.RepeatedCompositeFieldContainer[Port]
    outputs: _containers.RepeatedCompositeFieldContainer[Port]
    kernels: _containers.RepeatedCompositeFieldContainer[Kernel]
    slots: _containers.RepeatedCompositeFieldContainer[Slot]
    launches: _containers.RepeatedCompositeFieldContainer[Launch]
    hosts: _containers.RepeatedCompositeFieldContainer[HostStep]
    nodes: _containers.RepeatedCompositeFieldContainer[Node]
    shares: int
    def __init__(self, arena_bytes: _Optional[int] = ..., constant_bytes: _Optional[int] = ..., build_options: _Optional[str] = ..., inputs: _Optional[_Iterable[_Union[Port, _Mapping]]] = ..., outputs: _Optional[_Iterable[_Union[Port, _Mapping]]] = ..., kernels: _Optional[_Iterable[_Union[Kernel, _Mapping]]] = ..., slots: _Optional[_Iterable[_Union[Slot, _Mapping]]] = ..., launches: _Optional[_Iterable[_Union[Launch, _Mapping]]] = ..., hosts: _Optional[_Iterable[_Union[HostStep, _Mapping]]] = ..., nodes: _Optional[_Iterable[_Union[Node, _Mapping]]] = ..., shares: _Optional[int] = ...) -> None: ...

class Slot(_message.Message):
    __slots__ = ("space", "offset", "size")
    SPACE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    space: Space
    offset: int
    size: int
    def __init__(self, space: _Optional[_Union[Space, str]] = ..., offset: _Optional[int] = ..., size: _Optional[int] = ...) -> None: ...

class Port(_message.Message):
    __slots__ = ("name", "dtype", "shape", "slot", "host", "open")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    name: str
    dtype: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    slot: int
    host: bool
    open: bool
    def __init__(self, name: _Optional[str] = ..., dtype: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ..., slot: _Optional[int] = ..., host: bool = ..., open: bool = ...) -> None: ...

class Kernel(_message.Message):
    __slots__ = ("name", "family", "source", "parameters", "images")
    NAME_FIELD_NUMBER: _ClassVar[int]
    FAMILY_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    name: str
    family: str
    source: int
    parameters: _containers.RepeatedCompositeFieldContainer[Parameter]
    images: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, name: _Optional[str] = ..., family: _Optional[str] = ..., source: _Optional[int] = ..., parameters: _Optional[_Iterable[_Union[Parameter, _Mapping]]] = ..., images: _Optional[_Iterable[int]] = ...) -> None: ...

class Parameter(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: int
    def __init__(self, name: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...

class Launch(_message.Message):
    __slots__ = ("kernel", "global_size", "local_size", "args", "node", "flops")
    KERNEL_FIELD_NUMBER: _ClassVar[int]
    GLOBAL_SIZE_FIELD_NUMBER: _ClassVar[int]
    LOCAL_SIZE_FIELD_NUMBER: _ClassVar[int]
    ARGS_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    FLOPS_FIELD_NUMBER: _ClassVar[int]
    kernel: int
    global_size: _containers.RepeatedScalarFieldContainer[int]
    local_size: _containers.RepeatedScalarFieldContainer[int]
    args: _containers.RepeatedScalarFieldContainer[int]
    node: str
    flops: int
    def __init__(self, kernel: _Optional[int] = ..., global_size: _Optional[_Iterable[int]] = ..., local_size: _Optional[_Iterable[int]] = ..., args: _Optional[_Iterable[int]] = ..., node: _Optional[str] = ..., flops: _Optional[int] = ...) -> None: ...

class HostStep(_message.Message):
    __slots__ = ("at", "provider", "model", "inputs", "outputs", "constants", "node")
    AT_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    CONSTANTS_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    at: int
    provider: str
    model: int
    inputs: _containers.RepeatedCompositeFieldContainer[Port]
    outputs: _containers.RepeatedCompositeFieldContainer[Port]
    constants: _containers.RepeatedCompositeFieldContainer[Port]
    node: str
    def __init__(self, at: _Optional[int] = ..., provider: _Optional[str] = ..., model: _Optional[int] = ..., inputs: _Optional[_Iterable[_Union[Port, _Mapping]]] = ..., outputs: _Optional[_Iterable[_Union[Port, _Mapping]]] = ..., constants: _Optional[_Iterable[_Union[Port, _Mapping]]] = ..., node: _Optional[str] = ...) -> None: ...

class Node(_message.Message):
    __slots__ = ("name", "op", "reason")
    NAME_FIELD_NUMBER: _ClassVar[int]
    OP_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    name: str
    op: str
    reason: str
    def __init__(self, name: _Optional[str] = ..., op: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...
