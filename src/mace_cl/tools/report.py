"""One page on a model and its compiled program: made, started, measured and compared, here and now."""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mace_cl.errors import HostError, InputError, MaceClError, ProgramError, StorageError
from mace_cl.schedule import CPU, Place
from mace_cl.tools.common import PROGRAM_NAME, DeviceName, Progress, check_writable

if TYPE_CHECKING:
    from mace_cl.device import Device
    from mace_cl.program.format import Opened
    from mace_cl.program.inspect import Inspection, TargetView
    from mace_cl.tools.advice import Note
    from mace_cl.tools.benchmark import BenchmarkResult
    from mace_cl.tools.validate import ValidateResult

__all__ = ["Pass", "ReportArgs", "ReportResult", "Start", "Step", "run"]

T = TypeVar("T")


@dataclass(frozen=True)
class Step:
    """A step of the deployment: its command as a user would type it, the seconds it took, and what came of it."""

    name: str
    command: str
    seconds: float
    result: str


@dataclass(frozen=True)
class ReportArgs:
    """What to report on, a model or a compiled program, and where to write it.

    ``program`` is a compiled program of the model, to be described; where it does not exist, it is written.  Without
    it, one is made and thrown away.  ``warm_starts`` are starts from the program file, each in a process of its own,
    ``runs`` the timed runs.  ``before`` are steps that the caller did to get here: they head the list of
    steps.  ``pdf`` gets the same page by a browser.  The rest is as for `mace_cl.Runtime`.
    """

    model: Path
    output: Path = Path("report.html")
    pdf: Path | None = None
    program: Path | None = None
    runs: int = 100
    warm_starts: int = 5
    before: tuple[Step, ...] = ()
    device: str | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    runtime: str | None = None
    provider: str | None = None
    exact: bool | None = None
    store: bool | None = None
    jobs: int | None = None
    trust: bool | None = None
    progress: Progress | None = None


@dataclass(frozen=True)
class Start:
    """A start in a process of its own: ``seconds`` from its beginning to the first output, and ``steps`` thereof.

    ``code`` and ``sentence`` say which program was used and why.
    """

    code: str
    sentence: str
    seconds: float
    steps: dict[str, float]


@dataclass(frozen=True)
class Pass:
    """A pass over the graph: how many nodes there were before and after, and its seconds."""

    name: str
    before: int
    after: int
    seconds: float


@dataclass(frozen=True)
class ReportResult:
    """What the page says.

    ``cold`` is a start without compiled kernels and with empty caches; ``first`` the first one from a file that was
    given, whose binaries were not known to work; ``warm`` those from the program file.  ``passes`` ran once more for
    this report.  ``places`` are where each node runs, ``target`` the part of the program that was used.  ``absent``
    says why a part is missing: ``cold``, ``passes``, ``accuracy``.
    """

    name: str
    created: str
    output: Path
    pdf: Path | None
    model: Path | None
    model_bytes: int | None
    device: Device
    program: Inspection
    target: int
    steps: tuple[Step, ...]
    cold: Start | None
    first: Start | None
    warm: tuple[Start, ...]
    passes: tuple[Pass, ...]
    places: tuple[Place, ...]
    benchmark: BenchmarkResult
    accuracy: ValidateResult | None
    notes: tuple[Note, ...]
    absent: dict[str, str]


def run(args: ReportArgs) -> ReportResult:
    """Make, start, measure and compare; then write the page, and print it if ``pdf`` is set.

    Kernels are compiled for the measure though the store may have them.  Besides the page, ``program`` is written
    where it does not exist, and beside the page the inputs of a comparison that failed.

    Raises:
        InputError: an argument does not fit, or ``program`` is of another model or of other options.
        ProgramError: the program can't be used here as it is.
        HostError: a PDF is wanted, and there is no browser to make it.
        StorageError: a file can't be written.
        MaceClError: as `mace_cl.Runtime`.
    """
    from mace_cl.program.format import replace_file
    from mace_cl.tools import browser
    from mace_cl.tools.report_page import page

    for path in (args.output, args.pdf):
        if path is not None:
            check_writable(path)
    if args.pdf is not None:
        browser.find()
    with tempfile.TemporaryDirectory(prefix="mace-cl-report-") as folder:
        result = _Report(args, Path(folder)).result()
    replace_file(args.output, [page(result).encode()])
    if args.pdf is not None:
        browser.print_pdf(args.output, args.pdf)
    return result


