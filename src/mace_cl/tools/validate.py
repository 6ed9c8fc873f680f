"""Compare a model's outputs with ONNX Runtime's, and find the first layer that departs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mace_cl.errors import HostError, InputError
from mace_cl.tools.common import DeviceName, Preprocessing, Progress, check_writable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mace_cl.device import Device

__all__ = ["THRESHOLDS", "Agreement", "Departure", "ValidateArgs", "ValidateResult", "agreement", "run"]

Arrays = Mapping[str, "NDArray[Any]"]

THRESHOLDS = {"cpu": 0.999, "gpu": 0.995, "quantised": 0.980}
"""The least cosine similarity that MACE asks for, by what runs the model and for quantised models."""
_QUANTISED = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul"}


@dataclass(frozen=True)
class ValidateArgs:
    """What to compare on which inputs: the .npy and .npz files of ``data``, in order (or that one file), or seeded
    random numbers.  ``expected`` are the outputs to expect of a single sample, in place of ONNX Runtime's.

    ``threshold`` of None is that of ``thresholds``, which have the keys of `THRESHOLDS`.  ``save`` gets the inputs of a
    failure as .npz.  The rest is as for `mace_cl.Runtime`.
    """

    model: Path
    program: Path | None = None
    data: Path | None = None
    expected: Arrays | None = field(default=None, repr=False, compare=False)
    seed: int = 0
    threshold: float | None = None
    thresholds: Mapping[str, float] = field(default_factory=lambda: THRESHOLDS)
    save: Path = Path("validate-inputs.npz")
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    device: str | None = None
    runtime: str | None = None
    provider: str | None = None
    exact: bool | None = None
    store: bool | None = None
    jobs: int | None = None
    trust: bool | None = None
    progress: Progress | None = None


@dataclass(frozen=True)
class Agreement:
    """How near an array is to its reference.

    ``cosine`` is their cosine similarity, ``sqnr`` the ratio of the reference's power to that of the difference in dB,
    infinite where they are equal; ``maximum`` and ``mean`` are of the absolute difference.
    """

    name: str
    cosine: float
    sqnr: float
    maximum: float
    mean: float


@dataclass(frozen=True)
class Departure:
    """The first node, in the graph's order, whose value is below the threshold: what it read, and what it made."""

    node: str
    op: str
    before: tuple[Agreement, ...]
    after: Agreement


@dataclass(frozen=True)
class ValidateResult:
    """``outputs`` are the worst of all ``samples``; ``saved`` and ``departure`` are set where one fails."""

    device: DeviceName
    threshold: float
    samples: int
    outputs: tuple[Agreement, ...]
    passed: bool
    departure: Departure | None = None
    saved: Path | None = None


def agreement(name: str, ours: NDArray[Any], reference: NDArray[Any]) -> Agreement:
    """Both of one shape, of any numeric dtype; NaN and infinities count as equal only where both have the same."""
    if ours.shape != reference.shape:
        return Agreement(name, 0.0, -math.inf, math.inf, math.inf)
    one, other = (array.astype(np.float64).reshape(-1) for array in (ours, reference))
    known = np.isfinite(one) & np.isfinite(other)
    if not np.array_equal(one[~known], other[~known], equal_nan=True):
        return Agreement(name, 0.0, -math.inf, math.inf, math.inf)
    one, other = one[known], other[known]
    error = np.abs(one - other)
    if not error.any():
        return Agreement(name, 1.0, math.inf, 0.0, 0.0)
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    cosine = float(one @ other) / lengths if lengths else 0.0
    signal, noise = float(other @ other), float(error @ error)
    sqnr = 10 * math.log10(signal / noise) if signal and noise else -math.inf if noise else math.inf
    return Agreement(name, cosine, sqnr, float(error.max()), float(error.mean()))


