"""What the keys of a deployment file do here, and for those that do nothing, why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mace_cl.deploy.deployment import Deployment, Graph

__all__ = ["WITHOUT_EFFECT", "exact", "file_notes", "notes", "responsive", "runtime"]

_TYPES = "models run in the types that they have, and quantised ones are read as they are"
_ACCELERATOR = "accelerators are reached with --provider"
WITHOUT_EFFECT: dict[str, tuple[Any, str]] = {
    "accelerator_api": (None, _ACCELERATOR),
    "accuracy_validation_script": (None, "code that a file names is not run; `mace-cl validate --script` takes one"),
    "backend": ("onnxruntime", "ONNX Runtime is the reference, for the graph that was read"),
    "change_concat_ranges": (0, _TYPES),
    "check_shapes": (None, "output_tensors are compared themselves"),
    "check_tensors": (None, "output_tensors are compared themselves"),
    "cl_mem_type": (None, "values lie in OpenCL buffers, whatever it says"),
    "docker_image_tag": (None, "nothing is run in Docker"),
    "dockerfile_path": (None, "nothing is run in Docker"),
    "dockerfile_sha256_checksum": (None, "nothing is run in Docker"),
    "graph_optimize_options": (None, "mace-cl has passes of its own"),
    "nnlib_graph_mode": (0, "it is for Hexagon alone"),
    "obfuscate": (0, "names stay as they are"),
    "quantize": (0, _TYPES),
    "quantize_large_weights": (0, _TYPES),
    "quantize_range_file": (None, _TYPES),
    "quantize_schema": (None, _TYPES),
}
"""Keys of a model that change nothing, with the value that asks for nothing anyway, and the reason."""
_DRIVEN = ("", "cpu", "gpu")


def runtime(graph: Graph, provider: str | None) -> str | None:
    """The setting of this name for a graph: ``cpu`` is the host alone, an accelerator that of ``provider``.

    None leaves it to the user's settings, by default OpenCL and the host for what that lacks, as MACE's GPU does.
    """
    if graph.runtime == "cpu":
        return "cpu"
    return "npu" if provider and graph.runtime not in _DRIVEN else None


def exact(graph: Graph) -> bool | None:
    """Whether Winograd's method is forbidden: where the file says 0; else None, the user's setting."""
    return True if graph.winograd == 0 else None


def responsive(graph: Graph) -> tuple[int | None, int | None]:
    """The settings ``queue_window`` and ``kernel_limit``; None where the file leaves it to the user's.

    MACE cuts a kernel that takes longer than 1 ms where ``limit_opencl_kernel_time`` is 1.
    """
    window, limit = graph.options.get("opencl_queue_window_size"), graph.options.get("limit_opencl_kernel_time")
    return window or None, limit or None


def notes(graph: Graph) -> tuple[str, ...]:
    """What was given for a graph and has no effect, or another than in MACE."""
    return tuple(f"{graph.model}: {text}" for text in _notes(graph))


def file_notes(deployment: Deployment, *, devices: bool) -> tuple[str, ...]:
    """As `notes`, for the keys of the file; ``devices`` tells that a device file was given."""
    found = list(deployment.notes)
    if "code" in (deployment.model_graph_format, deployment.model_data_format):
        found.append("model_graph_format, model_data_format: files are written, and no C++ code")
    if (deployment.target_abis or deployment.target_socs) and not devices:
        found.append(
            "target_abis, target_socs: choose among the devices of a device file; none was given, and programs are "
            "compiled for the OpenCL device at hand"
        )
    if deployment.apu_version is not None:
        found.append(f"apu_version_with_no_device has no effect: {_ACCELERATOR}")
    return tuple(found)


def _notes(graph: Graph) -> Iterator[str]:
    if graph.runtime == "cpu":
        yield "runtime: cpu is the host alone, in ONNX Runtime; --runtime gpu+cpu is for OpenCL"
    elif graph.runtime not in _DRIVEN:
        yield f"runtime: {graph.runtime} is not driven, OpenCL runs the model; {_ACCELERATOR}"
    if graph.winograd:
        yield f"winograd: {graph.winograd} allows Winograd's method; its size is chosen for each convolution"
    if graph.data_type == "bf16_fp32":
        yield "data_type: bf16_fp32 has no effect: weights are stored as float32"
    elif graph.data_type.startswith("fp16"):
        yield f"data_type: {graph.data_type} is how --to mace stores weights; computed is in fp32"
    elif graph.data_type == "uint8":
        yield f"data_type: uint8 has no effect: {_TYPES}"
    by_reason: dict[str, list[str]] = {}
    for key, value in graph.options.items():
        quiet, reason = WITHOUT_EFFECT.get(key, (value, ""))
        if value != quiet:
            by_reason.setdefault(reason, []).append(key)
    for reason, keys in by_reason.items():
        yield f"{', '.join(keys)} {'has' if len(keys) == 1 else 'have'} no effect: {reason}"
    odd = sorted(set(graph.thresholds) - {"CPU", "GPU", "QUANTIZE"})
    if odd:
        yield f"validation_threshold: {', '.join(odd)} has no effect; CPU, GPU and QUANTIZE have"
    if any(port.alias != port.name for port in (*graph.inputs, *graph.outputs)):
        yield "input_aliases, output_aliases have no effect: values keep the source's names"
