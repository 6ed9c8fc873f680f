"""Compare a model's outputs with another engine's, and find the first layer that departs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mace_cl.errors import InputError
from mace_cl.tools.common import DeviceName, Preprocessing, Progress, check_writable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mace_cl.device import Device
    from mace_cl.engine import Runtime
    from mace_cl.tools.references import Model, Reference
    from mace_cl.tools.samples import Sample

__all__ = ["THRESHOLDS", "Accuracy", "Agreement", "Departure", "ValidateArgs", "ValidateResult", "agreement", "run"]

Arrays = Mapping[str, "NDArray[Any]"]

THRESHOLDS = {"cpu": 0.999, "gpu": 0.995, "quantised": 0.980}
"""The least cosine similarity that MACE asks for, by what runs the model and for quantised models."""
_QUANTISED = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul"}


@dataclass(frozen=True)
class ValidateArgs:
    """What to compare with what on which inputs: the file ``data`` or those of a folder, or seeded random numbers.

    ``reference`` is a key of `mace_cl.tools.references.REFERENCES`; None is the one that the model was made for.
    ``expected`` are the outputs to expect of a single sample, in place of a reference's.  ``labels`` names classes (see
    `mace_cl.tools.samples`), ``script`` is a metric of the user's own (see `mace_cl.tools.metric`).  ``threshold`` of
    None is that of ``thresholds``, which have the keys of `THRESHOLDS`.  ``save`` gets the inputs of a failure as .npz.
    The rest is as for `mace_cl.Runtime`.
    """

    model: Path
    reference: str | None = None
    program: Path | None = None
    data: Path | None = None
    expected: Arrays | None = field(default=None, repr=False, compare=False)
    labels: Path | None = None
    image: Preprocessing = field(default_factory=Preprocessing)
    script: Path | None = None
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
    """The first layer, in the order of the run, whose value is below the threshold: what it read, and what it made.

    ``reference`` is what it was found with: another engine where the one that was asked for tells of no layers.
    """

    reference: str
    node: str
    op: str
    before: tuple[Agreement, ...]
    after: Agreement


@dataclass(frozen=True)
class Accuracy:
    """Of the samples with a class, which share has it as the best score, and among the best five."""

    samples: int
    top1: float
    top5: float
    reference_top1: float
    reference_top5: float


@dataclass(frozen=True)
class ValidateResult:
    """``outputs`` are the worst of all ``samples``; ``saved`` is set where one fails, ``departure`` where it was found.

    ``reference`` says which engine it is; ``accuracy`` is of a labelled folder, ``metrics`` are the script's.
    """

    device: DeviceName
    reference: str
    threshold: float
    samples: int
    outputs: tuple[Agreement, ...]
    passed: bool
    accuracy: Accuracy | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
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
        InputError: an argument, a file of ``data`` or the script does not fit.
        HostError: the reference is not installed, or can't run the model.
        MaceClError: as `mace_cl.Runtime`.
    """
    from mace_cl.device import find
    from mace_cl.engine import Runtime
    from mace_cl.frontends.formats import opened, recognise
    from mace_cl.frontends.read import load
    from mace_cl.settings import Settings
    from mace_cl.tools import references, tensors
    from mace_cl.tools.metric import load_metric, measured
    from mace_cl.tools.samples import Sample, read_samples, sample_files

    if not args.model.exists():
        raise InputError(f"{args.model}: no such file; check the path")
    if args.threshold is not None and not -1 <= args.threshold <= 1:
        raise InputError("--threshold: a cosine similarity is between -1 and 1")
    check_writable(args.save)
    files = sample_files(args.data, args.labels) if args.data is not None else []
    metric = load_metric(args.script) if args.script is not None else None
    device = find(Settings.load(device=args.device).device, alone=True)  # before TensorFlow comes
    graph = load(args.model, args.shapes or None, args.outputs, trust=bool(args.trust)).graph
    with opened(args.model) as view:
        form = recognise(view)
    assert form is not None
    model = _model(args, graph)
    reference: Reference = (
        references.open_reference(args.reference or references.usual(form), form, model)
        if args.expected is None
        else references.Expected(args.expected)
    )
    quantised = any(node.op_type in _QUANTISED for node in graph)
    kind = "quantised" if quantised else "cpu" if device.kind == "cpu" or args.runtime == "cpu" else "gpu"
    threshold = args.thresholds[kind] if args.threshold is None else args.threshold
    found: dict[str, Agreement] = {}
    failing: Sample | None = None
    ranks: list[tuple[int, int]] = []
    kept: list[tuple[Arrays, Arrays, Arrays, str]] = []
    with Runtime(
        args.model, program=args.program, shapes=args.shapes or None, outputs=args.outputs, **_options(args, device)
    ) as runtime:
        if runtime.symbolic and not runtime.buckets:
            raise InputError(f"{args.model}: has open shapes; give each with --shape NAME=N,N,…")
        ports = runtime.inputs
        drawn = [] if files else [Sample(f"random, seed {args.seed}", tensors.random_inputs(ports, args.seed))]
        for sample in drawn or read_samples(files, ports, args.image):
            ours = tensors.arrays_of(_ours(runtime, sample.inputs))
            theirs = tensors.arrays_of(references.guarded(args.model, reference, sample.inputs))
            compared = _compared(ours, theirs)
            if failing is None and any(one.cosine < threshold for one in compared):
                failing = sample
            for one in compared:
                found[one.name] = min(found.get(one.name, one), one, key=lambda each: each.cosine)
            if sample.label is not None:
                ranks.append((_rank(ours, sample), _rank(theirs, sample)))
            if metric is not None:
                kept.append((ours, theirs, sample.inputs, sample.name))
    if not found:
        raise InputError(f"{args.model}: has no output of numbers, so that there is nothing to compare")
    metrics = {}
    if metric is not None and args.script is not None:
        columns = [[row[place] for row in kept] for place in range(4)]
        metrics = measured(args.script, metric, *columns)  # type: ignore[arg-type]
    departure, saved = None, None
    if failing is not None:
        saved = tensors.write_outputs([str(args.save)], failing.inputs)[0]
        by = reference if reference.layers else references.open_reference("onnxruntime", form, model)
        departure = _departure(args, by, failing.inputs, threshold, device)
    return ValidateResult(
        DeviceName.of(device), reference.title, threshold, len(files) or 1, tuple(found.values()), failing is None,
        _accuracy(ranks), metrics, departure, saved,
    )  # fmt: skip


