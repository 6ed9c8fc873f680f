"""Tuning records: one line of JSON for each candidate that was measured, only ever appended.

The last line with the verdict ``best`` for a problem, a device and the kernel's present text is what is
used there.  Elsewhere the ladder goes on: the same architecture, the same vendor, and then the rule.
Parameters from a record never reach a kernel unless they lie in its space on the device at hand.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from mace_cl.device.device import Device
from mace_cl.errors import InputError, StorageError
from mace_cl.plan import Traits
from mace_cl.tune.space import Space, digest, legal, read_problem, read_traits, shape

__all__ = [
    "RUNGS", "VERDICTS", "Place", "Record", "Records", "described", "key_of", "parse", "place_of", "read_strictly",
    "records_path", "rung_of",
]  # fmt: skip

logger = logging.getLogger("mace_cl")

FORMAT = 2
RUNGS = ("device", "architecture", "vendor", "default")
"""Where parameters come from, the best first; ``default`` is the kernel's rule."""

VERDICTS = ("best", "slower", "noise", "wrong", "refused", "died", "late")
"""What became of a candidate: ``noise`` may be faster, but by less than what was measured by chance; ``wrong``
gave another answer; ``refused``, ``died`` and ``late`` are the compiler's."""

_MOST_BYTES = 1 << 26
_MOST_LINE = 1 << 18
_MOST_TEXT = 256


@dataclass(frozen=True)
class Place:
    """A device as the ladder sees it; ``architecture`` and ``vendor`` are those of many."""

    vendor: str
    name: str
    driver: str
    platform: str
    architecture: str


def place_of(device: Device) -> Place:
    """The place of a device; CPUs of one vector width are an architecture, and each model of a GPU is one."""
    wide = f"cpu, {device.vector_width} floats wide"
    architecture = wide if device.kind == "cpu" else device.name
    return Place(device.vendor, device.name, device.driver, device.platform_version, architecture)


@dataclass(frozen=True)
class Record:
    """A candidate that was measured.

    ``problem`` is the shape as JSON text, ``parameters`` are sorted.  ``seconds`` and ``against`` are medians
    of the candidate's and of the incumbent's time over ``pairs`` of runs in turns, ``ratio`` the median of
    their quotients and ``noise`` the uncertainty of that; all are 0 where nothing was timed.  ``kernels`` is
    the fingerprint of the code that wrote the kernel, ``date`` a day.
    """

    place: Place
    traits: Traits
    family: str
    problem: str
    parameters: tuple[tuple[str, int], ...]
    verdict: str
    kernels: str
    seconds: float = 0.0
    against: float = 0.0
    ratio: float = 0.0
    noise: float = 0.0
    pairs: int = 0
    date: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """What it is about."""
        return self.family, self.problem

    def line(self) -> str:
        """The line of JSON."""
        said = asdict(self)
        said["problem"] = json.loads(self.problem)
        said["parameters"] = dict(self.parameters)
        for name in ("seconds", "against", "ratio", "noise"):
            said[name] = float(f"{said[name]:.5g}")
        return json.dumps({"format": FORMAT, **said}, ensure_ascii=True)


def key_of(problem: Space) -> tuple[str, str]:
    """`Record.key` for a problem."""
    return problem.family, json.dumps(shape(problem), sort_keys=True)


def parse(line: str, *, thorough: bool = True) -> Record:
    """The record of a line, which may come from anywhere.

    Without ``thorough`` it is not yet asked whether the problem exists and its space holds the parameters.

    Raises:
        ValueError: it is none that this version could have written.
    """
    if len(line) > _MOST_LINE:
        raise ValueError(f"has {len(line)} characters, more than {_MOST_LINE}")
    said = json.loads(line, parse_constant=_no_constant)
    names = {field.name for field in fields(Record)}
    if not isinstance(said, dict) or said.pop("format", None) != FORMAT or set(said) != names:
        raise ValueError(f"is no record of format {FORMAT}: that has the fields format, {', '.join(sorted(names))}")
    place = said["place"]
    if not isinstance(place, dict) or set(place) != {field.name for field in fields(Place)}:
        raise ValueError("place: needs the fields " + ", ".join(field.name for field in fields(Place)))
    for name, text in (*place.items(), *((name, said[name]) for name in ("family", "verdict", "kernels", "date"))):
        if not isinstance(text, str) or len(text) > _MOST_TEXT or not text.isprintable():
            raise ValueError(f"{name}: is no text of at most {_MOST_TEXT} printable characters")
    if said["verdict"] not in VERDICTS:
        raise ValueError(f"verdict: {said['verdict']!r} is not one of {', '.join(VERDICTS)}")
    for name in ("seconds", "against", "ratio", "noise"):
        if not isinstance(said[name], (int, float)) or isinstance(said[name], bool) or not 0 <= said[name] < 1e9:
            raise ValueError(f"{name}: {said[name]!r} is no number in range")
    if type(said["pairs"]) is not int or not 0 <= said["pairs"] < 1 << 31:
        raise ValueError(f"pairs: {said['pairs']!r} is no count")
    parameters = said["parameters"]
    if not isinstance(parameters, dict) or any(type(value) is not int for value in parameters.values()):
        raise ValueError("parameters: are no whole numbers by name")
    traits = read_traits(said["traits"])
    if thorough:
        problem = read_problem(said["family"], said["problem"])
        try:
            fits = legal(problem, parameters, traits) is not None
        except (ArithmeticError, LookupError, TypeError) as error:
            raise ValueError(f"problem: no kernel can compute it ({error!r})") from error
        if not fits:
            raise ValueError(f"parameters: {parameters} lie outside the space of this problem")
    return Record(
        **{
            **said,
            "place": Place(**place), "traits": traits, "problem": json.dumps(said["problem"], sort_keys=True),
            "parameters": tuple(sorted(parameters.items())),
        }
    )  # fmt: skip


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def records_path(store_dir: Path) -> Path:
    """Where the user's records are."""
    return store_dir / "tuning.jsonl"


