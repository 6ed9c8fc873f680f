"""The ONNX backend test suite on one OpenCL device: which tests pass, and where they ran.

    python tests/backend.py --device intel [-k NAME] [--jobs N] [--json FILE]

Cases come from the installed onnx package; those that would be downloaded are left out.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests
from onnx.backend.test.runner import Runner

KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator")
OPENCL_TYPES = {"float", "float16", "int8", "int16", "int32", "int64", "uint8", "bool"}
"""The tensor types of which three quarters of all node tests are to run wholly on OpenCL."""

ONNXRUNTIME = "onnxruntime"
"""In the place of a device: the cases that ONNX Runtime itself passes."""

Sample = tuple[list[Any], list[Any]]


@dataclass(frozen=True)
class Outcome:
    """How a case ended: ``route`` is "opencl", "host" (at least one node), or "none" (it did not run)."""

    name: str
    kind: str
    status: Literal["passed", "wrong", "refused"]
    route: Literal["opencl", "host", "none"]
    types: tuple[str, ...]
    why: str = ""


def cases(pattern: str = "") -> Iterator[tuple[str, str, onnx.ModelProto, list[Sample], float, float]]:
    """Name, kind, model, samples, relative and absolute tolerance of each case whose name holds ``pattern``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for kind in KINDS:
            for one in load_model_tests(kind=kind):
                if pattern in one.name:
                    folder = Path(one.model_dir or "")
                    model = one.model or onnx.load(folder / "model.onnx")
                    given: list[Any] = list(one.data_sets or _stored(folder, model))
                    yield one.name, kind, model, given, one.rtol, one.atol


def _stored(folder: Path, model: onnx.ModelProto) -> Iterator[Sample]:
    for data in sorted(folder.glob("test_data_set_*")):
        initializers = {tensor.name for tensor in model.graph.initializer}
        ports = [[one for one in model.graph.input if one.name not in initializers], list(model.graph.output)]
        yield tuple(  # type: ignore[misc]
            [_value(data / f"{what}_{index}.pb", port.type) for index, port in enumerate(of)]
            for what, of in zip(("input", "output"), ports, strict=True)
        )


def _value(path: Path, kind: onnx.TypeProto) -> Any:
    if kind.HasField("sequence_type"):
        sequence = onnx.SequenceProto()
        sequence.ParseFromString(path.read_bytes())
        return numpy_helper.to_list(sequence)
    if kind.HasField("optional_type"):
        optional = onnx.OptionalProto()
        optional.ParseFromString(path.read_bytes())
        return numpy_helper.to_optional(optional)
    tensor = onnx.TensorProto()
    tensor.ParseFromString(path.read_bytes())
    return numpy_helper.to_array(tensor)


def attempt(
    name: str, kind: str, model: onnx.ModelProto, samples: Sequence[Sample], rtol: float, atol: float, device: str
) -> Outcome:
    """Run one case as the suite's own runner does."""
    from mace_cl.errors import MaceClError
    from mace_cl.onnx_backend import prepare

    types = _types(model)
    if device == ONNXRUNTIME:
        return _attempt_onnxruntime(name, kind, model, samples, rtol, atol)
    try:
        prepared = prepare(model, device)
        got = [prepared.run([_plain(x) for x in inputs]) for inputs, _ in samples]
        hosts = [f"{place.op}: {place.reason}" for place in prepared.where() if place.on == "host"]
    except MaceClError as error:
        return Outcome(name, kind, "refused", "none", types, str(error)[:300])
    route: Literal["opencl", "host"] = "host" if hosts else "opencl"
    try:
        for outputs, (_, expected) in zip(got, samples, strict=True):
            Runner.assert_similar_outputs([_plain(x) for x in expected], outputs, rtol, atol)
    except (AssertionError, TypeError) as error:  # TypeError: a sequence for a tensor, or the other way round
        return Outcome(name, kind, "wrong", route, types, " ".join(str(error).split())[:300])
    return Outcome(name, kind, "passed", route, types, "; ".join(hosts)[:300])


def _attempt_onnxruntime(
    name: str, kind: str, model: onnx.ModelProto, samples: Sequence[Sample], rtol: float, atol: float
) -> Outcome:
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        names = [port.name for port in session.get_inputs()]
        got = [session.run(None, dict(zip(names, map(_plain, inputs), strict=True))) for inputs, _ in samples]
    except Exception as error:
        return Outcome(name, kind, "refused", "none", _types(model), str(error)[:300])
    try:
        for outputs, (_, expected) in zip(got, samples, strict=True):
            Runner.assert_similar_outputs([_plain(x) for x in expected], outputs, rtol, atol)
    except (AssertionError, TypeError) as error:
        return Outcome(name, kind, "wrong", "host", _types(model), str(error)[:300])
    return Outcome(name, kind, "passed", "host", _types(model))


def _plain(value: Any) -> Any:
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    if isinstance(value, onnx.SequenceProto):
        return numpy_helper.to_list(value)
    return value if isinstance(value, (list, np.ndarray)) or value is None else np.asarray(value)


def _types(model: onnx.ModelProto) -> tuple[str, ...]:
    """The element types of the model's inputs and outputs."""
    found = set()
    for port in (*model.graph.input, *model.graph.output):
        kind = port.type
        while not kind.HasField("tensor_type"):
            if kind.HasField("sequence_type"):
                found.add("sequence")
                kind = kind.sequence_type.elem_type
            elif kind.HasField("optional_type"):
                found.add("optional")
                kind = kind.optional_type.elem_type
            else:
                return tuple(sorted({*found, "other"}))
        found.add(onnx.TensorProto.DataType.Name(kind.tensor_type.elem_type).lower())
    return tuple(sorted(found))


def run(device: str, pattern: str = "", jobs: int = 1) -> list[Outcome]:
    """All cases on a device, in ``jobs`` processes; most of the time goes into compiling kernels."""
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        shares = list(pool.map(partial(_share, device, pattern, jobs), range(jobs)))
    return sorted((one for share in shares for one in share), key=lambda one: (KINDS.index(one.kind), one.name))


def _share(device: str, pattern: str, jobs: int, index: int) -> list[Outcome]:
    return [attempt(*one, device) for one in islice(cases(pattern), index, None, jobs)]


def summary(outcomes: Sequence[Outcome]) -> str:
    """The two figures, and the rest by status."""
    lines = []
    for kind in KINDS:
        of = [one for one in outcomes if one.kind == kind]
        if of:
            counts = Counter((one.status, one.route) for one in of)
            lines.append(f"{kind}: " + ", ".join(f"{n} {' '.join(key)}" for key, n in sorted(counts.items())))
    nodes = [one for one in outcomes if one.kind == "node" and set(one.types) <= OPENCL_TYPES]
    wholly = [one for one in nodes if one.status == "passed" and one.route == "opencl"]
    if nodes:
        share = 100 * len(wholly) / len(nodes)
        lines.append(f"node tests of {', '.join(sorted(OPENCL_TYPES))}: {len(wholly)} of {len(nodes)} ({share:.1f} %)")
        lines[-1] += " ran wholly on OpenCL and passed"
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", required=True)
    parser.add_argument("-k", default="", metavar="NAME")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    outcomes = run(options.device, options.k, options.jobs)
    for one in outcomes:
        if one.status != "passed":
            print(f"{one.status} {one.name}: {one.why}", file=sys.stderr)
    if options.json:
        options.json.write_text(json.dumps([asdict(one) for one in outcomes], indent=0))
    print(summary(outcomes))


if __name__ == "__main__":
    main()
