"""What tests share: models written as text, their reference outputs, executors without other processes."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnx.parser
import onnx.shape_inference
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from mace_cl.bind import bind, by_rule
from mace_cl.compiler import prepare, traits_of
from mace_cl.device import Device
from mace_cl.frontends.read import load
from mace_cl.lower import Algorithm, direct, halve, lower, with_algorithms
from mace_cl.passes.pipeline import optimise
from mace_cl.plan import Layout, Problem, Traits
from mace_cl.runtime.build import build_source, split
from mace_cl.runtime.executor import Executor
from mace_cl.runtime.sequence import shares_for
from mace_cl.schedule import Schedule

Array = NDArray[Any]
Oracle = Literal["reference", "onnxruntime", "onnxruntime as users run it"]
"""ONNX's own evaluator, or ONNX Runtime without its optimiser where that is wrong or slow.

Some deep networks amplify rounding so much that ONNX Runtime departs from itself by 1e-4 when it folds
batch normalisation (SSD-MobileNet with random weights does): whole models of unknown make are compared
with it as users run it, optimiser and all.
"""

Outputs = dict[str, Array]
Choose = Callable[[Problem, Traits], dict[str, int]]
Start = Callable[..., Executor]
"""`start` on the device under test: takes a model, and by keyword what `start` takes."""

NEWEST_OPSET = 21


@dataclass(frozen=True, eq=False)
class Case:
    """A small graph in ONNX's text syntax: inputs are named ``x…``, outputs ``y…``, other ``values`` are constants."""

    name: str
    body: str
    values: Mapping[str, Array]
    opset: int
    oracle: Oracle

    def __str__(self) -> str:
        return self.name

    @cached_property
    def nodes(self) -> list[onnx.NodeProto]:
        graph = onnx.parser.parse_graph(f"g () => () {{ {self.body} }}")
        return list(graph.node)

    @cached_property
    def inputs(self) -> Outputs:
        return {name: value for name, value in self.values.items() if name.startswith("x")}

    @cached_property
    def expected(self) -> Outputs:
        return reference(model_of(self), self.inputs, self.oracle)


def case(
    name: str,
    body: str,
    *,
    opset: int = NEWEST_OPSET,
    oracle: Oracle = "reference",
    **values: Array | np.generic | Sequence[int] | Sequence[float],
) -> Case:
    """A case whose values are arrays, lists (constants of int64 or float32), or tuples (shapes to fill)."""
    arrays = {key: _array(f"{name}/{key}", value) for key, value in values.items()}
    return Case(name, body, arrays, opset, oracle)


def _array(key: str, value: Any) -> Array:
    if isinstance(value, (np.ndarray, np.generic)):
        return np.asarray(value)
    if isinstance(value, list):
        return np.array(value, np.int64 if all(isinstance(item, int) for item in value) else np.float32)
    return filled(key, value)


def filled(key: str, shape: Sequence[int], low: float | None = None) -> NDArray[np.float32]:
    """Normally distributed numbers that depend on ``key`` only; with ``low``, their absolute values above it."""
    array = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape, dtype=np.float32)
    return array if low is None else np.abs(array) + np.float32(low)


def model_of(*cases: Case) -> onnx.ModelProto:
    """One model of all cases side by side; with more than one, names are prefixed by the case's."""
    nodes, inputs, outputs, constants = [], [], [], []
    for one in cases:
        prefix = f"{one.name}/" if len(cases) > 1 else ""
        made = [name for node in one.nodes for name in node.output]
        for number, node in enumerate(one.nodes):
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.name = f"{one.name}.{number}"
            copy.input[:] = [name and prefix + name for name in node.input]
            copy.output[:] = [name and prefix + name for name in node.output]
            nodes.append(copy)
        for name, array in one.values.items():
            if name in one.inputs:
                kind = helper.np_dtype_to_tensor_dtype(array.dtype)
                inputs.append(helper.make_tensor_value_info(prefix + name, kind, array.shape))
            else:
                constants.append(numpy_helper.from_array(array, prefix + name))
        ends = [name for name in (*made, *one.values) if name.startswith("y")]
        outputs += [onnx.ValueInfoProto(name=prefix + name) for name in ends]
    graph = helper.make_graph(nodes, cases[0].name, inputs, outputs, constants)
    opset = helper.make_opsetid("", cases[0].opset)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=8, producer_name="mace-cl tests")
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    for output in inferred.graph.output:
        if not output.type.tensor_type.HasField("shape"):  # of ops that onnx infers none for: shaped like their input
            prefix = output.name.rpartition("/")[0]
            like = next(port for port in inferred.graph.input if port.name.rpartition("/")[0] == prefix)
            output.type.CopyFrom(like.type)
    return inferred


