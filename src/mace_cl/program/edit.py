"""Programs made of programs: joined, cut, compared.  Pure; what is given is never changed.

Equal content needs no care here: the file holds it once, however many targets use it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from mace_cl.device.signature import Signature
from mace_cl.errors import ProgramError
from mace_cl.program.bucket import Bucket
from mace_cl.program.policy import same_device
from mace_cl.program.program import Program, Target
from mace_cl.schedule import Kernel

__all__ = [
    "KEPT_DRIVERS",
    "MOST_TARGETS",
    "Change",
    "Difference",
    "TargetDifference",
    "add_target",
    "diff",
    "extract",
    "merge",
    "strip",
]

MOST_TARGETS = 32
"""`add_target` keeps at most so many targets; the oldest make room."""

KEPT_DRIVERS = 2
"""`add_target` keeps so many parts for one device that were made under other drivers, to go back to."""


def merge(programs: Sequence[Program]) -> Program:
    """One program with the targets of all, in their order; producer is that of the last.

    Where several hold a target of the same signature and bucket: if their schedules are equal, binaries and
    weights are taken from whichever has them, the later first; if not, the later target counts.

    Raises:
        ProgramError: nothing is given, or the models, options or engines differ.
    """
    if not programs:
        raise ProgramError("there is nothing to merge; name at least one compiled program.")
    first = programs[0]
    for other in programs[1:]:
        if other.model.sha256 != first.model.sha256:
            raise ProgramError(
                f"the programs are of different models, {first.model.name} ({first.model.sha256[:12]}…) and "
                f"{other.model.name} ({other.model.sha256[:12]}…); a file holds one."
            )
        if dict(other.options) != dict(first.options):
            raise ProgramError(
                f"the programs were made with different options, {_pairs(first)} and {_pairs(other)}; a file holds "
                "one set."
            )
        if other.engine != first.engine:
            raise ProgramError(
                f"the programs were made by different code, {first.producer} ({first.engine[:12]}…) and "
                f"{other.producer} ({other.engine[:12]}…); compile the model again for the devices of one of them."
            )
    targets: list[Target] = []
    for target in (target for program in programs for target in program.targets):
        place = next((n for n, there in enumerate(targets) if _key(first, there) == _key(first, target)), None)
        if place is None:
            targets.append(target)
        else:
            targets[place] = _united(targets[place], target)
    return replace(programs[-1], targets=tuple(targets))


def add_target(
    program: Program,
    target: Target,
    *,
    buckets: int = MOST_TARGETS,
    budget: int | None = None,
    last_use: Callable[[Target], float] = lambda target: 0.0,
) -> Program:
    """``program`` with ``target`` as its last, instead of one of the same signature and bucket if there is one.

    The targets come in the order in which they were added.  What was made for the same device under
    other drivers stays, for at most `KEPT_DRIVERS` of them, so that going back to a driver costs nothing;
    of all targets the newest `MOST_TARGETS` stay.

    Of the other buckets of the same signature those stay that ``last_use`` says were used last: with the new one
    at most ``buckets``, whose binaries and weights take ``budget`` bytes together.
    """
    others = _recent(program, target, buckets, budget, last_use) if program.inputs else set[int]()
    kept: list[Target] = []
    drivers: set[Signature] = set()
    for number, other in reversed(list(enumerate(program.targets))):
        if other.signature == target.signature and number not in others:
            continue
        if other.signature != target.signature and same_device(other.signature, target.signature):
            if len(drivers | {other.signature}) > KEPT_DRIVERS:
                continue
            drivers.add(other.signature)
        kept.append(other)
    newest = kept[: MOST_TARGETS - 1]
    return replace(program, targets=(*reversed(newest), target))


def _recent(
    program: Program, target: Target, buckets: int, budget: int | None, last_use: Callable[[Target], float]
) -> set[int]:
    """The indices of the other buckets of ``target``'s signature that stay beside it."""
    numbers = [
        number
        for number, other in enumerate(program.targets)
        if other.signature == target.signature and other.bucket != target.bucket
    ]
    numbers.sort(key=lambda number: (last_use(program.targets[number]), number), reverse=True)
    kept, held = set[int](), set[bytes]()
    total = _added(target, held)
    for number in numbers[: buckets - 1]:
        total += _added(program.targets[number], held)
        if budget is not None and total > budget:
            break
        kept.add(number)
    return kept