class Records:
    """The records of a file, which need not be there; without a path they last as long as the object."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._all: list[Record] = []
        self._best: dict[tuple[str, str], list[Record]] = {}
        for record in _read(path) if path is not None else ():
            self._hold(record)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def _hold(self, record: Record) -> None:
        self._all.append(record)
        if record.verdict == "best":
            self._best.setdefault(record.key, []).append(record)

    def add(self, *records: Record) -> None:
        """Append to the file, and have it on the disk before this returns.

        Raises:
            StorageError: that can't be done.
        """
        for record in records:
            self._hold(record)
        if self.path is None or not records:
            return
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self.path.open("a+b", buffering=0) as file:
                # what a killed process left of a line stays alone on it
                torn = file.seek(0, os.SEEK_END) > 0 and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n"
                text = "".join(record.line() + "\n" for record in records)
                file.write((b"\n" if torn else b"") + text.encode("ascii"))
                os.fsync(file.fileno())
        except OSError as error:
            raise StorageError(
                f"{self.path}: tuning records can't be written ({error.strerror or error}). "
                "Name another directory for the store (MACE_CL_STORE_DIR), or go without (--no-store)"
            ) from error

    def find(self, problem: Space, traits: Traits, place: Place) -> tuple[dict[str, int], str] | None:
        """The best parameters known for a problem at a place, and their rung of the ladder; None: go by the rule."""
        candidates = self._best.get(key_of(problem), []) if self._best else []
        for rung in RUNGS[:-1]:
            for record in reversed(candidates):
                if rung_of(record.place, place) == rung and record.kernels == digest(problem.family):
                    parameters = legal(problem, dict(record.parameters), traits)
                    if parameters is not None:
                        return parameters, rung
        return None

    def tried(self, problem: Space, place: Place) -> dict[tuple[tuple[str, int], ...], Record]:
        """What was measured of a problem on this very device, by its parameters."""
        key, kernels = key_of(problem), digest(problem.family)
        return {
            record.parameters: record
            for record in self._all
            if record.key == key and record.kernels == kernels and record.place == place
        }

    def best(self) -> list[Record]:
        """The records that count, one for each place, problem and text of the kernels."""
        found = {(one.place, one.key, one.kernels): one for bests in self._best.values() for one in bests}
        return list(found.values())


def rung_of(theirs: Place, ours: Place) -> str:
    """The rung of `RUNGS` on which a record made at one place serves another."""
    if theirs == ours:
        return "device"
    if theirs.architecture == ours.architecture:
        return "architecture"
    return "vendor" if theirs.vendor == ours.vendor else "default"


def _read(path: Path) -> list[Record]:
    """What can be read; lines that can't are counted in a warning, but for a last one that was cut short."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            logger.warning("%s is larger than %d bytes and is not used; remove it.", path, _MOST_BYTES)
            return []
        text = path.read_bytes().decode("ascii", "replace")
    except (FileNotFoundError, NotADirectoryError):  # what has the store's place is told when a program is kept
        return []
    except OSError as error:
        logger.warning("%s: the tuning records can't be read (%s); parameters go by rule.", path, error.strerror)
        return []
    records, bad = [], []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                records.append(parse(line, thorough=False))
            except (ValueError, RecursionError) as error:
                bad.append((number, error))
    if bad and not (len(bad) == 1 and not text.endswith("\n")):
        number, first = bad[0]
        logger.warning(
            "%s: %d of its lines are no tuning records and are left out; the first is line %d: %s",
            path, len(bad), number, first,
        )  # fmt: skip
    return records


def read_strictly(path: Path) -> list[Record]:
    """All records of a file that somebody else may have made.

    Raises:
        StorageError: it can't be read.
        InputError: it holds anything else.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise StorageError(f"{path}: can't be read ({error.strerror}); check the path") from error
    if len(content) > _MOST_BYTES:
        raise InputError(f"{path}: is larger than {_MOST_BYTES} bytes, which no file of tuning records is")
    records = []
    for number, line in enumerate(content.decode("ascii", "replace").splitlines(), 1):
        try:
            records.append(parse(line))
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"{path}, line {number}: {error}. Nothing of the file was taken; `mace-cl tune export` makes such files"
            ) from error
    return records


def described(parameters: Mapping[str, int]) -> str:
    """Parameters in a few words."""
    return " ".join(f"{name}={value}" for name, value in parameters.items())