def reference(model: onnx.ModelProto, inputs: Mapping[str, Array], oracle: Oracle = "onnxruntime") -> Outputs:
    """The outputs as ``oracle`` has them."""
    names = [output.name for output in model.graph.output]
    if oracle == "reference":
        from onnx.reference import ReferenceEvaluator

        with np.errstate(all="ignore"):
            return dict(zip(names, ReferenceEvaluator(model).run(names, dict(inputs)), strict=True))
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if oracle == "onnxruntime":
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def start(
    device: Device, context: Any, model: onnx.ModelProto | Path, runtime: str = "gpu+cpu",
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> Executor:  # fmt: skip
    """The model on the device, all kernels built in this process and kept nowhere."""
    source = model if isinstance(model, Path) else model.SerializeToString()
    prepared = prepare(source, device, shapes, runtime=runtime)
    return _started(device, context, prepared.schedule, prepared.constants)


def start_with(
    device: Device,
    context: Any,
    model: onnx.ModelProto,
    *,
    block: int,
    choose: Choose | None = None,
    algorithm: Algorithm = direct,
    narrow: bool = False,
    traits: Traits | None = None,
) -> Executor:
    """As `start`, with another channel block, other parameters, algorithms or traits than the device's."""
    traits = traits or traits_of(device)
    shares = shares_for(device) if traits.is_cpu else 0
    plan = lower(optimise(load(model.SerializeToString())), Layout(block, max(128, device.base_align), narrow=narrow))
    schedule, constants = bind(halve(with_algorithms(plan, algorithm)), traits, choose or by_rule, shares)
    return _started(device, context, schedule, constants)


def _started(device: Device, context: Any, schedule: Schedule, constants: NDArray[np.uint8]) -> Executor:
    programs = [(kernels, build_source(context, schedule, kernels)) for kernels in split(schedule, 1)]
    return Executor(device, context, schedule, programs, constants)


def difference(got: Array, expected: Array) -> float:
    """The greatest absolute difference over the greatest absolute expected value; infinite if shapes or NaNs differ."""
    if got.shape != expected.shape or not np.array_equal(np.isfinite(got), np.isfinite(expected)):
        return float("inf")
    finite = np.isfinite(expected)
    if not np.array_equal(got[~finite], expected[~finite], equal_nan=True):
        return float("inf")
    if not finite.any():
        return 0.0
    scale = float(np.abs(expected[finite]).max()) or 1.0
    return float(np.abs(got[finite].astype(np.float64) - expected[finite]).max()) / scale


def agree(got: Mapping[str, Array], expected: Mapping[str, Array], bound: float) -> None:
    """Assert that types and shapes are equal, integers and booleans exactly, floats within ``bound``."""
    for name, wanted in expected.items():
        assert got[name].dtype == wanted.dtype, f"{name}: {got[name].dtype} instead of {wanted.dtype}"
        if wanted.dtype.kind not in "fV":
            np.testing.assert_array_equal(got[name], wanted, name)
        else:
            found = difference(got[name].astype(np.float64), wanted.astype(np.float64))
            assert found <= bound, f"{name}: off by {found:.2e}"


class Results:
    """Outputs of cases; those of one family and opset share one model and so one build.

    If that model can't be run, each of its cases is tried alone, so that the right one fails.
    """

    def __init__(self, start: Start, families: Mapping[str, Sequence[Case]]) -> None:
        self._start = start
        self._families = families
        self._found: dict[tuple[str, int], dict[Case, Outputs | Exception]] = {}

    def of(self, family: str, one: Case) -> Outputs:
        """The outputs of a case; raises what running it raised."""
        key = (family, one.opset)
        if key not in self._found:
            cases = [other for other in self._families[family] if other.opset == one.opset]
            try:
                self._found[key] = {**self._together(cases)}
            except Exception:
                self._found[key] = {other: self._alone(other) for other in cases}
        found = self._found[key][one]
        if isinstance(found, Exception):
            raise found
        return found

    def _together(self, cases: list[Case]) -> dict[Case, Outputs]:
        if len(cases) == 1:
            with self._start(model_of(*cases)) as executor:
                return {cases[0]: executor.run(cases[0].inputs)}
        with self._start(model_of(*cases)) as executor:
            outputs = executor.run({f"{one}/{name}": x for one in cases for name, x in one.inputs.items()})
        return {one: {name: outputs[f"{one}/{name}"] for name in one.expected} for one in cases}

    def _alone(self, one: Case) -> Outputs | Exception:
        try:
            return self._together([one])[one]
        except Exception as error:
            return error


MIXED = case(
    "mixed",
    "c = Conv<pads=[1,1,1,1]>(x, w1, b1) r = Relu(c) d = Conv<group=24, pads=[1,1,1,1], strides=[2,2]>(r, w2) "
    "g = GlobalAveragePool(d) s = Sigmoid(g) e = Mul(d, s) p = MaxPool<kernel_shape=[2,2], pads=[0,0,1,1]>(e) "
    "k = Concat<axis=1>(p, e) q = Conv(k, w3) f = Exp(q) u = Resize<mode=\"linear\">(f, , z) "
    "n = InstanceNormalization(u, t, o) m = Transpose<perm=[0,2,3,1]>(n) y = Softmax(m) y1 = Conv<group=2>(k, w4)",
    x=(2, 5, 9, 9), w1=(24, 5, 3, 3), b1=(24,), w2=(24, 1, 3, 3), w3=(17, 48, 1, 1), w4=(32, 24, 1, 1),
    z=[1.0, 1.0, 2.0, 2.0], t=(17,), o=(17,), oracle="onnxruntime",
)  # fmt: skip
"""Nearly every family in one graph."""