def _added(target: Target, held: set[bytes]) -> int:
    """Bytes of the binaries and weights that are not yet ``held``, which then are."""
    total = 0
    for part in (target.constants, *(unit.binary for unit in target.units)):
        if part is not None and (digest := hashlib.sha256(part).digest()) not in held:
            held.add(digest)
            total += len(part)
    return total


def _key(program: Program, target: Target) -> tuple[Signature, Bucket | None]:
    """What there is one part for."""
    return target.signature, target.bucket if program.inputs else None


def extract(program: Program, which: Sequence[str]) -> Program:
    """Only the targets that ``which`` names: by number, from 1, or by a part of device, platform, driver or bucket.

    Raises:
        ProgramError: a name fits no target; the message lists those that there are.
    """
    chosen: set[int] = set()
    for name in which:
        found = [n for n, target in enumerate(program.targets) if _fits(name, n, target, program)]
        if not found:
            there = "; ".join(f"{n + 1}: {_title(target, program)}" for n, target in enumerate(program.targets))
            raise ProgramError(f"no target is called {name!r}; there are {there}.")
        chosen.update(found)
    if not chosen:
        raise ProgramError("no target is named; name at least one.")
    return replace(program, targets=tuple(program.targets[n] for n in sorted(chosen)))


def strip(program: Program, *, constants: bool = False, binaries: bool = False) -> Program:
    """Without the weights (the file then needs the model) or the drivers' binaries (built at the start).

    Sources always stay: they are what makes a file work under a driver that it has never met.
    """
    return replace(program, targets=tuple(_stripped(target, constants, binaries) for target in program.targets))


@dataclass(frozen=True)
class Change:
    """One thing that differs: what it is called, and its values in the first and the second program."""

    name: str
    first: str
    second: str


@dataclass(frozen=True)
class TargetDifference:
    """How the parts for one device differ; kernels are named.

    ``removed`` kernels are only in the first program, ``added`` ones only in the second; the others
    have another source or other parameters.  ``binaries`` names kernels whose source and parameters
    are equal, but not the binary they are in.  ``changes`` are sizes, build options, weights and counts.
    """

    device: str
    removed: tuple[str, ...]
    added: tuple[str, ...]
    sources: tuple[str, ...]
    parameters: tuple[Change, ...]
    binaries: tuple[str, ...]
    changes: tuple[Change, ...]

    @property
    def empty(self) -> bool:
        return not any((self.removed, self.added, self.sources, self.parameters, self.binaries, self.changes))


@dataclass(frozen=True)
class Difference:
    """How two programs differ: producer, model and options; devices in one only; the targets in both.

    ``targets`` holds those that differ.
    """

    changes: tuple[Change, ...]
    removed: tuple[str, ...]
    added: tuple[str, ...]
    targets: tuple[TargetDifference, ...]

    @property
    def empty(self) -> bool:
        return not any((self.changes, self.removed, self.added, self.targets))


def diff(first: Program, second: Program) -> Difference:
    """Compares what two programs hold, whatever the order of their targets."""
    whole = [_header(first), _header(second)]
    there = {_key(second, target): target for target in second.targets}
    here = {_key(first, target): target for target in first.targets}
    pairs = [(target, there[key]) for key, target in here.items() if key in there]
    return Difference(
        changes=_changes(whole[0], whole[1]),
        removed=tuple(_title(target, first) for key, target in here.items() if key not in there),
        added=tuple(_title(target, second) for key, target in there.items() if key not in here),
        targets=tuple(found for one, other in pairs if not (found := _compared(one, other, first)).empty),
    )


def _united(old: Target, new: Target) -> Target:
    if old.schedule != new.schedule:
        return new
    units = new.units
    if any(unit.binary is None for unit in new.units) and all(unit.binary is not None for unit in old.units):
        units = old.units
    return replace(new, units=units, constants=new.constants if new.constants is not None else old.constants)


