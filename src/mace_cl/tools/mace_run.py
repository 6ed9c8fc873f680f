"""What MACE's tool ``mace_run`` does: run a model on raw files, and time its start and its runs."""

from __future__ import annotations

import math
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mace_cl.errors import InputError, StorageError
from mace_cl.schedule import ITEM_BYTES
from mace_cl.tools.layouts import turned
from mace_cl.tools.tensors import describe, random_inputs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mace_cl.benchmark.operations import Operation
    from mace_cl.engine import Runtime

__all__ = ["MaceRunArgs", "MaceRunResult", "Named", "run"]

_POINTWISE = (
    (112, 32, 16), (112, 16, 96), (56, 96, 24), (56, 24, 144), (56, 144, 24), (28, 144, 32), (28, 32, 192),
    (28, 192, 32),
)  # fmt: skip
"""Side, channels in and out of MobileNet-v2's first eight pointwise convolutions."""
_REPEATS = 5
_PROFILED = 3


@dataclass(frozen=True)
class Named:
    """An input or output as flags give it; ``shape`` is None where none was given."""

    name: str
    shape: tuple[int, ...] | None = None


@dataclass(frozen=True)
class MaceRunArgs:
    """What to run.

    ``weights`` is the model's second file, where it has one: MACE's .data, Caffe's .caffemodel.  ``inputs`` and
    ``outputs`` are the model's own where none are given.  The file of an input or output is ``input_file`` or
    ``output_file``, an underscore, and its name with ``_`` for all but letters and digits: row-major elements, 32 bits
    each, little-endian.  Without ``input_file``, inputs are seeded random numbers.  With ``input_dir``, each of its
    files whose name begins with the first input's is a sample: the other inputs' files have the same ending, and the
    outputs are written into ``output_dir``, made where it is missing, with that ending too.  ``program`` is the
    compiled program.  ``rounds`` runs follow the first, of each sample; ``profile`` times the operations besides.  The
    rest is as for `mace_cl.Runtime`.
    """

    model: Path
    weights: Path | None = None
    inputs: tuple[Named, ...] = ()
    outputs: tuple[Named, ...] = ()
    input_file: str = ""
    output_file: str = ""
    input_dir: Path | None = None
    output_dir: Path = Path("output")
    program: Path | None = None
    rounds: int = 1
    profile: bool = False
    device: str | None = None
    runtime: str | None = None
    exact: bool | None = None


@dataclass(frozen=True)
class MaceRunResult:
    """Milliseconds, as in MACE's table: ``run_average`` is -1 without rounds; ``capability`` is the host's.

    ``capability`` is the least time that NumPy takes for the matrix products of MobileNet-v2's first eight 1×1
    convolutions; MACE's own figure is that of eight layers of the same network by its CPU kernels.
    """

    capability: float
    init: float
    warmup: float
    run_average: float
    decision: str
    inputs: dict[str, str]
    written: tuple[Path, ...]
    operations: tuple[Operation, ...]


def run(args: MaceRunArgs) -> MaceRunResult:
    """Start, run once, then ``rounds`` times; write the outputs of the last run.

    Raises:
        InputError: a file is missing, or a name, shape or size does not fit the model.
        StorageError: an output can't be written.
        MaceClError: as `mace_cl.Runtime`.
    """
    from mace_cl.benchmark.operations import operations

    for path in (args.model, args.weights):
        if path is not None and not path.is_file():
            raise InputError(f"{path}: no such file; check the path")
    folder = Path(f"{args.output_file}_").parent
    if args.output_file and not folder.is_dir():
        raise StorageError(f"{args.output_file}: there is no directory {folder}; make it, or name another")
    with _beside(args.model, args.weights) as model:
        begin = time.perf_counter()
        with _started(args, model) as runtime:
            init = time.perf_counter() - begin
            warmup, seconds, written = 0.0, [], []
            for sample in _samples(args, runtime):
                arrays, sources = _inputs(args, runtime, sample)
                first, outputs = _timed(runtime, arrays)
                warmup = warmup or first
                for _ in range(args.rounds):
                    spent, outputs = _timed(runtime, arrays)
                    seconds.append(spent)
                written += _written(args, outputs, sample)
            runs = [runtime.profile(arrays) for _ in range(_PROFILED)] if args.profile else []
            found = operations(runtime.schedule, runs) if runs else ()
            return MaceRunResult(
                capability=_capability() * 1e3,
                init=init * 1e3,
                warmup=warmup * 1e3,
                run_average=sum(seconds) / len(seconds) * 1e3 if seconds else -1.0,
                decision=runtime.decision.sentence,
                inputs=sources,
                written=tuple(written),
                operations=found,
            )


def _started(args: MaceRunArgs, model: Path) -> Runtime:
    """The model as it is, which any compiled program of it fits, or cut at the outputs where they are not its own."""
    from mace_cl.engine import Runtime

    how: dict[str, Any] = {
        "program": args.program, "device": args.device, "runtime": args.runtime, "exact": args.exact
    }  # fmt: skip
    runtime = Runtime(model, **how)
    wanted = [one.name for one in args.outputs]
    if not wanted or (runtime.symbolic and not runtime.buckets):
        return runtime
    if set(wanted) <= {port.name for port in runtime.outputs}:
        return runtime
    runtime.close()
    return Runtime(model, outputs=wanted, **how)