class _Report:
    """The work, whose files lie in ``folder``."""

    def __init__(self, args: ReportArgs, folder: Path) -> None:
        from mace_cl.device import find
        from mace_cl.engine import opened_if_program
        from mace_cl.settings import Settings

        if not args.model.exists():
            raise InputError(f"{args.model}: no such file; check the path")
        if args.warm_starts < 1 or args.runs < 1:
            raise InputError("a report needs at least one start from the file and one run")
        self._args, self._folder = args, folder
        self._settings = Settings.load(
            device=args.device, store=args.store, jobs=args.jobs, runtime=args.runtime, provider=args.provider,
            exact=args.exact,
        )  # fmt: skip
        self._given = opened_if_program(args.model, self._settings)
        if self._given is not None and (args.program or args.shapes or args.outputs):
            raise InputError(f"{args.model} is a compiled program; program, shapes and outputs go with a model")
        self._device = find(self._settings.device, alone=True)
        self._name = args.model.name if self._given is None else self._given.program.model.name
        self._program, self._store = folder / PROGRAM_NAME, folder / "store"
        self._shown = (args.program or Path(PROGRAM_NAME)).name if self._given is None else args.model.name
        self._steps: list[Step] = list(args.before)
        self._absent: dict[str, str] = {}
        self._report: Progress = args.progress or (lambda what, done, total: None)
        self._store.mkdir()
        self._copy_records()

    def result(self) -> ReportResult:
        from mace_cl.tools import inspect
        from mace_cl.tools.advice import Facts, notes

        args, device = self._args, self._device
        existing = args.model if self._given is not None else args.program
        if existing is not None and existing.exists():
            seen = inspect.of_program(existing).inspection
            self._check(existing, seen)
            _copy(existing, self._program)
            if self._given is not None:
                cold = self._cold_of_a_program(self._given, seen)
            else:
                cold = self._cold(self._folder / "cold.bin")
            self._store = self._folder / "another store"  # the cold start's knows that such binaries work
            self._store.mkdir()
        else:
            existing = None
            cold = self._cold(self._program)
            seen = inspect.of_program(self._program).inspection
            if args.program is not None:
                _copy(self._program, args.program)
        first, warm, places, target = self._warm()
        measured = self._measured()
        accuracy, passes = self._compared(), self._passes(seen.targets[target])
        facts = Facts(
            device,
            hosted=sum(one.on == "host" for one in places),
            spread=measured.latency.p99 / (measured.latency.p50 or 1.0),
            differs=accuracy is not None and any(one.maximum > 0 for one in accuracy.outputs),
            part_of_cores=hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) != os.cpu_count(),
            unproven=first is not None and "proof" in first.steps,
            safe="safe kernels" in dict(seen.targets[target].provenance),
        )
        return ReportResult(
            self._name, time.strftime("%Y-%m-%d %H:%M %z"), args.output, args.pdf,
            None if self._given is not None else args.model,
            args.model.stat().st_size if self._given is None and args.model.is_file() else None,
            device, replace(seen, file=str(existing or self._shown)), target, tuple(self._steps), cold, first, warm,
            passes, places, measured, accuracy, notes(facts), self._absent,
        )  # fmt: skip

    def _copy_records(self) -> None:
        """What was tuned counts for the cold start too."""
        from mace_cl.tune.records import records_path

        records = records_path(self._settings.store_dir)
        if self._settings.store and records.is_file():
            _copy(records, records_path(self._store))

    def _check(self, program: Path, seen: Inspection) -> None:
        if self._given is not None:
            inside = any(target.constants_inside for target in seen.targets)
        else:
            from mace_cl.engine import compile_options
            from mace_cl.identity import model_sha256

            inside = all(target.constants_inside for target in seen.targets)
            if seen.model.sha256 != model_sha256(self._args.model):
                raise InputError(f"{program}: was compiled from another model ({seen.model.name}) than {self._name}")
            wanted = compile_options(self._settings, self._args.shapes or None, self._args.outputs)
            if seen.options != wanted:
                own, other = (", ".join("=".join(pair) for pair in pairs) or "none" for pairs in (seen.options, wanted))
                raise InputError(f"{program}: was compiled with the options {own}, but those given are {other}")
        if not inside:
            raise InputError(f"{program}: holds no weights, so it can't be started alone; compile it with --bake")
        from mace_cl.tools import why

        foreseen = why.run(why.WhyArgs(program, device=self._args.device, store=self._args.store))
        if foreseen.action != "use":
            raise ProgramError(
                f"{foreseen.sentence} A report is on a program that is used as it is; `mace-cl run {program} --random` "
                "adds what is missing"
            )

    def _cold(self, program: Path) -> Start:
        self._report("cold start", 0, 1)
        arguments = ["--program", str(program), *self._graph_options()]
        return self._start("compile and first run, with empty caches", self._args.model, arguments)[0]

    def _graph_options(self) -> list[str]:
        """The options that go with the model."""
        args = self._args
        options = [
            word for name, shape in args.shapes.items() for word in ("--shape", f"{name}={','.join(map(str, shape))}")
        ]
        for option, value in (
            ("--outputs", ",".join(args.outputs)), ("--runtime", args.runtime), ("--provider", args.provider),
        ):  # fmt: skip
            options += [option, value] if value else []
        options += ["--exact"] if args.exact else []
        return [*options, "--trust"] if args.trust else options

    def _cold_of_a_program(self, opened: Opened, seen: Inspection) -> Start | None:
        """A start from the sources inside, as under a driver that the file has never met."""
        from mace_cl.program.edit import strip
        from mace_cl.program.format import write

        if seen.encrypted_with:
            self._absent["cold"] = "the file is encrypted, and can't be written anew without its binaries"
            return None
        bare = self._folder / "sources-only.bin"
        write(strip(opened.program, binaries=True), bare)
        self._report("cold start", 0, 1)
        return self._start("compile from the sources in the file, with empty caches", bare, [])[0]

    def _warm(self) -> tuple[Start | None, tuple[Start, ...], tuple[Place, ...], int]:
        first: Start | None = None
        warm: list[Start] = []
        said: dict[str, Any] = {}
        before = time.perf_counter()
        for number in range(self._args.warm_starts + 1):
            self._report("starts from the program file", number, self._args.warm_starts)
            found, said = self._start("", self._program, [])
            if number == 0 and (found.code != "hit" or "proof" in found.steps):
                first = found
            elif len(warm) < self._args.warm_starts:
                warm.append(found)
        command = self._command("run", self._shown, "--random", "--timings")
        seconds = time.perf_counter() - before
        result = f"{len(warm)} starts, {sorted(one.seconds for one in warm)[len(warm) // 2] * 1e3:.0f} ms in the median"
        self._steps.append(Step("start from the program file", command, seconds, result))
        target = said["decision"]["target"]
        return first, tuple(warm), tuple(Place(**one) for one in said["where"]), 0 if target is None else target

    def _start(self, name: str, source: Path, arguments: Sequence[str]) -> tuple[Start, dict[str, Any]]:
        from mace_cl.tools import fresh

        options = ["--random", "--timings", "--where"]
        for option, value in (("--device", self._args.device), ("--jobs", self._args.jobs)):
            options += [option, str(value)] if value else []
        before = time.perf_counter()
        said = fresh.run(["run", str(source), *arguments, *options], self._store, self._report if name else None)
        if (used := DeviceName(**said["device"])) != DeviceName.of(self._device):
            raise MaceClError(f"a start used {used} in place of {DeviceName.of(self._device)}; name one with --device")
        steps = said["timings"]
        found = Start(said["decision"]["code"], said["decision"]["sentence"], sum(steps.values()), steps)
        if name:
            shown = self._args.model.name if self._given is None else self._shown
            given = [self._shown if one.endswith(".bin") and Path(one).parent == self._folder else one
                     for one in arguments]  # fmt: skip
            command = self._command("run", shown, *given, "--random", "--timings")
            result = f"first output {found.seconds:.2f} s after the start of the process"
            self._steps.append(Step(name, command, time.perf_counter() - before, result))
        return found, said

    def _measured(self) -> BenchmarkResult:
        from mace_cl.tools import benchmark

        args = self._args
        asked = benchmark.BenchmarkArgs(
            self._program, runs=args.runs, device=args.device, store=args.store, jobs=args.jobs, progress=args.progress
        )
        return self._timed(
            "measure", ("benchmark", self._shown, "--runs", str(args.runs)), lambda: benchmark.run(asked),
            lambda found: f"p50 {found.latency.p50 * 1e3:.3f} ms over {found.latency.runs} runs",
        )  # fmt: skip

    def _compared(self) -> ValidateResult | None:
        from mace_cl.tools import validate

        args = self._args
        if self._given is not None:
            self._absent["accuracy"] = "no source model was given, only its compiled program"
            return None
        saved = args.output.with_name(f"{args.output.stem}-inputs.npz")
        asked = validate.ValidateArgs(
            args.model, program=self._program, save=saved, shapes=args.shapes, outputs=args.outputs,
            device=args.device, runtime=args.runtime, provider=args.provider, exact=args.exact, store=args.store,
            jobs=args.jobs, trust=args.trust, progress=args.progress,
        )  # fmt: skip
        self._report("comparing with the reference", 0, 1)
        try:
            return self._timed(
                "compare",
                ("validate", self._name, "--program", self._shown, *self._graph_options()), lambda: validate.run(asked),
                lambda found: f"with {found.reference}: "
                + ("passed" if found.passed else f"failed; the inputs are in {saved.name}"),
            )  # fmt: skip
        except (HostError, InputError) as error:
            self._absent["accuracy"] = str(error)
            return None

    def _passes(self, target: TargetView) -> tuple[Pass, ...]:
        """The passes once more, each counted and timed, with what the program put on the host there."""
        if self._given is not None:
            self._absent["passes"] = "no source model was given"
            return ()
        from mace_cl.frontends.read import load
        from mace_cl.passes.pipeline import PASSES, SIMPLIFYING
        from mace_cl.passes.place import Host, PlacePass, add_types
        from mace_cl.runtime.host import inferred

        providers = {name: host.provider for host in target.hosts for name in host.nodes}
        hosts = {node.name: Host(node.reason, providers.get(node.name, CPU)) for node in target.nodes if node.reason}
        made: list[Pass] = []

        def through(model: Any, passes: Sequence[Any]) -> Any:
            for one in passes:
                before, begin = len(model.graph), time.perf_counter()
                model = one(model).model
                made.append(Pass(type(one).__name__, before, len(model.graph), time.perf_counter() - begin))
            return model

        self._report("counting nodes over the passes", 0, 1)
        try:
            args = self._args
            graph = load(args.model, args.shapes or None, args.outputs, trust=bool(args.trust))
            model = through(graph, SIMPLIFYING)
            if add_types(model, inferred):
                model = through(model, SIMPLIFYING)
            through(model, (PlacePass(hosts), *PASSES))
        except MaceClError as error:
            self._absent["passes"] = str(error)
        return tuple(made)

    def _timed(self, name: str, command: Sequence[str], work: Callable[[], T], said: Callable[[T], str]) -> T:
        before = time.perf_counter()
        found = work()
        self._steps.append(Step(name, self._command(*command), time.perf_counter() - before, said(found)))
        return found

    def _command(self, *words: str) -> str:
        device = ("--device", self._args.device) if self._args.device else ()
        return shlex.join(["mace-cl", *words, *device])


def _copy(source: Path, target: Path) -> None:
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        raise StorageError(f"{source}: can't be copied to {target} ({error.strerror})") from error