def _stripped(target: Target, constants: bool, binaries: bool) -> Target:
    units = tuple(replace(unit, binary=None) for unit in target.units) if binaries else target.units
    return replace(
        target, units=units, constants=None if constants and target.schedule.constant_bytes else target.constants
    )


def _fits(name: str, number: int, target: Target, program: Program) -> bool:
    if name.isdecimal():
        return int(name) == number + 1
    signature = target.signature
    texts = [signature.device, signature.platform, signature.driver, *([str(target.bucket)] if program.inputs else ())]
    return any(name.lower() in text.lower() for text in texts)


def _title(target: Target, program: Program) -> str:
    signature, bucket = target.signature, f", {target.bucket}" if program.inputs else ""
    return f"{signature.device} ({signature.platform}, driver {signature.driver}{bucket})"


def _pairs(program: Program) -> str:
    return ", ".join(f"{name}={value}" for name, value in program.options) or "none"


def _header(program: Program) -> dict[str, str]:
    return {
        "producer": program.producer,
        "engine": program.engine,
        "model": f"{program.model.name}, sha256 {program.model.sha256}",
        **{f"option {name}": value for name, value in program.options},
        **{f"input {one.name}": f"{one}{', a parameter' if one.parameter else ''}" for one in program.inputs},
    }


def _changes(first: dict[str, str], second: dict[str, str]) -> tuple[Change, ...]:
    names = [*first, *(name for name in second if name not in first)]
    values = [Change(name, first.get(name, "absent"), second.get(name, "absent")) for name in names]
    return tuple(change for change in values if change.first != change.second)


def _compared(first: Target, second: Target, program: Program) -> TargetDifference:
    one, other = _kernels(first), _kernels(second)
    both = [name for name in one if name in other]
    sources = tuple(name for name in both if one[name][0].source != other[name][0].source)
    parameters = tuple(
        Change(name, _parameters(one[name][0]), _parameters(other[name][0]))
        for name in both
        if one[name][0].parameters != other[name][0].parameters
    )
    altered = {*sources, *(change.name for change in parameters)}
    return TargetDifference(
        device=_title(first, program),
        removed=tuple(name for name in one if name not in other),
        added=tuple(name for name in other if name not in one),
        sources=sources,
        parameters=parameters,
        binaries=tuple(name for name in both if name not in altered and one[name][1] != other[name][1]),
        changes=_changes(_facts(first), _facts(second)),
    )


def _kernels(target: Target) -> dict[str, tuple[Kernel, bytes | memoryview | None]]:
    """Each kernel with the binary it is in, by name; equal names, if there are any, are numbered."""
    binary = {kernel: unit.binary for unit in target.units for kernel in unit.kernels}
    seen: Counter[str] = Counter()
    found = {}
    for number, kernel in enumerate(target.schedule.kernels):
        seen[kernel.name] += 1
        name = kernel.name if seen[kernel.name] == 1 else f"{kernel.name} #{seen[kernel.name]}"
        found[name] = (kernel, binary[number])
    return found


def _parameters(kernel: Kernel) -> str:
    return ", ".join(f"{name}={value}" for name, value in kernel.parameters) or "none"


def _facts(target: Target) -> dict[str, str]:
    schedule = target.schedule
    binaries = [unit.binary for unit in target.units if unit.binary is not None]
    launches = hashlib.sha256(repr((schedule.inputs, schedule.outputs, schedule.launches)).encode()).hexdigest()
    return {
        "build options": schedule.build_options,
        "launches": f"{len(schedule.launches)} ({launches[:12]})",
        "arena bytes": str(schedule.arena_bytes),
        "source bytes": str(sum(len(source.encode()) for source in {kernel.source for kernel in schedule.kernels})),
        "units": f"{len(target.units)}, {len(binaries)} with a binary of {sum(map(len, binaries))} bytes",
        "weights": "outside"
        if target.constants is None
        else f"{target.constants.nbytes} bytes ({hashlib.sha256(target.constants).hexdigest()[:12]})",
        **{f"provenance {name}": value for name, value in target.provenance},
    }
