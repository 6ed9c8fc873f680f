"""The parts of a model that ONNX Runtime runs on the host, beside the kernels.

ONNX Runtime is imported where a schedule has such parts, and nowhere else.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mace_cl.errors import BuildError, HostError, UnsupportedError
from mace_cl.schedule import CPU, ITEM_BYTES, HostStep, Node, Port

__all__ = ["HostPart", "onnxruntime_module", "provider_name", "refusal", "require", "share"]


def refusal(nodes: Iterable[Node]) -> UnsupportedError:
    """What is raised where nothing may run on the host: all nodes that would have to, each with the reason."""
    found = [node for node in nodes if node.reason]
    return UnsupportedError(
        f"OpenCL lacks {_listed(found)}. Allow the host to run them (--runtime gpu+cpu, Runtime(fallback=True)), "
        "replace them in the model, or ask for the op at the project's issue tracker",
        {node.name: node.reason for node in found},
    )


def _listed(nodes: Sequence[Node]) -> str:
    named = "; ".join(f"{node.name} ({node.op}): {node.reason}" for node in nodes)
    return f"{len(nodes)} node{'s' if len(nodes) != 1 else ''} of this model: {named}"


def onnxruntime_module() -> Any:
    """The package, without its telemetry."""
    # ONNX Runtime notes on the disk that it was used unless it is told not to before it is imported
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime


def _installed() -> bool:
    from importlib.util import find_spec

    return find_spec("onnxruntime") is not None


def require(providers: Iterable[str], nodes: Iterable[Node] = ()) -> None:
    """Make sure that ONNX Runtime is there, with these providers.

    Raises:
        HostError: it is not, or it lacks one of them.
    """
    wanted = sorted(set(providers))
    if not wanted:
        return
    if not _installed():
        needed = _listed([node for node in nodes if node.reason])
        raise HostError(
            f"onnxruntime is not installed; it runs on the host what OpenCL lacks: {needed}. "
            "Install it: pip install 'mace-cl[ort]'"
        )
    have = onnxruntime_module().get_available_providers()
    for name in wanted:
        if name not in have:
            raise HostError(
                f"this onnxruntime {onnxruntime_module().__version__} has no {name}; it has {', '.join(have)}. "
                "Install a build of it that has, or name one of these (--provider)"
            )


def provider_name(text: str | None) -> str:
    """ONNX Runtime's name of a provider; by default that of its CPU provider.  ``"qnn"`` is short for QNN's.

    Raises:
        HostError: onnxruntime is missing, or no provider is called so.
    """
    if text is None:
        return CPU
    require([CPU])
    wanted = text.lower().removesuffix("executionprovider")
    names = {name.lower().removesuffix("executionprovider"): name for name in onnxruntime_module().get_all_providers()}
    if wanted not in names:
        raise HostError(f"ONNX Runtime knows no provider {text!r}; it knows {', '.join(sorted(names))}")
    return str(names[wanted])


def share(model: bytes, constants: Mapping[str, NDArray[Any]], provider: str) -> set[str]:
    """The names of the nodes that a provider takes of a model.

    Raises:
        HostError: the provider is missing, or this ONNX Runtime does not tell.
        BuildError: it refuses the model.
    """
    require([provider])
    ort = onnxruntime_module()
    if not hasattr(ort.InferenceSession, "get_provider_graph_assignment_info"):
        raise HostError(
            f"onnxruntime {ort.__version__} can't tell what {provider} takes of a model; update it, or give it all "
            "(--runtime cpu)"
        )
    options = _options()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    session = _session(model, constants, provider, options, "the whole model")
    parts = session.get_provider_graph_assignment_info()
    return {node.name for part in parts if part.ep_name == provider for node in part.get_nodes()}


def inferred(model: bytes, constants: Mapping[str, NDArray[Any]]) -> dict[str, tuple[str, tuple[int, ...] | None]]:
    """Type and shape of each output of a model as ONNX Runtime infers them; nothing where it can't.

    Types are NumPy's names, ``""`` where there is none; a shape that is not static is None.
    """
    if not _installed():
        return {}
    options = _options()
    options.graph_optimization_level = onnxruntime_module().GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        outputs = _session(model, constants, CPU, options, "the whole model").get_outputs()
    except BuildError:
        return {}
    found = {}
    for one in outputs:
        static = one.type.startswith("tensor(") and all(isinstance(size, int) for size in one.shape)
        kind = one.type.removeprefix("tensor(").removesuffix(")")
        dtype = {"float": "float32", "double": "float64"}.get(kind, kind)
        found[one.name] = (dtype if dtype in ITEM_BYTES else "", tuple(one.shape) if static else None)
    return found


def _options() -> Any:
    options = onnxruntime_module().SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = _processors()
    # threads that spin take the processor from the kernels that run before and after
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _session(model: bytes, constants: Mapping[str, NDArray[Any]], provider: str, options: Any, what: str) -> Any:
    ort = onnxruntime_module()
    try:
        if constants:
            values = [ort.OrtValue.ortvalue_from_numpy(array) for array in constants.values()]
            options.add_external_initializers(list(constants), values)
        return ort.InferenceSession(model, options, [provider] if provider == CPU else [provider, CPU])
    except Exception as error:  # ONNX Runtime's exceptions have no common base but this
        raise BuildError(
            f"ONNX Runtime {ort.__version__} refuses the part of the model that runs on the host ({what}): {error}. "
            "Update onnxruntime, or replace these nodes in the model"
        ) from error


class HostPart:
    """A host step, ready to run; ``constants`` are the schedule's, handed over where they lie.

    ONNX Runtime 1.31 copies them.

    Raises:
        BuildError: ONNX Runtime refuses the sub-model.
    """

    def __init__(self, step: HostStep, constants: NDArray[np.uint8]) -> None:
        self.step = step
        views = {port.name: _view(port, constants) for port in step.constants}
        self._session = _session(bytes(step.model), views, step.provider, _options(), step.node)
        self._inputs = [one.name for one in self._session.get_inputs()]
        self._outputs = [one.name for one in self._session.get_outputs()]
        if (len(self._inputs), len(self._outputs)) != (len(step.inputs), len(step.outputs)):
            raise BuildError(
                f"the part of the model that runs on the host ({step.node}) takes {len(self._inputs)} inputs and gives "
                f"{len(self._outputs)} outputs, not {len(step.inputs)} and {len(step.outputs)}; compile the model again"
            )

    def run(self, values: Sequence[Any]) -> list[Any]:
        """The outputs, in their order, for the inputs in theirs: arrays, or what ONNX Runtime has for the type.

        Raises:
            HostError: ONNX Runtime failed, or an output is not what the schedule has room for.
        """
        try:
            found: list[Any] = self._session.run(self._outputs, dict(zip(self._inputs, values, strict=True)))
        except Exception as error:  # as above
            raise HostError(
                f"the part of the model that runs on the host ({self.step.node}) failed: {error}. "
                "Check the inputs' values; if ONNX Runtime runs the whole model, please report this"
            ) from error
        for port, value in zip(self.step.outputs, found, strict=True):
            if port.slot is not None and (str(value.dtype), value.shape) != (port.dtype, port.shape):
                raise HostError(
                    f"the host gave {port.name!r} as {value.dtype} {list(value.shape)} ({self.step.node}), not as "
                    f"{port}; the model contradicts itself"
                )
        return found


def _view(port: Port, constants: NDArray[np.uint8]) -> NDArray[Any]:
    assert port.slot is not None
    assert port.shape is not None
    size = prod(port.shape) * np.dtype(port.dtype).itemsize
    return constants[port.slot.offset : port.slot.offset + size].view(port.dtype).reshape(port.shape)


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
