"""The parts of a model that ONNX Runtime runs on the host, beside the kernels.

ONNX Runtime is imported where a schedule has such parts, and nowhere else.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mace_cl.errors import BuildError, HostError, UnsupportedError
from mace_cl.schedule import HostStep, Node, Port

__all__ = ["CPU", "HostPart", "refusal", "require"]

CPU = "CPUExecutionProvider"


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


def _onnxruntime() -> Any:
    # ONNX Runtime notes on the disk that it was used unless it is told not to before it is imported
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime


def require(providers: Iterable[str], nodes: Iterable[Node] = ()) -> None:
    """Make sure that ONNX Runtime is there, with these providers.

    Raises:
        HostError: it is not, or it lacks one of them.
    """
    wanted = sorted(set(providers))
    if not wanted:
        return
    if importlib.util.find_spec("onnxruntime") is None:
        needed = _listed([node for node in nodes if node.reason])
        raise HostError(
            f"onnxruntime is not installed; it runs on the host what OpenCL lacks: {needed}. "
            "Install it: pip install 'mace-cl[ort]'"
        )
    have = _onnxruntime().get_available_providers()
    for name in wanted:
        if name not in have:
            raise HostError(
                f"this onnxruntime {_onnxruntime().__version__} has no {name}; it has {', '.join(have)}. "
                "Install a build of it that has, or name one of these (--provider)"
            )


class HostPart:
    """A host step, ready to run; ``constants`` are the schedule's, and are used where they lie.

    Raises:
        BuildError: ONNX Runtime refuses the sub-model.
    """

    def __init__(self, step: HostStep, constants: NDArray[np.uint8]) -> None:
        ort = _onnxruntime()
        self.step = step
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = _processors()
        # threads that spin take the processor from the kernels that run before and after
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        views = [_view(port, constants) for port in step.constants]
        self._keep = [ort.OrtValue.ortvalue_from_numpy(view) for view in views]
        try:
            if views:
                options.add_external_initializers([port.name for port in step.constants], self._keep)
            providers = [step.provider] if step.provider == CPU else [step.provider, CPU]
            self._session = ort.InferenceSession(bytes(step.model), options, providers)
            self._inputs = [one.name for one in self._session.get_inputs()]
            self._outputs = [one.name for one in self._session.get_outputs()]
        except Exception as error:  # ONNX Runtime's exceptions have no common base but this
            raise BuildError(
                f"ONNX Runtime {ort.__version__} refuses the part of the model that runs on the host ({step.node}): "
                f"{error}. Update onnxruntime, or replace these nodes in the model"
            ) from error
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
    size = int(np.prod(port.shape)) * np.dtype(port.dtype).itemsize
    return constants[port.slot.offset : port.slot.offset + size].view(port.dtype).reshape(port.shape)


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
