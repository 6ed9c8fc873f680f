"""mace-cl as an ONNX backend: ``prepare``, ``run_model``, ``run_node``, ``supports_device``.

The interface is that of ``onnx.backend.base`` (https://onnx.ai/onnx/api/backend.html).  Kernels are compiled in
this process and kept nowhere; to keep them, use `mace_cl.Runtime`.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx.backend.base import Backend, BackendRep, namedtupledict

from mace_cl.compiler import prepare as lowered
from mace_cl.device import find
from mace_cl.device.device import Device
from mace_cl.errors import DeviceError, InputError
from mace_cl.frontends.parameters import parameter_inputs
from mace_cl.runtime.build import build_here
from mace_cl.runtime.executor import Executor
from mace_cl.schedule import Place, places

__all__ = ["MaceClBackend", "PreparedModel", "prepare", "run_model", "run_node", "supports_device"]

_DEVICES = {"CPU": None, "CUDA": "gpu"}
"""ONNX's device types as device specifications; "CPU" is the best OpenCL device there is."""


class PreparedModel(BackendRep):
    """A model on an OpenCL device; compiled for each set of shapes and parameters that it meets."""

    def __init__(self, model: onnx.ModelProto, device: Device) -> None:
        self._model, self._device = model, device
        constants = {tensor.name for tensor in model.graph.initializer}
        self._inputs = [port.name for port in model.graph.input if port.name not in constants]
        self._outputs = [port.name for port in model.graph.output]
        self._parameters = parameter_inputs(ir.serde.deserialize_model(model))
        self._tuple = namedtupledict("Outputs", self._outputs)
        self._executors: dict[Hashable, Executor] = {}

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """The outputs in the model's order; inputs are a mapping by name, a sequence, or one array.

        Raises:
            InputError: their number, a name, dtype or shape does not fit.
            ModelError, UnsupportedError: the model can't be read, or has parts that do not run.
            BuildError: the device refuses a kernel.
        """
        given = _by_name(inputs, self._inputs)
        values = {name: np.asarray(given[name]) for name in self._parameters if name in given}
        rest = {name: x for name, x in given.items() if name not in values}
        executor = self._executor(values, {name: np.shape(x) for name, x in rest.items() if isinstance(x, np.ndarray)})
        outputs = executor.run(rest)
        return self._tuple(*(outputs[name] for name in self._outputs))

    def where(self) -> tuple[Place, ...]:
        """Where each node ran, in all variants together."""
        return tuple(place for executor in self._executors.values() for place in places(executor.schedule))

    def _executor(self, values: dict[str, NDArray[Any]], shapes: dict[str, tuple[int, ...]]) -> Executor:
        key = tuple((name, x.dtype.str, x.shape, x.tobytes()) for name, x in values.items()), tuple(shapes.items())
        if key not in self._executors:
            prepared = lowered(self._model.SerializeToString(), self._device, shapes, values=values)
            context, programs = build_here(self._device, prepared.schedule)
            self._executors[key] = Executor(self._device, context, prepared.schedule, programs, prepared.constants)
        return self._executors[key]


def _by_name(inputs: Any, names: Sequence[str]) -> Mapping[str, Any]:
    if isinstance(inputs, Mapping):
        return inputs
    values = [inputs] if isinstance(inputs, np.ndarray) else list(inputs)
    if len(values) != len(names):
        raise InputError(f"{len(values)} inputs given, but the model takes {len(names)}: {', '.join(names)}")
    return dict(zip(names, values, strict=True))


class MaceClBackend(Backend):
    """See the module; ``device`` is "CPU", "CUDA" or a specification as `mace_cl.device.find` reads it."""

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> PreparedModel:
        """The model for a device; it is compiled when it is run.

        Raises:
            DeviceError: there is no such device.
        """
        return PreparedModel(model, _device(device))

    @classmethod
    def run_model(cls, model: onnx.ModelProto, inputs: Any, device: str = "CPU", **kwargs: Any) -> tuple[Any, ...]:
        """One inference of a model; raises as `prepare` and `PreparedModel.run`."""
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def run_node(
        cls,
        node: onnx.NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[np.dtype[Any], tuple[int, ...]]] | None = None,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """One node; ``opset_version`` is that of the node's domain, by default the newest that onnx knows."""
        names = [name for name in node.input if name]
        values: dict[str, NDArray[Any]] = {name: np.asarray(value) for name, value in _by_name(inputs, names).items()}
        opset = kwargs.pop("opset_version", onnx.defs.onnx_opset_version())
        make = onnx.helper.make_tensor_value_info
        graph = onnx.helper.make_graph(
            [node],
            "node",
            [make(name, onnx.helper.np_dtype_to_tensor_dtype(x.dtype), x.shape) for name, x in values.items()],
            [onnx.ValueInfoProto(name=name) for name in node.output if name],
        )
        imports = [onnx.helper.make_opsetid(node.domain, opset)]
        model = onnx.shape_inference.infer_shapes(onnx.helper.make_model(graph, opset_imports=imports))
        return cls.run_model(model, values, device, **kwargs)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether there is a usable OpenCL device of that kind."""
        try:
            _device(device)
        except DeviceError:
            return False
        return True


def _device(device: str) -> Device:
    kind = device.split(":")[0]
    return find(_DEVICES.get(kind, device))


prepare = MaceClBackend.prepare
run_model = MaceClBackend.run_model
run_node = MaceClBackend.run_node
supports_device = MaceClBackend.supports_device
