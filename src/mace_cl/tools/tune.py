"""Tune a model's kernels for a device; show, export and import what is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mace_cl.errors import InputError, StorageError
from mace_cl.tools.common import DeviceName, Progress

if TYPE_CHECKING:
    from mace_cl.tune.records import Records
    from mace_cl.tune.search import State, Summary

__all__ = [
    "KnownRecord", "MovedResult", "ShowResult", "TuneArgs", "TuneResult", "export", "import_", "run", "show",
]  # fmt: skip


@dataclass(frozen=True)
class TuneArgs:
    """As the parameters of `mace_cl.engine.tune_model`."""

    model: Path
    budget: float = 60.0
    device: str | None = None
    program: Path | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    jobs: int | None = None
    store: bool | None = None
    runtime: str | None = None
    provider: str | None = None
    exact: bool | None = None
    trust: bool | None = None
    progress: Progress | None = None
    watch: Callable[[State], None] | None = None


@dataclass(frozen=True)
class TuneResult:
    """What came of it, and the file of records, None where they are not kept."""

    device: DeviceName
    summary: Summary
    records: Path | None


@dataclass(frozen=True)
class KnownRecord:
    """A problem's best parameters as measured on ``device``, and what that means for the device at hand.

    ``rung`` is that of the ladder, or "other kernels" where the kernel's text has changed since.
    """

    problem: str
    parameters: str
    device: str
    driver: str
    rung: str
    microseconds: float
    noise: float
    pairs: int
    date: str


@dataclass(frozen=True)
class ShowResult:
    """The file of records, how many candidates it tells of, and the best of each problem and device."""

    device: DeviceName
    file: Path
    measured: int
    records: tuple[KnownRecord, ...]


@dataclass(frozen=True)
class MovedResult:
    """How many records went from one file to another; ``known`` were there before."""

    source: Path
    target: Path
    records: int
    known: int = 0


def run(args: TuneArgs) -> TuneResult:
    """Tune, and compile the model with what was found; raises as `mace_cl.engine.tune_model`."""
    from mace_cl.device import find
    from mace_cl.engine import tune_model
    from mace_cl.settings import Settings
    from mace_cl.tune.records import records_path

    if not args.model.exists():
        raise InputError(f"{args.model}: no such file; check the path")
    settings = Settings.load(device=args.device, store=args.store)
    device = find(settings.device, alone=True)
    summary = tune_model(
        args.model, args.budget, device=device, program=args.program, shapes=args.shapes or None, outputs=args.outputs,
        jobs=args.jobs, store=settings.store, runtime=args.runtime, provider=args.provider, exact=args.exact,
        trust=args.trust, progress=args.progress, watch=args.watch,
    )  # fmt: skip
    return TuneResult(DeviceName.of(device), summary, records_path(settings.store_dir) if settings.store else None)


def show(device: str | None = None) -> ShowResult:
    """The records that count.

    Raises:
        DeviceError: no device fits.
    """
    import json

    from mace_cl.device import find
    from mace_cl.settings import Settings
    from mace_cl.tune.records import described, place_of, rung_of
    from mace_cl.tune.space import digest, named

    settings = Settings.load(device=device)
    chosen = find(settings.device, alone=True)
    records, here = _records(settings.store_dir), place_of(chosen)
    known = tuple(
        KnownRecord(
            named(one.family, json.loads(one.problem)), described(dict(one.parameters)), one.place.name,
            one.place.driver, rung_of(one.place, here) if one.kernels == digest(one.family) else "other kernels",
            one.seconds * 1e6, one.noise, one.pairs, one.date,
        )
        for one in records.best()
    )  # fmt: skip
    return ShowResult(DeviceName.of(chosen), records.path or Path(), len(records), known)


def export(target: Path) -> MovedResult:
    """Write the records that count to a file that others can import.

    Raises:
        InputError: there are none.
        StorageError: the file can't be written.
    """
    from mace_cl.settings import Settings

    records = _records(Settings.load().store_dir)
    best = records.best()
    assert records.path is not None
    if not best:
        raise InputError(f"{records.path}: holds no tuning records yet; `mace-cl tune MODEL` makes them")
    try:
        target.write_text("".join(one.line() + "\n" for one in best), encoding="ascii")
    except OSError as error:
        raise StorageError(f"{target}: can't be written ({error.strerror})") from error
    return MovedResult(records.path, target, len(best))


def import_(source: Path) -> MovedResult:
    """Take over the best records of a file that may come from anybody; all of it or nothing.

    Raises:
        InputError: a line is no record that mace-cl could have written.
        StorageError: a file can't be read or written.
    """
    from mace_cl.settings import Settings
    from mace_cl.tune.records import read_strictly

    given = [one for one in read_strictly(source) if one.verdict == "best"]
    records = _records(Settings.load().store_dir)
    assert records.path is not None
    known = set(records)
    fresh = [one for one in dict.fromkeys(given) if one not in known]
    # what was measured here stays the last word
    mine = [one for one in records.best() if (one.place, one.key) in {(new.place, new.key) for new in fresh}]
    records.add(*fresh, *mine)
    return MovedResult(source, records.path, len(fresh), len(given) - len(fresh))


def _records(store_dir: Path) -> Records:
    from mace_cl.tune.records import Records, records_path

    return Records(records_path(store_dir))
