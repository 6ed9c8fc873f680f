"""The demonstration: what a compiled program saves, measured on this machine, now."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from mace_cl import errors
from mace_cl.tools.common import PROGRAM_NAME, DeviceName, Progress
from mace_cl.tools.fresh import PACKAGE_ROOT, environment

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mace_cl.device import Device

__all__ = ["AGREEMENT", "DemoArgs", "DemoResult", "Row", "run"]

AGREEMENT = 1e-4
"""The greatest difference to ONNX Runtime that is right, relative to the greatest element of an output."""

_WARM_STARTS = 5
_STEPS = 3 + _WARM_STARTS
_CHILD = f"import sys; sys.path.insert(0, {PACKAGE_ROOT!r}); from mace_cl.demo.child import main; sys.exit(main())"


@dataclass(frozen=True)
class DemoArgs:
    """``keep`` is a directory for the models and programs; without it they are removed at the end."""

    device: str | None = None
    keep: Path | None = None
    progress: Progress | None = None


@dataclass(frozen=True)
class Row:
    """One model.

    ``cold`` and ``warm`` are seconds from the start of a process to its first output, with nothing
    compiled or cached anywhere and from the program file (the median of ``warm_starts``); ``tax`` is
    what they differ by.  ``latency`` is the median of ``runs`` runs, in seconds.  ``right`` of
    ``images`` held-out images were classified right; None where the weights know no images.
    ``difference`` is the greatest one to ONNX Runtime, relative to the greatest element of the
    output; None where it is not installed.
    """

    model: str
    program: Path
    model_bytes: int
    program_bytes: int
    cold: float
    warm: float
    warm_starts: tuple[float, ...]
    tax: float
    latency: float
    runs: int
    right: int | None
    images: int | None
    difference: float | None
    cold_timings: dict[str, float]
    warm_timings: dict[str, float]


@dataclass(frozen=True)
class DemoResult:
    """The rows of the table, and what they were measured on."""

    device: DeviceName
    reference: str | None
    kept: Path | None
    rows: tuple[Row, ...]


def run(args: DemoArgs) -> DemoResult:
    """Measure two classifiers, each start in a process of its own.

    Raises:
        ProgramError: a start did not use the program that the one before it wrote.
        MaceClError: the answers differ from ONNX Runtime's by more than `AGREEMENT`, or a process failed.
        StorageError: ``keep`` can't be written.
        DeviceError: no device fits.
    """
    from mace_cl.device import find
    from mace_cl.settings import Settings

    device = find(Settings.load(device=args.device).device, alone=True)
    with _folder(args.keep) as folder:
        rows, versions = zip(
            *(_measure(name, folder, device, args) for name in ("digits", "mobilenet-v2")), strict=True
        )
    return DemoResult(DeviceName.of(device), versions[0], args.keep, rows)


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    try:
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            yield keep
        else:
            with tempfile.TemporaryDirectory(prefix="mace-cl-demo-") as folder:
                yield Path(folder)
    except errors.StorageError:
        raise
    except OSError as error:
        raise errors.StorageError(
            f"{error.filename or keep}: can't be written ({error.strerror}); name another directory with --keep"
        ) from error


def _measure(name: str, folder: Path, device: Device, args: DemoArgs) -> tuple[Row, str | None]:
    import numpy as np

    report = args.progress or (lambda what, done, total: None)
    report(f"{name}: preparing", 0, _STEPS)
    home = folder / name
    home.mkdir(exist_ok=True)
    model, program, inputs = home / f"{name}.onnx", home / PROGRAM_NAME, home / "inputs.npy"
    labels = _write_model(name, model, inputs)
    program.unlink(missing_ok=True)
    request = {
        "model": str(model), "program": str(program), "inputs": str(inputs),
        "device": device.runtime, "signature": device.signature.digest(),
    }  # fmt: skip

    def progress(what: str, done: int, total: int) -> None:
        report(f"{name}: {what}", done, total)

    cold, first = _timed(request | {"do": "cold"}, progress)
    _expect(first, "no-file", name)
    warm = []
    for number in range(_WARM_STARTS):
        report(f"{name}: starting again", number, _WARM_STARTS)
        last = number == _WARM_STARTS - 1
        outputs = {"outputs": str(home / "outputs.npy")} if last else {}
        seconds, again = _timed(request | {"do": "warm"} | outputs, progress)
        _expect(again, "hit", name)
        warm.append(seconds)
    report(f"{name}: comparing", 0, 1)
    reference = home / "reference.npy"
    version = _child(request | {"do": "reference", "outputs": str(reference)}, progress)["version"]
    answers = np.load(home / "outputs.npy", allow_pickle=False)
    difference = _difference(name, answers, np.load(reference, allow_pickle=False)) if version else None
    right = int((answers.argmax(1) == labels).sum()) if labels is not None else None
    row = Row(
        name, program, model.stat().st_size, program.stat().st_size, cold, median(warm), tuple(warm),
        cold - median(warm), median(again["latency"]), len(again["latency"]), right,
        None if labels is None else len(labels), difference, first["timings"], again["timings"],
    )  # fmt: skip
    report(f"{name}: comparing", 1, 1)
    return row, version


def _write_model(name: str, model: Path, inputs: Path) -> NDArray[Any] | None:
    """Write a model and its inputs, and return the inputs' labels if they have any."""
    import numpy as np

    from mace_cl.demo import models

    if name == "digits":
        shutil.copyfile(models.DIGITS, model)
        images, labels = models.digits_held_out()
        np.save(inputs, images)
        return labels
    model.write_bytes(models.mobilenet_v2())
    np.save(inputs, np.random.default_rng(0).standard_normal((4, 3, 224, 224), np.float32))
    return None