@contextmanager
def _beside(model: Path, weights: Path | None) -> Iterator[Path]:
    """The model where its weights lie beside it under the same name: links, where they do not."""
    if weights is None or weights.resolve() == model.with_suffix(weights.suffix).resolve():
        yield model
        return
    with tempfile.TemporaryDirectory(prefix="mace-cl-") as folder:
        linked = Path(folder) / model.name
        try:
            linked.symlink_to(model.resolve())
            linked.with_suffix(weights.suffix or ".data").symlink_to(weights.resolve())
        except OSError as error:
            raise StorageError(
                f"{weights}: does not lie beside {model} and can't be linked there ({error}); put it beside the "
                "model, under the same name"
            ) from error
        yield linked


def _timed(runtime: Runtime, arrays: Mapping[str, NDArray[Any]]) -> tuple[float, dict[str, NDArray[Any]]]:
    before = time.perf_counter()
    outputs = runtime.run(arrays)
    return time.perf_counter() - before, outputs


def _clean(name: str) -> str:
    return re.sub("[^0-9A-Za-z]", "_", name)


def _samples(args: MaceRunArgs, runtime: Runtime) -> list[str]:
    """The endings of the samples' files in ``input_dir``; one empty one without that."""
    if args.input_dir is None:
        return [""]
    first = _clean((args.inputs or runtime.symbolic or runtime.inputs)[0].name)
    try:
        names = sorted(path.name for path in args.input_dir.iterdir() if path.is_file())
    except OSError as error:
        raise InputError(f"--input_dir={args.input_dir}: can't be read ({error.strerror}); check the path") from error
    found = [name[len(first) :] for name in names if name.startswith(first)]
    if not found:
        raise InputError(f"--input_dir={args.input_dir}: no file's name begins with that of the input, {first}")
    return found


def _place(prefix: str, name: str) -> Path:
    return Path(f"{prefix}_{_clean(name)}")


def _stored(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Of elements in a file: MACE has float32 and int32 there, whatever the model takes."""
    return np.dtype("<f4" if dtype.kind == "f" else "<i4")


def _inputs(args: MaceRunArgs, runtime: Runtime, sample: str) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Arrays as the model takes them, and where each comes from."""
    ports = {port.name: port for port in (runtime.symbolic or runtime.inputs)}
    named = {one.name: one for one in args.inputs} or {name: Named(name) for name in ports}
    if set(named) != set(ports):
        raise InputError(
            f"{args.model}: --input_node is {','.join(named)}, but the model takes {describe(list(ports.values()))}"
        )
    usual = {port.name: port.shape for port in runtime.inputs} if runtime.buckets or not runtime.symbolic else {}
    arrays: dict[str, NDArray[Any]] = {}
    sources: dict[str, str] = {}
    for name, one in named.items():
        port, declared, shape = ports[name], ports[name].shape, one.shape or usual.get(name)
        if port.dtype not in ITEM_BYTES or declared is None:
            raise InputError(f"{args.model}: raw files can't hold the input {port}; use `mace-cl run` or Python")
        if shape is None:
            raise InputError(f"{args.model}: the shape of the input {name!r} is open; give it with --input_shape")
        dtype = np.dtype(port.dtype)
        if args.input_file or args.input_dir:
            path = args.input_dir / f"{_clean(name)}{sample}" if args.input_dir else _place(args.input_file, name)
            array = _read(path, shape, _stored(dtype), name)
            sources[name] = str(path)
        else:
            array = random_inputs([_Shaped(name, port.dtype, shape)], 0)[name]  # type: ignore[list-item]
            sources[name] = "random, seed 0"
        fitting = turned(array, declared, f"the input {name!r}", "--input_shape")
        arrays[name] = np.ascontiguousarray(fitting, dtype)
    return arrays, sources


@dataclass(frozen=True)
class _Shaped:
    name: str
    dtype: str
    shape: tuple[int, ...]


def _read(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], name: str) -> NDArray[Any]:
    needed = math.prod(shape) * dtype.itemsize
    try:
        size = path.stat().st_size
        if size != needed:
            raise InputError(
                f"{path}: has {size} bytes, but the input {name!r} of the shape {list(shape)} has {needed}"
            )
        return np.fromfile(path, dtype).reshape(shape)
    except FileNotFoundError as error:
        raise InputError(
            f"{path}: no such file; the file of an input is --input_file, an underscore and the input's name"
        ) from error
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror}); check its permissions") from error


def _written(args: MaceRunArgs, outputs: Mapping[str, NDArray[Any]], sample: str) -> list[Path]:
    if not args.output_file and args.input_dir is None:
        return []
    written = []
    for one in args.outputs or [Named(name) for name in outputs]:
        name, shape = one.name, one.shape
        if name not in outputs:
            raise InputError(f"{args.model}: has no output {name!r}; it gives {', '.join(outputs)}")
        array = outputs[name]
        if array.dtype.kind not in "fiub":
            raise InputError(f"{args.model}: raw files can't hold the output {name!r} of {array.dtype}")
        if shape is not None:
            array = turned(array, shape, f"the output {name!r} as asked for", "--output_shape")
        path = args.output_dir / f"{_clean(name)}{sample}" if args.input_dir else _place(args.output_file, name)
        try:
            if args.input_dir:
                args.output_dir.mkdir(parents=True, exist_ok=True)
            np.ascontiguousarray(array, _stored(array.dtype)).tofile(path)
        except OSError as error:
            raise StorageError(
                f"{path}: could not be written ({error.strerror or error}); choose a place with room and permission"
            ) from error
        written.append(path)
    return written


def _capability() -> float:
    """Seconds; see `MaceRunResult`."""
    pairs = [
        (np.ones((side * side, into), np.float32), np.ones((into, out), np.float32)) for side, into, out in _POINTWISE
    ]
    least = math.inf
    for _ in range(_REPEATS):
        before = time.perf_counter()
        for one, other in pairs:
            one @ other
        least = min(least, time.perf_counter() - before)
    return least