def _model(args: ValidateArgs, graph: Any) -> Model:
    from mace_cl.graph import static_shape
    from mace_cl.tools.references import Layer, Model

    made = {str(value.name) for node in graph for value in node.outputs if any(node.inputs)}
    layers = tuple(
        Layer(
            str(node.outputs[0].name), str(node.name), node.op_type,
            tuple(str(value.name) for value in node.inputs if value is not None and str(value.name) in made),
        )
        for node in graph
        if any(node.inputs)
    )  # fmt: skip
    ends = {str(value.name): static_shape(value) for value in graph.outputs}
    inputs = tuple(str(value.name) for value in graph.inputs if value.name not in graph.initializers)
    return Model(args.model, inputs, ends, layers, args.shapes, args.outputs, bool(args.trust))


def _options(args: ValidateArgs, device: Device) -> dict[str, Any]:
    return {
        "device": device, "runtime": args.runtime, "provider": args.provider, "store": args.store, "jobs": args.jobs,
        "exact": args.exact, "trust": args.trust, "progress": args.progress,
    }  # fmt: skip


def _ours(runtime: Runtime, sample: Arrays) -> dict[str, Any]:
    return runtime.run({port.name: sample[port.name] for port in runtime.inputs})


def _compared(ours: Arrays, theirs: Arrays) -> list[Agreement]:
    return [
        agreement(name, ours[name], theirs[name])
        for name in theirs
        if name in ours and theirs[name].dtype.kind in "fiub"
    ]


def _rank(outputs: Arrays, sample: Sample) -> int:
    """How many scores are better than that of the sample's class, in the first output that is a row of scores."""
    row = next((one.reshape(-1) for one in outputs.values() if 1 < one.size == max(one.shape, default=0)), None)
    if row is None:
        raise InputError("the samples have classes, but no output is a single row of scores; leave the classes out")
    if sample.label is None or sample.label >= row.size:
        raise InputError(f"{sample.name}: is of class {sample.label}, but there are {row.size} scores")
    return int((row > row[sample.label]).sum())


def _accuracy(ranks: Sequence[tuple[int, int]]) -> Accuracy | None:
    if not ranks:
        return None
    shares = [sum(pair[of] < best for pair in ranks) / len(ranks) for of in (0, 1) for best in (1, 5)]
    return Accuracy(len(ranks), *shares)


def _departure(
    args: ValidateArgs, reference: Reference, sample: Arrays, threshold: float, device: Device
) -> Departure | None:
    """By bisection, which takes it that what follows a departure has departed too."""
    layers = list(reference.layers)
    low, high, after = 0, len(layers), None
    while low < high:
        middle = (low + high) // 2
        compared = _between(args, reference, [layers[middle].value], sample, device)
        if compared is None:  # known by this name to the reference alone
            del layers[middle]
            high -= 1
        elif compared.cosine < threshold:
            high, after = middle, compared
        else:
            low = middle + 1
    if after is None:
        return None
    layer = layers[high]
    before = [_between(args, reference, [name], sample, device) for name in layer.reads]
    return Departure(reference.title, layer.node, layer.op, tuple(one for one in before if one is not None), after)


def _between(
    args: ValidateArgs, reference: Reference, names: Sequence[str], sample: Arrays, device: Device
) -> Agreement | None:
    """How a layer's value agrees; None if it is not among the values here, or is not of numbers."""
    from mace_cl.engine import Runtime
    from mace_cl.tools import references

    theirs = references.guarded(args.model, reference, sample, names)
    try:
        with Runtime(args.model, shapes=args.shapes or None, outputs=names, **_options(args, device)) as runtime:
            ours = _ours(runtime, sample)
    except InputError:
        return None
    return next(iter(_compared(ours, theirs)), None)