def _timed(request: dict[str, Any], progress: Progress) -> tuple[float, dict[str, Any]]:
    """Seconds from before the process to its first output, and its answer."""
    before = time.monotonic()
    answer = _child(request, progress)
    return answer["first_output"] - before, answer


def _child(request: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """A process that finds no driver's cache filled and none of ours."""
    answer: dict[str, Any] | None = None
    with environment() as variables, tempfile.TemporaryFile("w+") as log:
        command = [sys.executable, "-c", _CHILD, json.dumps(request)]
        with subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=log, text=True) as process:
            try:
                assert process.stdout is not None
                for line in process.stdout:
                    said = json.loads(line) if line.startswith("{") else {}
                    if "progress" in said:
                        progress(*said["progress"])
                    answer = said.get("answer", answer)
                code = process.wait()
            finally:
                process.kill()
        log.seek(0)
        tail = " / ".join(log.read().strip().splitlines()[-3:])
    if answer is None or code:
        raise errors.MaceClError(f"a process of the demonstration ({request['do']}) ended with {code}: {tail}")
    if "error" in answer:
        raise getattr(errors, answer["error"], errors.MaceClError)(answer["message"])
    return answer


def _expect(answer: dict[str, Any], code: str, name: str) -> None:
    if answer["code"] != code:
        raise errors.ProgramError(
            f"{name}: the start should have been {code!r}, but was {answer['code']!r}: {answer['sentence']} "
            "Its times mean nothing; please report this"
        )


def _difference(name: str, found: NDArray[Any], wanted: NDArray[Any]) -> float:
    """The greatest difference over the greatest element, for the worst input."""
    import numpy as np

    scale = np.abs(wanted).max(1)
    difference = float((np.abs(found - wanted).max(1) / scale).max())
    if not difference <= AGREEMENT:  # NaN too
        raise errors.MaceClError(
            f"{name}: the answers differ from ONNX Runtime's by {difference:.2g} of the output's greatest element, "
            f"more than {AGREEMENT:.0e}; please report this with the output of `mace-cl devices --json`"
        )
    return difference