def run(args: ValidateArgs) -> ValidateResult:
    """Run both on every sample; where an output is below the threshold, save the inputs and find the layer.

    Raises:
        InputError: an argument or a file of ``data`` does not fit.
        HostError: onnxruntime is missing, or can't run the model.
        MaceClError: as `mace_cl.Runtime`.
    """
    from mace_cl.device import find
    from mace_cl.engine import Runtime
    from mace_cl.frontends.read import load
    from mace_cl.settings import Settings
    from mace_cl.tools import tensors

    if not args.model.exists():
        raise InputError(f"{args.model}: no such file; check the path")
    if args.threshold is not None and not -1 <= args.threshold <= 1:
        raise InputError("--threshold: a cosine similarity is between -1 and 1")
    check_writable(args.save)
    graph = load(args.model, args.shapes or None, args.outputs, trust=bool(args.trust)).graph
    device = find(Settings.load(device=args.device).device, alone=True)
    quantised = any(node.op_type in _QUANTISED for node in graph)
    kind = "quantised" if quantised else "cpu" if device.kind == "cpu" or args.runtime == "cpu" else "gpu"
    threshold = args.thresholds[kind] if args.threshold is None else args.threshold
    with Runtime(
        args.model, program=args.program, shapes=args.shapes or None, outputs=args.outputs, **_options(args, device)
    ) as runtime:
        if runtime.symbolic and not runtime.buckets:
            raise InputError(f"{args.model}: has open shapes; give each with --shape NAME=N,N,…")
        ports = runtime.inputs
        if args.data is None:
            samples = [tensors.random_inputs(ports, args.seed)]
        else:
            found_files = [args.data] if args.data.is_file() else sorted(args.data.glob("*"))
            files = [path for path in found_files if path.suffix in (".npy", ".npz")]
            samples = [tensors.read_inputs([str(path)], ports, Preprocessing())[0] for path in files]
        if not samples:
            raise InputError(f"{args.data}: no .npy or .npz files; give a directory with one for each sample")
    found: dict[str, Agreement] = {}
    failing: Arrays | None = None
    for sample in samples:
        compared = _compared(args, args.outputs, sample, device)
        if failing is None and any(one.cosine < threshold for one in compared):
            failing = sample
        for one in compared:
            found[one.name] = min(found.get(one.name, one), one, key=lambda each: each.cosine)
    result = tuple(found.values())
    name = DeviceName.of(device)
    if failing is None:
        return ValidateResult(name, threshold, len(samples), result, True)
    saved = tensors.write_outputs([str(args.save)], failing)[0]
    departure = _departure(args, list(graph), failing, threshold, device)
    return ValidateResult(name, threshold, len(samples), result, False, departure, saved)


def _options(args: ValidateArgs, device: Device) -> dict[str, Any]:
    return {
        "device": device, "runtime": args.runtime, "provider": args.provider, "store": args.store, "jobs": args.jobs,
        "exact": args.exact, "trust": args.trust, "progress": args.progress,
    }  # fmt: skip


def _compared(args: ValidateArgs, outputs: Sequence[str], sample: Arrays, device: Device) -> list[Agreement]:
    ours, reference = _ours(args, outputs, sample, device), args.expected
    if reference is None or outputs != args.outputs:
        reference = _reference(args, outputs, sample)
    return [agreement(name, ours[name], reference[name]) for name in reference if reference[name].dtype.kind in "fiub"]


def _ours(args: ValidateArgs, outputs: Sequence[str], sample: Arrays, device: Device) -> Arrays:
    from mace_cl.engine import Runtime

    program = args.program if outputs == args.outputs else None  # other outputs, another program
    with Runtime(
        args.model, program=program, shapes=args.shapes or None, outputs=outputs, **_options(args, device)
    ) as runtime:
        return runtime.run({port.name: sample[port.name] for port in runtime.inputs})


def _reference(args: ValidateArgs, outputs: Sequence[str], sample: Arrays) -> Arrays:
    from mace_cl.frontends.read import as_onnx, load
    from mace_cl.runtime.host import onnxruntime_module

    found = load(args.model, args.shapes or None, outputs, trust=bool(args.trust))
    model = as_onnx(found, args.model, outputs)
    if model is None:
        raise InputError(f"{args.model}: is too large to be handed to ONNX Runtime")
    try:
        ort = onnxruntime_module()
        options = ort.SessionOptions()
        # of some int8 graphs its optimiser makes what it then refuses
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = ort.InferenceSession(
            str(model) if isinstance(model, Path) else model, options, providers=["CPUExecutionProvider"]
        )
        names = [port.name for port in session.get_outputs()]
        given = {port.name: sample[port.name] for port in session.get_inputs()}
        return dict(zip(names, session.run(names, given), strict=True))
    except ImportError as error:
        raise HostError("onnxruntime is not installed; pip install 'mace-cl[ort]'") from error
    except Exception as error:  # ONNX Runtime's own, which differ between versions
        raise HostError(f"{args.model}: ONNX Runtime can't run it as a reference: {error}") from error


def _departure(
    args: ValidateArgs, nodes: Sequence[Any], sample: Arrays, threshold: float, device: Device
) -> Departure | None:
    """By bisection, which takes it that what follows a departure has departed too."""
    made = {str(node.outputs[0].name): node for node in nodes if any(node.inputs)}
    names = list(made)
    low, high, after = 0, len(names), None
    while low < high:
        middle = (low + high) // 2
        compared = _compared(args, [names[middle]], sample, device)
        if compared and compared[0].cosine < threshold:
            high, after = middle, compared[0]
        else:
            low = middle + 1
    if after is None:
        return None
    node = made[names[high]]
    read = [str(value.name) for value in node.inputs if value is not None and str(value.name) in made]
    before = _compared(args, read, sample, device) if read else []
    return Departure(str(node.name), node.op_type, tuple(before), after)
