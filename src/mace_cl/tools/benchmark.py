"""Measure a model: start, latency, each operation, memory; and other engines beside it."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mace_cl.errors import InputError, MaceClError, StorageError
from mace_cl.tools.common import DeviceName, Progress, check_writable

if TYPE_CHECKING:
    from mace_cl.benchmark.operations import Operation, Stay
    from mace_cl.benchmark.pairs import Engine, Latencies, Pair, Throughput

__all__ = ["BenchmarkArgs", "BenchmarkResult", "Machine", "Memory", "Start", "run"]

_PROFILED_RUNS = 10
_CEILINGS = ("flops", "far_bytes", "near_bytes")
_MOST_RATE = 1e18


@dataclass(frozen=True)
class BenchmarkArgs:
    """``runs`` are timed after ``warm_up`` runs that follow the first; ``rounds`` pairs of blocks are measured
    with each of ``peers``, which get ``threads`` threads (None: as many as there are processors).  With more than
    one of ``streams``, runs per second are measured with one and with as many at a time.  The rest is as for
    `mace_cl.Runtime`.
    """

    model: Path
    runs: int = 100
    warm_up: int = 10
    peers: tuple[str, ...] = ()
    rounds: int = 12
    streams: int = 1
    threads: int | None = None
    html: Path | None = None
    program: Path | None = None
    device: str | None = None
    store: bool | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    runtime: str | None = None
    provider: str | None = None
    exact: bool | None = None
    trust: bool | None = None
    jobs: int | None = None
    progress: Progress | None = None


@dataclass(frozen=True)
class Machine:
    """What was measured on."""

    processor: str
    processors: int
    system: str
    python: str
    mace_cl: str

    @classmethod
    def here(cls) -> Machine:
        from mace_cl import __version__

        name = platform.processor() or platform.machine()
        with suppress(OSError):
            text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
            if found := re.search(r"model name\s*:\s*(.+)", text):
                name = found[1].strip()
        return cls(name, _processors(), platform.platform(), platform.python_version(), __version__)


@dataclass(frozen=True)
class Start:
    """``init`` and ``first_run`` in seconds; ``steps`` are those of init.  ``code`` says which program was used."""

    code: str
    sentence: str
    init: float
    first_run: float
    steps: dict[str, float]


@dataclass(frozen=True)
class Memory:
    """In bytes: the arena that all activations share, the packed weights, and what the process holds.

    ``peak`` of the process is the most it held until its first output; ``anonymous`` is its own memory after,
    ``file`` what it has mapped of files: weights, and drivers' libraries.
    """

    arena: int
    constants: int
    peak: int | None
    anonymous: int | None
    file: int | None


@dataclass(frozen=True)
class BenchmarkResult:
    """``cold`` is a start that compiled, if there was one; ``ceilings`` are per second, None where not measured.

    ``warm_up`` is the average of the warm-up runs in seconds.  ``absent`` holds for each peer that was not
    measured the reason.  ``interrupted`` says that somebody stopped it before all was measured.  ``times`` are the
    seconds of each run that ``latency`` sums up.
    """

    model: Path
    machine: Machine
    device: DeviceName
    cold: Start | None
    start: Start
    warm_up: float
    latency: Latencies
    operations: tuple[Operation, ...]
    ceilings: dict[str, float] | None
    memory: Memory
    stays: tuple[Stay, ...]
    pairs: tuple[Pair, ...]
    absent: dict[str, str]
    interrupted: bool
    throughput: tuple[Throughput, ...] = ()
    times: tuple[float, ...] = field(default=(), repr=False)


def run(args: BenchmarkArgs) -> BenchmarkResult:
    """Measure; every engine in a process of its own.

    When it is interrupted after the model itself was measured, it gives what it has.

    Raises:
        InputError: an argument does not fit.
        StorageError: the page can't be written.
        MaceClError: as `mace_cl.Runtime`, or a process died.
    """
    from mace_cl.benchmark.engines import PEERS, missing
    from mace_cl.benchmark.operations import Operation, Stay
    from mace_cl.benchmark.pairs import Engine, Latencies, in_turns, throughput
    from mace_cl.settings import Settings

    if not args.model.exists():
        raise InputError(f"{args.model}: no such file; check the path")
    if args.program is not None:
        _check_program(args)
    if unknown := [peer for peer in args.peers if peer not in PEERS]:
        raise InputError(f"--peers: {', '.join(unknown)}: no such engine; known are {', '.join(PEERS)}")
    if args.html is not None:
        check_writable(args.html)
    if args.peers and _is_program(args.model):
        raise InputError(f"{args.model}: is a compiled program, which peers can't read; give the ONNX model")
    settings = Settings.load(device=args.device, store=args.store, jobs=args.jobs, runtime=args.runtime)
    report = args.progress or (lambda what, done, total: None)
    threads = args.threads or _processors()
    absent = {peer: why for peer in args.peers if (why := missing(peer, args.model))}
    own = {
        "model": str(args.model), "program": str(args.program) if args.program else None, "device": settings.device,
        "store": settings.store, "jobs": settings.jobs, "threads": threads, "outputs": bool(args.peers),
        "options": {
            "outputs": list(args.outputs), "runtime": args.runtime, "provider": args.provider, "exact": args.exact,
        },
        "trust": args.trust, "shapes": {name: list(shape) for name, shape in args.shapes.items()},
    }  # fmt: skip
    with ExitStack() as stack:
        ours = stack.enter_context(Engine("mace-cl"))
        report("starting", 0, 1)
        ours.load(own, args.progress)
        cold = None
        if "compile" in ours.loaded["timings"]:
            cold = _start(ours)
            if settings.store or args.program:
                stack.close()
                ours = stack.enter_context(Engine("mace-cl"))
                ours.load(own, args.progress)
        warm = ours.block(args.warm_up) if args.warm_up else []
        times: list[float] = []
        while len(times) < args.runs:
            report("measuring latency", len(times), args.runs)
            times += ours.block(min(10, args.runs - len(times)))
        profiled = ours.ask({"do": "profile", "runs": _PROFILED_RUNS}, args.progress)
        found = tuple(Operation(**one) for one in profiled["operations"])
        memory = ours.loaded["memory"]
        report("measuring the device's ceilings", 0, 1)
        ceilings = _ceilings(settings, ours)
        pairs: tuple[Pair, ...] = ()
        rates: tuple[Throughput, ...] = ()
        interrupted = False
        try:
            peers: list[Engine] = []
            for peer in (peer for peer in args.peers if peer not in absent):
                report(f"loading {peer}", len(peers), len(args.peers) - len(absent))
                engine = stack.enter_context(Engine(peer))
                try:
                    engine.load({**own, "ports": ours.loaded["ports"]})
                    peers.append(engine)
                except MaceClError as error:
                    absent[peer] = str(error)
            if peers:
                for number, round_ in enumerate(in_turns(ours, peers, args.rounds), 1):
                    pairs = tuple(round_.values())
                    best = ", ".join(f"{pair.peer} {pair.ratio:.2f}" for pair in pairs)
                    report(f"in turns with {best}" if number == 1 else "in turns with peers", number, args.rounds)
            if args.streams > 1:
                report(f"throughput of {args.streams} streams", 0, 1)
                rates = throughput([ours, *peers], (1, args.streams))
        except KeyboardInterrupt:
            interrupted = True
        result = BenchmarkResult(
            args.model, Machine.here(), DeviceName(**ours.loaded["device"]), cold, _start(ours),
            sum(warm) / len(warm) if warm else 0.0, Latencies.of(times), found, ceilings,
            Memory(
                ours.loaded["arena"], ours.loaded["constants"],
                memory.get("peak"), memory.get("anonymous"), memory.get("file"),
            ),
            tuple(Stay(**one) for one in profiled["stays"]), pairs, absent, interrupted, rates,
            tuple(times),
        )  # fmt: skip
    if args.html is not None:
        from mace_cl.program.format import replace_file
        from mace_cl.tools.benchmark_page import page

        replace_file(args.html, [page(result).encode()])
    return result


def _check_program(args: BenchmarkArgs) -> None:
    if _is_program(args.model):
        raise InputError(f"{args.model} is a compiled program; --program goes with a model")


def _is_program(path: Path) -> bool:
    from mace_cl.program.format import is_program

    try:
        with path.open("rb") as file:
            return is_program(file.read(16))
    except OSError as error:
        raise StorageError(f"{path}: can't be read ({error.strerror}); check its permissions") from error


def _start(ours: Engine) -> Start:
    said = ours.loaded
    decision = said["decision"]
    return Start(decision["code"], decision["sentence"], said["init"], said["first_run"], said["timings"])


def _ceilings(settings: Any, ours: Engine) -> dict[str, float] | None:
    """The most that the device has shown, now or before (the store keeps it); None where it can't be measured.

    Now alone does not do: on a shared machine two processors are at times one.
    """
    from mace_cl.benchmark.pairs import Engine
    from mace_cl.program.format import replace_file
    from mace_cl.program.store import Store

    path = settings.store_dir / f"ceilings-{ours.loaded['signature'][:32]}.json"
    kept: dict[str, float] = {}
    if settings.store:
        with suppress(OSError, ValueError, KeyError, TypeError):
            read = json.loads(path.read_text(encoding="ascii"))
            kept = {name: value for name in _CEILINGS if 0 < (value := float(read[name])) < _MOST_RATE}
    try:
        with Engine("the ceilings") as engine:
            said = engine.ask({"do": "ceilings", "device": ours.loaded["device"]["runtime"]})
    except MaceClError:
        return kept if len(kept) == len(_CEILINGS) else None
    found = {name: max(said[name], kept.get(name, 0.0)) for name in _CEILINGS}
    if settings.store and found != kept:
        with suppress(StorageError):
            Store(settings.store_dir).prepare()
            replace_file(path, [json.dumps(found).encode()])
    return found


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
